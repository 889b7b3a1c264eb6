"""Data sets that GAN papers train on: how to get each, how large it is, and what its licence allows."""

from dataclasses import dataclass


@dataclass(frozen=True)
class KnownData:
    """One data set.

    Attributes:
        name: As papers call it; a lower-case name without spaces is an embedded set's ``path``.
        images: How many, of which size.
        licence: What its authors state; "none stated" means that nothing is granted.
        get: Where it comes from and what to give as ``data.path``.
    """

    name: str
    images: str
    licence: str
    get: str


KNOWN = [
    KnownData(
        "twemoji",
        "1,949 at 72 px (4,009 with skin tones)",
        "CC-BY 4.0 (Twitter, Inc and other contributors)",
        "installed with gansharing: data.path=twemoji",
    ),
    KnownData(
        "openmoji",
        "2,460 drawn at 256 px; 1,944 paired with twemoji",
        "CC-BY-SA 4.0 (OpenMoji)",
        "installed with gansharing: data.path=openmoji",
    ),
    KnownData(
        "emoji4",
        "4 x 3,372 at 64 px: Noto, Twemoji, Fluent 3D, OpenMoji, paired",
        "Apache-2.0, CC-BY 4.0, MIT, CC-BY-SA 4.0",
        "gansharing data emoji4 --out DIR, then data.path=DIR/noto (or another)",
    ),
    KnownData(
        "AFHQ",
        "about 15,000 at 512 px: cat, dog (4,739 in train), wild",
        "CC-BY-NC 4.0",
        "download script of the repository clovaai/stargan-v2; data.path=afhq or afhq/train/dog",
    ),
    KnownData(
        "FFHQ",
        "70,000 at 1024 px",
        "CC-BY-NC-SA 4.0 for the set, various CC for the photographs",
        "download script of the repository NVlabs/ffhq-dataset",
    ),
    KnownData(
        "MetFaces",
        "1,336 at 1024 px",
        "CC-BY-NC 2.0 for the set",
        "repository NVlabs/metfaces-dataset",
    ),
    KnownData(
        "CelebA",
        "202,599 at 178 x 218 px (162,770 in train)",
        "non-commercial research only",
        "the authors' page (Large-scale CelebFaces Attributes, CUHK); data.crop=center",
    ),
    KnownData(
        "LSUN church",
        "126,227, shorter side 256 px",
        "none stated",
        "download script of the repository fyu/lsun, exported to a folder",
    ),
    KnownData(
        "100-shot Obama, Grumpy cat, Panda",
        "100 each at 256 px",
        "none stated (pictures from the web)",
        "repository mit-han-lab/data-efficient-gans",
    ),
    KnownData(
        "AnimalFace cat, dog",
        "160 and 389 at 256 px",
        "none stated",
        "repository mit-han-lab/data-efficient-gans",
    ),
    KnownData(
        "CIFAR-10, CIFAR-100",
        "50,000 + 10,000 at 32 px, 10 or 100 classes",
        "none stated",
        "torchvision.datasets, or a parquet copy of it: data.path=FOLDER_OF_PARQUET_FILES",
    ),
]
