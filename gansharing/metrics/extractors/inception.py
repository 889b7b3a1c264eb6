"""The Inception-v3 of 2015 behind every published FID, as torch-fidelity keeps it."""

import io
from pathlib import Path

import torch
from torch import Tensor, nn

from gansharing.metrics.extractors.base import FeatureExtractor, Features, Resize
from gansharing.metrics.extractors.weights import hub_file, mismatch, read_state


class InceptionExtractor(FeatureExtractor):
    """torch-fidelity's TensorFlow-compatible Inception-v3, 2048 features, 1008 unbiased logits.

    Its scores carry no suffix: with the original weights they are the FID, KID and IS of papers.
    """

    name = "inception"
    suffix = ""
    input_size = 299
    num_features = 2048
    num_logits = 1008

    def __init__(self, weights: str | Path | None = None, resize: Resize = "clean") -> None:
        """Build the network.

        Args:
            weights: a file with its state dict; None takes torch hub's cache, or downloads into it.
            resize: "clean" or "legacy", see ``base.resized``.

        Raises:
            UserError: if the weights are not there and cannot be had, are damaged, or belong to another
                network.
        """
        super().__init__(resize)
        path = published_weights() if weights is None else Path(weights)
        self.network = _network(read_state(path), path)
        self.freeze()

    def embed(self, pixels: Tensor) -> Features:
        """See ``FeatureExtractor``."""
        hidden = (pixels - 128) / 128
        # The children stand in the order of the forward pass; the classifier is the last.
        for name, layer in self.network.named_children():
            if name != "fc":
                hidden = layer(hidden)
        features = hidden.flatten(1)
        # The Inception score of the original leaves the classifier's bias out.
        return Features(features, features @ self.network.get_parameter("fc.weight").T)


def _network(state: dict[str, Tensor], path: Path) -> nn.Module:
    """torch-fidelity's module around a state dict that was read tensors-only."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    # The constructor unpickles whatever file it is given: it gets bytes that were written right here.
    verified = io.BytesIO()
    torch.save(state, verified)
    verified.seek(0)
    try:
        with torch.random.fork_rng(devices=[]):
            network: nn.Module = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], verified)
    except RuntimeError as error:
        raise mismatch(path, "torch-fidelity's Inception-v3", error) from error
    return network


def published_weights() -> Path:
    """The original weights in torch hub's folder, downloaded if they are not there yet.

    Raises:
        UserError: if they can be neither found nor downloaded, or the file there is damaged.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    return hub_file(
        URL_INCEPTION_V3, "extractor inception", "torch-fidelity's", "the embedded extractor: lite"
    )
