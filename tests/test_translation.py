"""StarGAN v2's experiments on small networks, through the program."""

import json
import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from gansharing import load
from tests.cli.program import run, write_images

ROOT = Path(__file__).parents[1] / "experiments/multi_domain"
NAMES = ["celeba_hq", "church", "cat", "bedroom"]
SMALL = (
    *("--data.resolution=32", "--trainer.max_steps=2", "--scores.num_samples=4", "--grids.columns=3"),
    *("--trainer.val_check_interval=2", "--trainer.log_every_n_steps=1", "--scores.untrained=false"),
    *("--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu", "--data.batch_size=3"),
    *("--trainer.enable_model_summary=false",),
)
ARGUMENTS = "--model.init_args"
TINY = [
    *(f"{ARGUMENTS}.{net}.init_args.resolution=32" for net in ("generator", "discriminator")),
    *(f"{ARGUMENTS}.{net}.init_args.channel_base=128" for net in ("generator", "discriminator")),
    *(f"{ARGUMENTS}.{net}.init_args.channel_max=8" for net in ("generator", "discriminator")),
    f"{ARGUMENTS}.generator.init_args.hidden=8",
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("domains")
    for number, name in enumerate(NAMES):
        write_images(root / name, count=4 + number, size=32)
    return root


def given(folders: Path, *names: str) -> str:
    return json.dumps({name: str(folders / folder) for name, folder in zip(names, NAMES, strict=False)})


def tiles(path: Path) -> tuple[int, int]:
    """Rows and columns of a grid of 32 px, whose tiles have a small border."""
    with Image.open(path) as picture:
        width, height = picture.size
    return height // 33, width // 33


def test_the_papers_column_starts(folders: Path, tmp_path: Path) -> None:
    done = run(
        *("fit", "--config", ROOT / "stargan_v2.yaml", "--data.domains", given(folders, *NAMES), *SMALL),
        *(*TINY, f"--trainer.default_root_dir={tmp_path}"),
    )
    assert done.code == 0, done.err
    results = json.loads((tmp_path / "results.json").read_text())
    scores = [results["scores"][f"fid_lite/{name}"] for name in NAMES]
    assert results["status"] == "finished" and all(map(math.isfinite, scores))
    assert results["domains"] == NAMES
    assert tiles(tmp_path / "images/step_0000002_domains.png") == (4, 3)
    assert tiles(tmp_path / "images/step_0000002_references.png") == (12, 3)
    translator = load(tmp_path / "checkpoints/last.ckpt")
    images = translator(torch.zeros(1, 3, 32, 32), torch.tensor([3]), torch.zeros(1, 16))
    assert images.shape == (1, 3, 32, 32)


def test_the_miniature_resumes(folders: Path, tmp_path: Path) -> None:
    domains = given(folders, "twemoji", "openmoji")
    command = (
        *("fit", "--config", ROOT / "stargan_v2_mini.yaml", "--data.domains", domains, *SMALL),
        "--trainer.limit_val_batches=0",
    )
    whole, parts = (f"--trainer.default_root_dir={tmp_path / name}" for name in ("whole", "parts"))
    assert run(*command, "--trainer.max_steps=3", whole).code == 0
    assert run(*command, parts).code == 0
    assert run(*command, "--trainer.max_steps=3", parts, "--ckpt_path=last").code == 0
    for part in ("generator", "discriminator"):
        one, other = (
            load(tmp_path / name / "checkpoints/last.ckpt", part).state_dict() for name in ("whole", "parts")
        )
        assert all(torch.equal(one[key], value) for key, value in other.items())
    last = tmp_path / "whole/checkpoints/last.ckpt"
    done = run("validate", "--ckpt_path", last, *SMALL, f"--trainer.default_root_dir={tmp_path}")
    assert done.code == 0, done.err
    assert tiles(tmp_path / "images/step_0000000_references.png") == (6, 3)


def test_what_does_not_fit_is_refused(folders: Path, tmp_path: Path) -> None:
    command = ("fit", "--config", ROOT / "stargan_v2_mini.yaml", *SMALL)
    root = f"--trainer.default_root_dir={tmp_path}"
    done = run(*command, "--data.domains", given(folders, "twemoji", "noto"), root)
    assert done.code == 2 and "are twemoji, openmoji, but data has noto, twemoji" in done.err
    domains = given(folders, "twemoji", "openmoji")
    done = run(*command, "--data.domains", domains, root, "--data.batch_size=4")
    assert done.code == 2 and "multiple of 3" in done.err
