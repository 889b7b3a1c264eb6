"""Count StyleGAN2's parameters, and what every sharing makes of them, without building a weight.

python experiments/counts.py
"""

import torch
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

from gansharing.networks import Network, StyleGAN2Discriminator, StyleGAN2Generator
from gansharing.sharing import Affine, Full, LayerWise, LowRank, Miner, Sharing, StyleOffsets, WidthWise

BASES = {"E": 16384, "F": 32768}
TARGETS = ((64, "E"), (256, "E"), (256, "F"), (1024, "F"))
SHARINGS: dict[str, Sharing] = {
    "Full": Full(),
    "WidthWise 1 %": WidthWise(0.01),
    "WidthWise 1 %, min_columns 1": WidthWise(0.01, min_columns=1),
    "WidthWise 1 %, one_d domain": WidthWise(0.01, one_d="domain"),
    "WidthWise 5 %": WidthWise(0.05),
    "WidthWise 10 %": WidthWise(0.1),
    "WidthWise 10 %, one_d domain": WidthWise(0.1, one_d="domain"),
    "WidthWise 50 %": WidthWise(0.5),
    "LayerWise, the paper's 1 %": LayerWise(["fc0", "fc1"]),
    "LayerWise, the paper's 10 %": LayerWise(["fc0", "fc1", "fc2", "fc3", "b4.conv1"]),
    "Miner": Miner(),
    "Affine": Affine(),
    "StyleOffsets": StyleOffsets(),
    "LowRank 4, convolutions": LowRank(4, include=["*.conv?.weight"]),
    "LowRank 4": LowRank(4),
    "LowRank 8, convolutions": LowRank(8, include=["*.conv?.weight"]),
    "LowRank 8": LowRank(8),
}


def size(network: Network) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def networks_table() -> Table:
    """Parameters of generator and discriminator by resolution and configuration."""
    table = Table("px", "styles", "G E", "D E", "G F", "D F", title="StyleGAN2, 8 mapping layers")
    for resolution in (32, 64, 128, 256, 512, 1024):
        cells = []
        for base in BASES.values():
            generator = StyleGAN2Generator(resolution, channel_base=base)
            cells += [size(generator), size(StyleGAN2Discriminator(resolution, channel_base=base))]
        table.add_row(str(resolution), str(generator.num_ws), *(f"{cell:,}" for cell in cells))
    return table


def sharings_table() -> Table:
    """What a domain owns under every sharing: numbers, and their share of all parameters."""
    table = Table("sharing", *(f"{px} {name}" for px, name in TARGETS), title="θ_D and λ_D")
    for name, sharing in SHARINGS.items():
        cells = []
        for resolution, base in TARGETS:
            split = sharing.apply(StyleGAN2Generator(resolution, channel_base=BASES[base]))
            cells.append(f"{split.domain_size:,} {split.learn_ratio:.4%}")
        table.add_row(name, *cells)
    return table


def counts() -> None:
    """Print both tables."""
    with torch.device("meta"):
        Console(width=130).print(networks_table(), sharings_table())


if __name__ == "__main__":
    auto_cli(counts, as_positional=False)
