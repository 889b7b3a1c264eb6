"""GP-GAN against recorded outputs of the original, its parameter counts, and whole training steps."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gansharing.errors import UserError
from gansharing.networks import GPGANDiscriminator, GPGANGenerator, Network
from gansharing.objectives import R1, BinaryCrossEntropy
from gansharing.sharing import FreezeLower
from tests.golden.fill import recorded
from tests.golden.gpgan import arrays, network, original

# Parameters of the groups 8 to 1 of the original at 128 px with 1,000 classes, and of the same without.
GENERATOR = [256_000 + 8_404_992, *[37_752_832] * 2, 12_322_816, 3_081_216, 770_560, 192_768, 1_731]
DISCRIMINATOR = [1_792, 192_832, 770_688, 3_081_472, 12_323_328, *[37_752_832] * 2, 16_385_000]


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def close(actual: Tensor, expected: Tensor, limit: float = 1e-5) -> None:
    """Within ``limit`` of the largest entry."""
    atol = limit * expected.abs().max().item()
    torch.testing.assert_close(actual.detach(), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("name", ["gpgan_g", "gpgan_resnet_g", "gpgan_resnet4_g"])
def test_images_are_the_originals(name: str, tmp_path: Path) -> None:
    golden, g = arrays("gpgan", name), network(tmp_path, original(name))
    with torch.no_grad():
        close(g(golden["in_z"], golden["in_y"])[..., ::3, ::3], golden["out_out"])
        if "in_y_embed" in golden:
            embedded = g(golden["in_z"], golden["in_y_embed"])
            close(embedded[..., ::3, ::3], golden["out_out_float_y"])
        if g.embedding is None:
            assert torch.equal(g(golden["in_z"]), g(golden["in_z"], golden["in_y"]))


@pytest.mark.parametrize("name", ["gpgan_d", "gpgan_resnet_d"])
def test_scores_losses_and_gradients_are_the_originals(name: str, tmp_path: Path) -> None:
    images = arrays("gpgan_discriminator", "gpgan_d")
    golden, d = arrays("gpgan_discriminator", name), network(tmp_path, original(name))
    real, fake = d(images["in_x_real"], golden["in_y_real"]), d(images["in_x_fake"], golden["in_y_fake"])
    close(real, golden["out_logit_real"])
    close(fake, golden["out_logit_fake"])
    close(d.logits(images["in_x_real"]), golden["out_all_logits_real"])

    loss = BinaryCrossEntropy()
    close(loss.real(real), golden["out_loss_real"])
    close(loss.fake(fake), golden["out_loss_fake"])
    # The original's penalty lacks the factor 1/2: its weight 10 is gamma 20.
    penalty = R1(20.0, every=1)(lambda x: d(x, golden["in_y_real"]), images["in_x_real"], images["in_x_fake"])
    close(penalty, golden["out_reg"])
    close(gradient_norms(d, loss.discriminator(real, fake)), golden["out_grad_norms_loss"])
    close(gradient_norms(d, penalty), golden["out_grad_norms_reg"])


def gradient_norms(net: Network, loss: Tensor) -> Tensor:
    gradients = torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)
    return torch.stack([torch.zeros(()) if g is None else g.norm() for g in gradients])


def test_groups_have_the_originals_parameters() -> None:
    with torch.device("meta"):
        g, d = GPGANGenerator(num_classes=1000), GPGANDiscriminator(num_classes=1000)
        assert [count(stage) for stage in g.stages().values()] == GENERATOR
        assert [count(stage) for stage in d.stages().values()] == DISCRIMINATOR
        assert (count(g), count(d)) == (100_535_747, 108_260_776)
        assert count(GPGANDiscriminator()) == 91_892_161
        celeba = GPGANGenerator(256, variant="resnet4")
        assert count(celeba) == 62_710_980 - 10_549_248 - 1  # GAN Memory's, without gamma and beta
        assert count(GPGANDiscriminator(256, variant="resnet4")) == 58_453_121 - 10_501_056


def test_groups_are_frozen_as_in_the_originals_code() -> None:
    # GmDn trains all but the m groups nearest the image: parameters at latents of 64 and of 256, and of D.
    g64 = {2: 92_761_600, 4: 88_909_824, 5: 76_587_008, 6: 38_834_176}
    g256 = {4: 92_055_552, 5: 79_732_736}  # the paper's 79.7 M
    d = [91_892_161, 91_890_369, 91_697_537, 90_926_849, 87_845_377, 75_522_049, 37_769_217, 16_385]
    with torch.device("meta"):
        for latent_dim, expected in ((64, g64), (256, g256)):
            for m, trained in expected.items():
                assert FreezeLower(m).apply(GPGANGenerator(latent_dim=latent_dim)).domain_size == trained
        for n, trained in enumerate(d):
            assert FreezeLower(n).apply(GPGANDiscriminator()).domain_size == trained


@pytest.mark.parametrize("variant", ["resnet2", "resnet", "resnet4"])
@pytest.mark.parametrize("resolution", [64, 128])
@pytest.mark.parametrize("classes", [0, 3])
def test_every_size_makes_and_scores_images(variant: Any, resolution: int, classes: int) -> None:
    g = GPGANGenerator(resolution, 4, classes, base_channels=1, channel_max=2, variant=variant)
    d = GPGANDiscriminator(resolution, classes, base_channels=1, channel_max=2, variant=variant)
    labels = torch.tensor([2, 0]) if classes else None
    images = g(g.sample_latent(2), labels)
    assert images.shape == (2, 3, resolution, resolution)
    assert images.abs().max() <= 1
    assert d(images, labels).shape == (2,)
    assert max(p.shape[0] for name, p in g.named_parameters() if "conv_0" in name) == 2
    for net in (g, d):
        staged = [id(p) for stage in net.stages().values() for p in stage.parameters()]
        assert sorted(staged) == sorted(id(p) for p in net.parameters())
    assert (list(g.stages())[0], list(g.stages())[-1]) == ("fc", "conv_img")
    assert (list(d.stages())[0], list(d.stages())[-1]) == ("conv_img", "fc")


def test_what_cannot_be_built_or_called_says_why() -> None:
    for make, message in (
        (lambda: GPGANGenerator(48), "32, 64, 128"),
        (lambda: GPGANGenerator(32, variant="resnet4"), "use one of 64"),
        (lambda: GPGANDiscriminator(variant="resnet9"), "resnet2, resnet or resnet4"),  # type: ignore[arg-type]
        (lambda: GPGANDiscriminator(base_channels=0), "base_channels is 0"),
    ):
        with pytest.raises(UserError, match=message):
            make()
    g = GPGANGenerator(32, 4, num_classes=3, embed_dim=2, base_channels=1)
    with pytest.raises(UserError, match="3 classes"):
        g(g.sample_latent(2))
    with pytest.raises(UserError, match=r"\(2, 2\), or class indices"):
        g(g.sample_latent(2), torch.zeros(2, 3))
    with pytest.raises(UserError, match="3 classes"):
        GPGANDiscriminator(32, 3, base_channels=1)(torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize(
    ("name", "frozen", "optimizer"),
    [
        ("g4d2", (4, 2), lambda p: torch.optim.Adam(p, lr=1e-3, betas=(0.0, 0.99))),
        ("g2d4", (2, 4), lambda p: torch.optim.RMSprop(p, lr=1e-4, alpha=0.99, eps=1e-8)),
    ],
)
def test_three_steps_of_a_transfer_are_the_originals(
    name: str, frozen: tuple[int, int], optimizer: Any, tmp_path: Path
) -> None:
    inputs, golden = recorded("transfer_step"), arrays("transfer_step", name)
    state = {part: original("transfer_step", f"{part}.") for part in ("generator", "discriminator")}
    g, d = (network(tmp_path, state[part]).train() for part in state)
    splits = FreezeLower(frozen[0]).apply(g), FreezeLower(frozen[1]).apply(d)
    for split in splits:
        split.freeze_shared()
    average, loss, penalty = copy.deepcopy(g), BinaryCrossEntropy(), R1(20.0, every=1)
    of_g, of_d = (optimizer(split.domain.values()) for split in splits)
    for step in range(3):
        fake, real = g(inputs["in_z"][step]), inputs["in_x_real"][step]
        of_g.zero_grad()
        g_loss = loss.generator(d(fake))
        g_loss.backward()
        of_g.step()
        with torch.no_grad():
            for mean, now in zip(average.parameters(), g.parameters(), strict=True):
                mean.lerp_(now, 0.1)
        of_d.zero_grad()
        fake = fake.detach()
        d_loss = loss.discriminator(d(real), d(fake))
        reg = penalty(d, real, fake)
        (d_loss + reg).backward()
        of_d.step()
        for value, key in ((g_loss, "out_g_loss"), (d_loss, "out_d_loss"), (reg, "out_reg")):
            assert value.item() == pytest.approx(golden[key][step].item(), rel=1e-4), (key, step)
    with torch.no_grad():
        image = g(inputs["in_z_test"])
        close(image[..., ::4, ::4], golden["out_image"], 1e-3)
        close(d(inputs["in_x_real"][0]), golden["out_d_logit"], 1e-3)
        close(average(inputs["in_z_test"])[..., ::4, ::4], golden["out_ema_image"], 1e-3)
    moved = [
        not torch.equal(now.reshape(before.shape), before)
        for net, part in ((g, "generator"), (d, "discriminator"))
        for now, before in zip(
            ([net.constant] if part == "generator" else []) + list(net.parameters()),
            state[part].values(),
            strict=True,
        )
    ]
    assert torch.equal(torch.tensor(moved).float(), golden["out_changed"])


def test_small_networks_can_begin_at_4_px_as_the_published_one_does() -> None:
    g = GPGANGenerator(32, 6, base_channels=2, coarsest=4)
    d = GPGANDiscriminator(32, base_channels=2, coarsest=4)
    sizes: dict[str, int] = {}
    for name, block in [*g.named_children(), *d.named_children()]:
        if name.startswith("resnet_") and name.endswith("_0"):
            block.register_forward_pre_hook(lambda _, args, key=name: sizes.update({key: args[0].shape[-1]}))
    images = g(torch.randn(2, 6))
    assert images.shape == (2, 3, 32, 32)
    assert sizes == {f"resnet_{group}_0": size for group, size in enumerate((4, 4, 4, 8, 16, 32))}
    assert d(images).shape == (2,)
    assert sizes == {f"resnet_{group}_0": size for group, size in enumerate((32, 16, 8, 4, 4, 4))}
    # 16 places of 32 channels in the place of one; nothing else is another
    plain = GPGANGenerator(32, 6, base_channels=2), GPGANDiscriminator(32, base_channels=2)
    assert count(g) - count(plain[0]) == 15 * 32 * (6 + 1 + 1)
    assert count(d) - count(plain[1]) == 15 * 32
    at_128 = GPGANGenerator(128, 6, base_channels=2, coarsest=4)
    assert at_128.plan == GPGANGenerator(128, 6, base_channels=2).plan


@pytest.mark.parametrize("coarsest", [0, 3, 64])
def test_the_coarsest_size_is_a_power_of_two_up_to_the_image(coarsest: int) -> None:
    with pytest.raises(UserError, match=f"coarsest is {coarsest}; at 32 px"):
        GPGANGenerator(32, coarsest=coarsest)
