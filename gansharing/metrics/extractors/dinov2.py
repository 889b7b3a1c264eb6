"""DINOv2, the self-supervised vision transformer behind FD-DINOv2 (Stein et al. 2023)."""

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from gansharing.errors import UserError
from gansharing.metrics.extractors.base import FeatureExtractor, Features
from gansharing.metrics.extractors.weights import fill, read_state

# The four published sizes are told apart by their width.
_SIZES = {384: "small", 768: "base", 1024: "large", 1536: "giant"}
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class DinoExtractor(FeatureExtractor):
    """timm's DINOv2 without registers at 224 px: the normed class token, no logits (hence no IS).

    FD-DINOv2 of the literature uses ViT-L/14, which is downloaded where no weights are named.
    """

    name = "dinov2"
    suffix = "_dinov2"
    input_size = 224
    num_logits = 0

    def __init__(self, weights: str | Path | None = None) -> None:
        """Build the network of the size that the weights belong to.

        Args:
            weights: a state dict (timm's or the original's names), .safetensors or torch; None downloads
                ViT-L/14 through timm.

        Raises:
            UserError: if timm is missing, or the weights cannot be had or belong to another network.
        """
        super().__init__("clean")
        self.network = _downloaded() if weights is None else _from_file(weights)
        self.num_features = self.network.get_parameter("cls_token").shape[-1]
        self.freeze()

    def embed(self, pixels: Tensor) -> Features:
        """See ``FeatureExtractor``."""
        mean, std = (pixels.new_tensor(values).view(1, 3, 1, 1) * 255 for values in (_MEAN, _STD))
        return Features(self.network((pixels - mean) / std), None)


def _create(size: str, pretrained: bool) -> nn.Module:
    try:
        import timm
    except ImportError as error:
        raise UserError('extractor dinov2 needs timm: pip install "gansharing[dinov2]"') from error
    name = f"vit_{size}_patch14_dinov2.lvd142m"
    with torch.random.fork_rng(devices=[]):
        network: nn.Module = timm.create_model(
            name, pretrained=pretrained, num_classes=0, dynamic_img_size=True
        )
    return network


def _downloaded() -> nn.Module:
    try:
        return _create("large", pretrained=True)
    except UserError:
        raise
    except Exception as error:  # timm's hub raises a different class for each way of having no network
        raise UserError(
            f"extractor dinov2: its weights cannot be downloaded ({type(error).__name__}); name a file with "
            "weights, or use the embedded extractor: lite"
        ) from error


def _from_file(weights: str | Path) -> nn.Module:
    state = read_state(weights)
    token = state.get("cls_token")
    size = None if token is None else _SIZES.get(token.shape[-1])
    if size is None:
        raise UserError(f"weights: {weights} does not fit DINOv2: it has no class token of a published width")
    network = _create(size, pretrained=False)
    from timm.models.vision_transformer import checkpoint_filter_fn

    fill(network, checkpoint_filter_fn(state, cast(Any, network)), f"DINOv2 ViT-{size}", weights)
    return network
