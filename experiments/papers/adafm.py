"""Zhao et al. 2020, On Leveraging Pretrained GANs for Generation with Limited Data (AdaFM)."""

from collections.abc import Callable

import torch

from gansharing.networks import GPGANDiscriminator, GPGANGenerator, SmallHeadGenerator
from gansharing.sharing import AdaFM, FilterSelection, FreezeLower, Sharing, modulation
from papers.entry import Entry, divided, network, not_derivable, owned, setting, size, trained

TITLE = "AdaFM (2020)"
CODE = "original code"
TARGET = ("model.target", "model.sharing")
JUDGE = ("model.target_discriminator", "model.sharing_discriminator")
FILTERS = ["resnet_*.conv_[01].weight"]


def meta(make: Callable[[], GPGANGenerator | GPGANDiscriminator | SmallHeadGenerator]) -> int:
    """Parameters of a network."""
    with torch.device("meta"):
        return size(make())


def frozen_head(stages: int, latent_dim: int = 64) -> int:
    """Parameters that a GP-GAN trains when its lower groups are frozen."""
    with torch.device("meta"):
        made = GPGANGenerator(128, latent_dim)
    FreezeLower(stages).apply(made)
    return owned(made)


def frozen_judge(stages: int) -> int:
    """The same of the discriminator."""
    with torch.device("meta"):
        made = GPGANDiscriminator(128)
    FreezeLower(stages).apply(made)
    return owned(made)


def modulated(sharing: Sharing) -> int:
    """Scales and shifts that a sharing adds to the general part of the generator."""
    with torch.device("meta"):
        made = SmallHeadGenerator(128, 64)
    before = size(made)
    sharing.apply(made)
    return size(made) - before


def convolutions() -> int:
    """Convolutions of the generator whose filters are modulated."""
    own = divided(*TARGET, "adafm/base", "adafm/our").network
    return sum(hasattr(m, "parametrizations") and "weight" in m.parametrizations for m in own.modules())


def start(part: int) -> list[float]:
    """The different values that scales (0) or shifts (1) begin with."""
    made = GPGANGenerator(32, 8, base_channels=2)
    AdaFM(include=FILTERS).apply(made)
    return sorted({float(v) for pair in modulation(made).values() for v in pair[part].unique()})


def without_fc() -> int:
    """What SmallHead trains beside its first fully connected layer."""
    split = divided(*TARGET, "adafm/base", "adafm/smallhead")
    return sum(weight.numel() for name, weight in split.domain.items() if not name.startswith("fc."))


def frozen(key: str, *names: str) -> Callable[[], int]:
    """How many groups a setting freezes."""
    return setting(f"{key}.stages", "adafm/base", *names)


def mapping_layers() -> int:
    """Layers of the tailored head's mapping."""
    stages = network("model.target", "adafm/base", "adafm/our").stages()
    return sum(name.startswith("mapping.") for name in stages)


def style_blocks() -> int:
    """Style blocks of the tailored head."""
    stages = network("model.target", "adafm/base", "adafm/our").stages()
    return sum(name.startswith("style_") for name in stages)


SHARING = "model.sharing.sharings.1"
GROUPS = "conv_img counts as a group, as in the original code"
ENTRIES = [
    Entry("parameters that Our trains", "Fig. 1", "24.4 M", trained(*TARGET, "adafm/base", "adafm/our")),
    Entry(
        *("parameters that SmallHead trains", "Fig. 1", "23.0 M"),
        trained(*TARGET, "adafm/base", "adafm/smallhead"),
        "Our without its scales and shifts; the next row would give what is printed",
    ),
    Entry(
        *("the same without the first fully connected layer", "Fig. 1", "23.0 M", without_fc),
        "not the network that the paper draws",
    ),
    Entry(
        *("parameters that GPHead trains, z of 64", "Fig. 1", "79.7 M", lambda: frozen_head(4)),
        "79.7 M is what freezing five groups leaves with z of 256: see the next row",
    ),
    Entry(
        *("the same with z of 256 and five groups frozen", "Fig. 1", "79.7 M"),
        lambda: frozen_head(5, 256),
        "not the setting that the paper names",
    ),
    Entry(
        *(
            "scales and shifts: Our less SmallHead",
            "Fig. 1",
            "1.4 M",
            lambda: modulated(AdaFM(include=FILTERS)),
        ),
        "follows from SmallHead's count, above",
    ),
    Entry("scales and shifts", CODE, "860,160", lambda: modulated(AdaFM(include=FILTERS))),
    Entry(
        "those of FS",
        "section 3.3",
        "3,584",
        lambda: modulated(FilterSelection(include=FILTERS)),
        "from C_out each",
    ),
    Entry("modulated convolutions", CODE, "12", convolutions),
    Entry("scales begin at", "section 3.3", "[1.0]", lambda: start(0)),
    Entry("shifts begin at", "section 3.3", "[0.0]", lambda: start(1)),
    Entry(
        "parameters of GP-GAN's generator, 1000 classes",
        CODE,
        "100,535,747",
        lambda: meta(lambda: GPGANGenerator(128, 256, 1000)),
    ),
    Entry(
        "parameters of GP-GAN's discriminator, 1000 classes",
        CODE,
        "108,260,776",
        lambda: meta(lambda: GPGANDiscriminator(128, 1000)),
    ),
    *(
        Entry(f"parameters that G{m} trains, z of 64", CODE, count, lambda m=m: frozen_head(m))
        for m, count in ((2, "92,761,600"), (4, "88,909,824"), (5, "76,587,008"), (6, "38,834,176"))
    ),
    *(
        Entry(f"parameters that D{n} trains", CODE, count, lambda n=n: frozen_judge(n))
        for n, count in ((2, "91,697,537"), (3, "90,926,849"), (5, "75,522,049"), (6, "37,769,217"))
    ),
    Entry("length of z", "Fig. 1", "64", setting("model.target.latent_dim", "adafm/base", "adafm/our")),
    Entry("layers of the MLP", "Fig. 1", "8", mapping_layers),
    Entry("style blocks", "section 3.2", "2", style_blocks),
    Entry(
        "side of the images, px",
        "section 3",
        "128",
        setting("model.target.resolution", "adafm/base", "adafm/our"),
    ),
    Entry("groups frozen in G, G4D2", "section 3.1", "4", frozen(SHARING, "adafm/our"), GROUPS),
    Entry("groups frozen in D, G4D2", "section 3.1", "2", frozen("model.sharing_discriminator", "adafm/our")),
    *(
        Entry(
            f"groups frozen in D, Our-G4D{n}",
            where,
            str(n),
            frozen("model.sharing_discriminator", "adafm/our", file),
        )
        for n, where, file in (
            (3, "Table 3", "adafm/d3"),
            (5, "Table 3", "adafm/d5"),
            (6, "section 4.3", "adafm/25_images"),
        )
    ),
    Entry("training iterations", "Tables 1-3", "60,000", setting("trainer.max_steps", "adafm/base")),
    Entry("learning rate", CODE, "0.0001", setting("model.optimizer_g.lr", "adafm/base")),
    Entry("β1", CODE, "0.0", setting("model.optimizer_g.betas.0", "adafm/base")),
    Entry("β2", CODE, "0.99", setting("model.optimizer_g.betas.1", "adafm/base")),
    Entry("batch size", CODE, "16", setting("data.batch_size", "adafm/base")),
    Entry(
        "weight of R1, as γ in γ/2",
        CODE,
        "20",
        setting("model.regularizers.0.weight", "adafm/base"),
        "10 without the half",
    ),
    Entry("average of the generator", CODE, "0.999", setting("ema.decay", "adafm/base")),
    Entry(
        "length of z for 25 images",
        CODE,
        "4",
        setting("model.target.latent_dim", "adafm/base", "adafm/our", "adafm/25_images"),
    ),
    Entry(
        "iterations before scales and shifts are trained",
        CODE,
        "10,000",
        setting("trainer.callbacks.0.at_step", "adafm/official"),
    ),
    not_derivable(
        "images of CelebA, Flowers, Cars, Cathedral",
        "section 4",
        "202,599, 8,189, 8,144, 7,350",
        "counts of data that are not here",
    ),
    not_derivable("FID", "Tables 1-3", "9.90, ...", "training from ImageNet weights, which are not here"),
]
