"""Webster et al. 2022, Width-Wise Parameter Sharing for Multi-Domain GAN Learning."""

from collections.abc import Callable

import torch

from gansharing.networks import StyleGAN2Generator
from gansharing.sharing import Sharing, Split, WidthWise
from gansharing.tools.named import built
from papers.entry import Entry, config, not_derivable, setting, size

TITLE = "Width-wise sharing (2022)"
CONFIGURATIONS = {"E": 16384, "F": 32768}  # of StyleGAN2; the paper does not say which it used
FLOOR = "whole columns, ⌊λI⌋, and biases stay shared"
LAYERS = "the layers that the paper names; what it prints is nominal"


def stylegan2(configuration: str = "E") -> StyleGAN2Generator:
    """StyleGAN2 at 256 px, sizes alone."""
    with torch.device("meta"):
        return StyleGAN2Generator(256, channel_base=CONFIGURATIONS[configuration])


def from_file(name: str) -> Sharing:
    """The sharing of an experiment."""
    return built(setting("model.sharing", f"width_wise/{name}")())


def split(name: str, configuration: str = "E") -> Split:
    """StyleGAN2, divided as an experiment says."""
    return from_file(name).apply(stylegan2(configuration))


def ratio(name: str, configuration: str) -> Callable[[], float]:
    """λ_D of an experiment's sharing."""
    return lambda: split(name, configuration).learn_ratio


def ratios(name: str, where: str, paper: str, why: str = "") -> list[Entry]:
    """λ_D of an experiment's sharing in both configurations."""
    return [
        Entry(f"λ_D of {name}.yaml, configuration {c}", where, paper, ratio(name, c), why)
        for c in CONFIGURATIONS
    ]


def columns(name: str) -> int:
    """Input columns that a domain owns of a layer of the mapping, which has 512."""
    own = split(name).domain
    return next(weight.shape[1] for key, weight in own.items() if "fc1" in key and weight.ndim == 2)


def times_fewer() -> float:
    """How many times fewer parameters are trained than in a transfer of all."""
    return split("full").domain_size / split("width_10").domain_size


def stored_share() -> float:
    """What a domain adds on disk, over the whole generator's size."""
    one = split("width_10")
    return one.delta_bytes / (4 * size(stylegan2()))


def stages(name: str, kind: str) -> int:
    """How many stages of a kind a layer-wise experiment names."""
    return sum(stage.startswith(kind) for stage in setting("model.sharing.stages", f"width_wise/{name}")())


def owned_at_once() -> str:
    """What four domains hold in the generator that table_2.yaml trains, in units of |θ|."""
    game = "model.game.generator"
    network = built(setting(game, "multi_domain/table_2")())
    whole = size(network)
    one = built(setting("model.sharing", "multi_domain/table_2")()).apply(network)
    count = len(setting("model.domains", "multi_domain/table_2")())
    return f"{(count * one.domain_size + one.shared_size) / whole:.2f}"


def unchanged() -> float:
    """Largest difference that dividing a small generator makes to its images."""
    torch.manual_seed(0)
    network = StyleGAN2Generator(32, 32, w_dim=32, mapping_layers=2, channel_base=512, channel_max=32).eval()
    latent = torch.randn(4, 32)
    with torch.no_grad():
        before = network(latent)
        WidthWise(0.1).apply(network)
        return float((network(latent) - before).abs().max())


ENTRIES = [
    *ratios("full", "Table 1", "100 %"),
    *ratios("width_10", "Table 1", "10 %", FLOOR),
    *ratios("width_1", "Table 1", "1 %", FLOOR),
    *ratios("layer_10", "Table 1", "10 %", LAYERS),
    *ratios("layer_1", "Table 1", "1 %", LAYERS),
    *ratios("minegan", "Table 1", "≈ 1 %", "two layers of 512 beside the 8 of the mapping"),
    Entry(
        "layers of the mapping that are the domain's at 1 %",
        "section 3",
        "2",
        lambda: stages("layer_1", "fc"),
    ),
    Entry(
        "layers of the mapping that are the domain's at 10 %",
        "section 3",
        "4",
        lambda: stages("layer_10", "fc"),
    ),
    Entry(
        *("convolutional blocks that are the domain's at 10 %", "section 3", "1"),
        lambda: stages("layer_10", "b"),
        "the convolution of the 4 px block, without its toRGB",
    ),
    Entry("⌊0.1 · 512⌋ columns of a layer", "section 3", "51", lambda: columns("width_10")),
    Entry("⌊0.01 · 512⌋ columns of a layer", "section 3", "5", lambda: columns("width_1")),
    Entry(
        "times fewer trainable parameters",
        "abstract, Fig. 1",
        "10",
        times_fewer,
    ),
    Entry(
        *("share of a generator that a domain stores", "section 3", "10 %", stored_share),
        "λ_D and the average style",
    ),
    Entry(
        *("n |θ_D| + |θ_S| of 4 domains at 10 %, in |θ|", "section 4.1, the formula", "1.30", owned_at_once),
        "with the real λ_D of 9.94 %",
    ),
    Entry("change of the images by dividing a generator", "section 3", "0", unchanged),
    Entry(
        "domains trained at once",
        "Table 2",
        "4",
        lambda: len(config("multi_domain/table_2")["model"]["init_args"]["domains"]),
    ),
    Entry(
        "λ_D of the width-wise columns, nominal",
        "Table 2",
        "10 %",
        setting("model.sharing.learn_ratio", "multi_domain/table_2"),
    ),
    not_derivable("λ_D of StarGAN v2", "Table 2", "10 %", "the paper does not count which layers that is of"),
    not_derivable(
        "FID",
        "Tables 1, 2",
        "22.1, ...",
        "training on FFHQ, MetFaces, LSUN and CelebA-HQ, scored by Inception",
    ),
]
