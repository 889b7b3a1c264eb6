"""Garg 2024, Parameter & Data Efficient Spectral Style-DCGAN."""

from torch import nn

from papers.entry import Entry, default_steps, network, not_derivable, setting, size

TITLE = "Spectral Style-DCGAN (2024)"
PAPER = "spectral_style/paper"
STYLEGAN = 47.625  # million parameters, as the paper's Table 1 counts them


def of(part: str, file: str = PAPER) -> int:
    """Parameters of a player."""
    return size(network(f"model.{part}", file))


def layers(part: str, kind: type[nn.Module], inside: str = "") -> int:
    """How many layers of a kind a player has."""
    modules = network(f"model.{part}", PAPER).named_modules()
    return sum(isinstance(module, kind) and name.startswith(inside) for name, module in modules)


def pair(file: str = PAPER) -> int:
    """Parameters of both players."""
    return of("generator", file) + of("discriminator", file)


def normalised() -> int:
    """Spectrally normalised layers of the discriminator."""
    modules = network("model.discriminator", PAPER).modules()
    return sum(hasattr(module, "parametrizations") for module in modules)


def fewer() -> float:
    """By how much StyleGAN's parameters exceed those of both players, in thousands of both."""
    return STYLEGAN / (pair() // 1000 / 1000) - 1


def optimiser(player: str, name: str) -> list[Entry]:
    """The settings of one player's optimiser."""
    where, key = "A.5.1" if player == "g" else "A.5.2", f"model.optimizer_{player}"
    return [
        Entry(f"learning rate of the {name}", where, "0.0005", setting(f"{key}.lr", PAPER)),
        Entry(f"β1 of the {name}", where, "0.5", setting(f"{key}.betas.0", PAPER)),
        Entry(f"β2 of the {name}", where, "0.999", setting(f"{key}.betas.1", PAPER)),
    ]


ENTRIES = [
    Entry("parameters of both networks", "abstract, Table 1", "6.574 M", pair, "cut, not rounded", cut=True),
    Entry("parameters of the generator", "A.5.1", "3,809,104", lambda: of("generator")),
    Entry("parameters of the discriminator", "A.5.2", "2,765,568", lambda: of("discriminator")),
    Entry(
        *("parameters of DCGAN", "Table 1", "6.342 M", lambda: pair("spectral_style/dcgan")),
    ),
    not_derivable("parameters of StyleGAN", "Table 1", "47.625 M", "the first StyleGAN is no network here"),
    Entry(
        "how many fewer than StyleGAN",
        "section 1, Table 1",
        "624.44 %",
        fewer,
        "StyleGAN's 47.625 M is the paper's",
    ),
    Entry("length of z", "section 2, A.5.1", "100", setting("model.generator.latent_dim", PAPER)),
    Entry(
        "layers of the mapping", "section 2, A.5.1", "4", lambda: layers("generator", nn.Linear, "mapping.")
    ),
    Entry("transposed convolutions", "A.5.1", "5", lambda: layers("generator", nn.ConvTranspose2d)),
    Entry("convolutions of the discriminator", "A.5.2", "5", lambda: layers("discriminator", nn.Conv2d)),
    Entry(
        *("of these spectrally normalised", "A.5.2", "5", normalised),
        "the original code leaves the first and the last out; the paper names no exception",
    ),
    Entry("side of the images, px", "abstract, A.4", "64", setting("data.resolution", PAPER)),
    Entry("epochs", "section 3.2, A.5.3", "20", setting("trainer.max_epochs", PAPER)),
    Entry("discriminator steps a generator step", "A.5.3", "1", default_steps),
    Entry("batch size", "A.5.3", "32", setting("data.batch_size", PAPER)),
    *optimiser("g", "generator"),
    *optimiser("d", "discriminator"),
    *(
        Entry(
            "share of the training data",
            "Table 2",
            f"{share} %",
            setting("data.fraction", f"spectral_style/data_{share}"),
        )
        for share in (75, 50, 25)
    ),
    not_derivable("training and validation images", "A.4", "4739, 500", "counts of AFHQ, which is not here"),
    not_derivable("FID and KID", "Tables 1, 2", "285.579, ...", "training on AFHQ, scored by Inception"),
]
