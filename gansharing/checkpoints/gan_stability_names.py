"""How GAN_stability, Zhao et al. and GAN Memory name the tensors of the networks here."""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor

from gansharing.networks import GPGANDiscriminator, GPGANGenerator, Network, SmallHeadGenerator

_CHAIN = re.compile(r"(.+)\.parametrizations\.(weight|bias)\.original([012])")
_SMALL_HEAD: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    (re.compile(r"^(style_\d\.conv_1)\."), r"\1.conv."),
    (re.compile(r"^(style_\d\.adain_\d\.style)\."), r"\1.linear."),
    (re.compile(r"^style_0\."), "small_net_2."),
    (re.compile(r"^style_1\."), "small_net_3."),
    (re.compile(r"^gain\."), "small_H."),
    (re.compile(r"^fc\."), "small_fc."),
    (re.compile(r"^embedding$"), "small_embedding.weight"),
    (re.compile(r"^mapping\.fc(\d+)\."), lambda match: f"small_style.{2 * int(match[1]) + 1}.linear."),
]


class Entry(NamedTuple):
    """A tensor in both worlds.

    Attributes:
        own: Its name here.
        name: Its name there.
        shape: Its shape there; the numbers come in the same order.
    """

    own: str
    name: str
    shape: tuple[int, ...]


def entries(network: Network) -> list[Entry]:
    """The tensors of ``network`` that the originals have too.

    They lack the small head's constant noise, and parts of other sharings than AdaFM.
    """
    found = []
    for own, tensor in network.state_dict().items():
        shape = tuple(tensor.shape)
        chained = _CHAIN.fullmatch(own)
        if chained and chained[3] != "0":
            there = _modulation(chained, shape, isinstance(network, SmallHeadGenerator))
        else:
            plain = f"{chained[1]}.{chained[2]}" if chained else own
            there = None if ".parametrizations." in plain else _named(network, plain, shape)
        if there is not None:
            found.append(Entry(own, *there))
    return found


def _modulation(
    chained: re.Match[str], shape: tuple[int, ...], small: bool
) -> tuple[str, tuple[int, ...]] | None:
    layer, tensor, number = chained.groups()
    block, _, convolution = layer.rpartition(".")
    which = {"1": "gama", "2": "beta"}[number]
    if re.fullmatch(r"resnet_\d_\d\.conv_[01]", layer):
        index = convolution[-1]
        if tensor == "weight":
            return f"{block}.{'small_adafm' if small else 'AdaFM'}_{index}.style_{which}", shape
        return None if small else (f"{block}.AdaFM_b{index}", shape)
    if layer == "fc" and not small:
        if tensor == "bias":
            return "AdaFM_fc_b", shape
        return f"AdaFM_fc.{which.replace('gama', 'gamma')}", shape[::-1]
    return None


def _named(network: Network, name: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]] | None:
    if isinstance(network, SmallHeadGenerator):
        if name.endswith(".const"):
            return None
        # Weights a channel: there they have the dimensions of features.
        by_channel = re.fullmatch(r"style_\d\.noise_\d\.weight|gain\.(weight|beta)", name)
        for pattern, replacement in _SMALL_HEAD:
            name = pattern.sub(replacement, name)
        return name, (1, *shape, 1, 1) if by_channel else shape
    if name == "constant":
        return "embedding.weight", (1, *shape)
    assert isinstance(network, GPGANGenerator | GPGANDiscriminator)
    if network.config["init_args"]["variant"] == "resnet":
        name = re.sub(r"^resnet_(\d+)_0\.", lambda match: f"resnet.{2 * int(match[1])}.", name)
    return name, shape


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The names of gamma and beta before August 2020 become those since."""
    pattern = re.compile(r"\.small_style_adain_([01])\.style_(gama|beta)$")
    return {pattern.sub(r".small_adafm_\1.style_\2", name): tensor for name, tensor in state.items()}
