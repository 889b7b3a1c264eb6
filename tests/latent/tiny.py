"""A StyleGAN2 small enough for tests, whose noise and mean style are not left at their initial zero."""

import torch

from gansharing.networks import StyleGAN2Generator


def tiny_stylegan2(num_classes: int = 0) -> StyleGAN2Generator:
    """32 px, 16 channels at most, in eval mode without gradients; always the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        generator = StyleGAN2Generator(
            resolution=32,
            latent_dim=16,
            w_dim=16,
            num_classes=num_classes,
            mapping_layers=2,
            channel_base=256,
            channel_max=16,
        )
        for name, parameter in generator.named_parameters():
            if name.endswith("noise_strength"):
                parameter.data.fill_(0.1)
        generator.mapping.w_avg.normal_()
    return generator.eval().requires_grad_(False)
