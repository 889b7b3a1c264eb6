"""Count the parameters of StyleGAN2, of every sharing on it, of SlimGAN and StarGAN v2; no weight is built.

python experiments/counts.py
"""

from collections.abc import Callable

import torch
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

from gansharing.networks import (
    Network,
    SNDCGANDiscriminator,
    SNDCGANGenerator,
    SNGANDiscriminator,
    SNGANGenerator,
    StarGANv2Discriminator,
    StarGANv2Generator,
    StarGANv2Mapping,
    StarGANv2StyleEncoder,
    StyleGAN2Discriminator,
    StyleGAN2Generator,
)
from gansharing.networks.sngan_layers import StagedDiscriminator
from gansharing.sharing import Affine, Full, LayerWise, LowRank, Miner, Sharing, StyleOffsets, WidthWise
from gansharing.slimmable import PerWidthDiscriminator, SlimmableGenerator
from gansharing.slimmable.costs import costs

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
SLIMMABLE: dict[str, Callable[[], SlimmableGenerator]] = {
    "SNGAN 32": lambda: SlimmableGenerator(SNGANGenerator(32)),
    "cGAN-pd 32, 10 classes": lambda: SlimmableGenerator(SNGANGenerator(32, num_classes=10)),
    "cGAN-pd 32, 100 classes": lambda: SlimmableGenerator(SNGANGenerator(32, num_classes=100)),
    "10 classes, naive": lambda: SlimmableGenerator(SNGANGenerator(32, num_classes=10), conditional="naive"),
    "100 classes, naive": lambda: SlimmableGenerator(
        SNGANGenerator(32, num_classes=100), conditional="naive"
    ),
    "SNGAN 48": lambda: SlimmableGenerator(SNGANGenerator(48)),
    "SNGAN 64": lambda: SlimmableGenerator(SNGANGenerator(64)),
    "SNDCGAN 32": lambda: SlimmableGenerator(SNDCGANGenerator(32)),
    "SNDCGAN 48": lambda: SlimmableGenerator(SNDCGANGenerator(48)),
    "SNDCGAN 64": lambda: SlimmableGenerator(SNDCGANGenerator(64)),
}
JUDGES: dict[str, Callable[[], StagedDiscriminator]] = {
    "SNGAN 32": lambda: SNGANDiscriminator(32),
    "cGAN-pd 32, 10 classes": lambda: SNGANDiscriminator(32, 10),
    "cGAN-pd 32, 100 classes": lambda: SNGANDiscriminator(32, 100),
    "SNGAN 48, 64": lambda: SNGANDiscriminator(64),
    "SNDCGAN 32": lambda: SNDCGANDiscriminator(32),
    "SNDCGAN 48": lambda: SNDCGANDiscriminator(48),
    "SNDCGAN 64": lambda: SNDCGANDiscriminator(64),
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


def widths_table() -> Table:
    """Parameters and million operations an image of every width, and what the slimmable generator holds."""
    title = "SlimGAN's generators: parameters that compute, MMACs"
    table = Table(
        "generator", *(f"{width:g}" for width in SLIMMABLE["SNGAN 32"]().widths), "held", title=title
    )
    for name, make in SLIMMABLE.items():
        slim = make()
        cells = [f"{cost.used:,} {cost.macs / 1e6:,.1f}" for cost in costs(slim)]
        table.add_row(name, *cells, f"{size(slim):,}")
    return table


def judges_table() -> Table:
    """Parameters of the discriminators of four widths by how many stages they share."""
    title = "SlimGAN's discriminators of four widths: parameters, and the most stages shared"
    table = Table("discriminator", "one", "n_share 0", "2", "all", "stages", title=title)
    for name, make in JUDGES.items():
        stages = len(make().stages()) - 1
        shared = [size(PerWidthDiscriminator(make(), n_share=n_share)) for n_share in (0, 2, stages)]
        table.add_row(name, *(f"{count:,}" for count in (size(make()), *shared)), str(stages))
    return table


def translation_table() -> Table:
    """Parameters of StarGAN v2's networks by the number of domains."""
    title = "StarGAN v2, 256 px"
    table = Table("domains", "G", "G, high-pass", "mapping", "style encoder", "D", title=title)
    for domains in (2, 3, 4):
        networks = (
            StarGANv2Generator(),
            StarGANv2Generator(high_pass=1.0),
            StarGANv2Mapping(num_domains=domains),
            StarGANv2StyleEncoder(num_domains=domains),
            StarGANv2Discriminator(num_domains=domains),
        )
        table.add_row(str(domains), *(f"{size(network):,}" for network in networks))
    return table


def counts() -> None:
    """Print all tables."""
    with torch.device("meta"):
        tables = networks_table(), sharings_table(), widths_table(), judges_table(), translation_table()
        Console(width=130).print(*tables)


if __name__ == "__main__":
    auto_cli(counts, as_positional=False)
