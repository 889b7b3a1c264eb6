"""One history of scores holds one way of scoring: a resumed run cannot go on in another."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.callbacks.test_run_files import checkpoint
from tests.cli.program import TINY, Outcome, run


@pytest.fixture
def moved(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def resume(images: Path, folder: Path, *more: str) -> Outcome:
    given = ["--config", TINY, "--data.path", images, "--trainer.default_root_dir", folder]
    return run(
        "fit", *given, "--ckpt_path=last", "--trainer.max_steps=6", "--trainer.val_check_interval=2", *more
    )


def rewrite(folder: Path, change: dict[str, str | None]) -> None:
    """Leave the run as if its scores had been taken in another way; None for what was not recorded."""
    last, results = checkpoint(folder), json.loads((folder / "results.json").read_text())
    for holder in (last["callbacks"]["Scores"], results):
        changed = holder["protocol"] | change
        holder["protocol"] = {key: value for key, value in changed.items() if value is not None}
    torch.save(last, folder / "checkpoints/last.ckpt")
    (folder / "results.json").write_text(json.dumps(results))


OLDER: dict[str, str | None] = {"n_fake_asked": None}  # versions that recorded only how many there were


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({}, ["--scores.num_samples=16"], ("num_samples=8", "num_samples=16")),
        (OLDER, ["--scores.num_samples=16"], ("num_samples=8", "num_samples=16")),
        ({"extractor": "dinov2", "extractor_fingerprint": "e1"}, [], ("extractor=dinov2", "extractor=lite")),
        ({"resize": "legacy", "extractor_fingerprint": "e1"}, [], ("resize=legacy", "resize=clean")),
        ({"extractor_fingerprint": "e1"}, [], ("weights=e1",)),
    ],
)
def test_scores_of_two_protocols_are_not_mixed(
    images: Path, moved: Path, change: dict[str, str | None], options: list[str], said: tuple[str, ...]
) -> None:
    rewrite(moved, change)
    kept = ("results.json", "checkpoints/last.ckpt", "checkpoints/best.ckpt")
    before = [(moved / name).read_bytes() for name in kept]
    done = resume(images, moved, *options)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    for words in (*said, "same --scores options", "gansharing validate"):
        assert words in done.err
    assert [(moved / name).read_bytes() for name in kept] == before


def test_a_run_of_an_older_version_goes_on(images: Path, moved: Path) -> None:
    rewrite(moved, OLDER)
    fewer = ("--scores.metrics=[fid]", "--scores.bootstrap=9")  # neither changes what an FID is
    done = resume(images, moved, *fewer)
    assert done.code == 0, done.err
    found = json.loads((moved / "results.json").read_text())
    assert [entry["step"] for entry in found["history"]] == [0, 2, 4, 6]
    assert (found["protocol"]["n_fake"], found["protocol"]["n_fake_asked"]) == (8, 8)


def test_a_validation_may_score_in_another_way(moved: Path) -> None:
    done = run("validate", "--ckpt_path", moved / "checkpoints/last.ckpt", "--scores.num_samples=16")
    assert done.code == 0, done.err
