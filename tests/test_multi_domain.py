"""The multi-domain experiments on small networks, through the program."""

import json
import math
from pathlib import Path

import pytest
import torch

from gansharing import load
from gansharing.sharing import split_of
from tests.cli.program import run, write_images

ROOT = Path(__file__).parents[1] / "experiments"
NAMES = ["celeba_hq", "church", "cat", "bedroom"]
SMALL = (
    *("--data.resolution=32", "--data.batch_size=2", "--trainer.max_steps=2", "--scores.num_samples=4"),
    *("--trainer.val_check_interval=2", "--trainer.log_every_n_steps=1", "--scores.untrained=false"),
    *("--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu", "--grids.columns=3"),
    *("--trainer.enable_model_summary=false",),
)
GAME = "--model.init_args.game.init_args"
TINY = [
    *(
        f"{GAME}.{part}.init_args.{key}"
        for part in ("generator", "discriminator")
        for key in ("resolution=32",)
    ),
    *(f"{GAME}.{part}.init_args.channel_base=256" for part in ("generator", "discriminator")),
    *(f"{GAME}.generator.init_args.{key}=100" for key in ("latent_dim", "w_dim")),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("table_2")
    for number, name in enumerate(NAMES):
        write_images(root / name, count=4 + number, size=32)
    return root


@pytest.mark.parametrize("strategy", ["width_1", "width_10", "layer_1", "layer_10"])
def test_a_column_of_table_2_starts(strategy: str, folders: Path, tmp_path: Path) -> None:
    given = json.dumps({name: str(folders / name) for name in NAMES})
    done = run(
        *("fit", "--config", ROOT / "multi_domain/table_2.yaml"),
        *("--config", ROOT / f"width_wise/{strategy}.yaml", "--data.domains", given, *SMALL, *TINY),
        f"--trainer.default_root_dir={tmp_path}",
    )
    assert done.code == 0, done.err
    results = json.loads((tmp_path / "results.json").read_text())
    scores = [results["scores"][f"fid_lite/{name}"] for name in NAMES]
    assert results["status"] == "finished" and all(map(math.isfinite, scores))
    assert results["scores"]["fid_lite"] == pytest.approx(sum(scores) / 4)
    assert (tmp_path / "images/step_0000002_domains.png").is_file()
    generators = [load(tmp_path / "checkpoints/last.ckpt", f"generator.{n}", divided=True) for n in NAMES]
    first, second = (split_of(generator) for generator in generators[:2])
    assert first.domain_size == results["sharing"]["generator"]["domain"]
    assert all(torch.equal(second.shared[name], tensor) for name, tensor in first.shared.items())
    assert any(not torch.equal(second.domain[name], tensor) for name, tensor in first.domain.items())


def test_the_miniature_resumes(folders: Path, tmp_path: Path) -> None:
    given = json.dumps({"twemoji": str(folders / "cat"), "openmoji": str(folders / "church")})
    laid = ("--config", ROOT / "multi_domain/mini.yaml", "--config", ROOT / "multi_domain/weights.yaml")
    command = ("fit", *laid, "--data.domains", given, *SMALL)
    whole, parts = (f"--trainer.default_root_dir={tmp_path / name}" for name in ("whole", "parts"))
    assert run(*command, "--trainer.max_steps=3", whole).code == 0
    assert run(*command, parts).code == 0
    assert run(*command, "--trainer.max_steps=3", parts, "--ckpt_path=last").code == 0
    last = tmp_path / "whole/checkpoints/last.ckpt"
    assert run("validate", "--ckpt_path", last, "--trainer.enable_progress_bar=false").code == 0
    for name in ("twemoji", "openmoji"):
        one, other = (
            load(tmp_path / run_ / "checkpoints/last.ckpt", f"generator.{name}").state_dict()
            for run_ in ("whole", "parts")
        )
        assert all(torch.equal(one[key], value) for key, value in other.items())


def test_the_miniature_starts_from_a_trained_source(folders: Path, tmp_path: Path) -> None:
    small = [option for option in SMALL if not option.startswith("--grids")]
    source = tmp_path / "source"
    done = run(
        *("fit", "--config", ROOT / "width_wise/mini_source.yaml", f"--data.path={folders / 'cat'}", *small),
        f"--trainer.default_root_dir={source}",
    )
    assert done.code == 0, done.err
    laid = ("--config", ROOT / "multi_domain/mini.yaml", "--config", ROOT / "multi_domain/from_source.yaml")
    given = json.dumps({"twemoji": str(folders / "cat"), "openmoji": str(folders / "church")})
    done = run(
        *("fit", *laid, f"--model.source={source}", f"{GAME}.optimizer_g.init_args.lr=0"),
        *("--data.domains", given, *SMALL),
        f"--trainer.default_root_dir={tmp_path / 'run'}",
    )
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "run/results.json").read_text())["source"] == str(source)
    # Without a rate the generators stay what they started from.
    first = load(source).state_dict()
    for name in ("twemoji", "openmoji"):
        kept = load(tmp_path / "run/checkpoints/last.ckpt", f"generator.{name}").named_parameters()
        assert all(torch.allclose(value, first[key], atol=1e-7) for key, value in kept)


def test_other_domains_are_refused(folders: Path, tmp_path: Path) -> None:
    given = json.dumps({"cat": str(folders / "cat"), "church": str(folders / "church")})
    done = run(
        *("fit", "--config", ROOT / "multi_domain/table_2.yaml", "--data.domains", given, *SMALL, *TINY),
        f"--trainer.default_root_dir={tmp_path}",
    )
    assert done.code == 2 and "model.domains are bedroom, cat, celeba_hq, church" in done.err
