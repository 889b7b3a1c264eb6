"""Each page on adding a part is followed to the letter, in a folder that holds nothing but what it shows."""

import json
import math
from pathlib import Path

import pytest
import torch

import gansharing
from gansharing.sharing import merged, split_of
from tests.cli.program import fit, run
from tests.extending.pages import ROOT, commands, files

# Up to five trainings of two steps each: seconds, but not on a machine that is busy.
pytestmark = pytest.mark.timeout(400)
PAGES = sorted((ROOT / "docs/extending").glob("*.md"))
SHORT = (
    *("--data.batch_size=4", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"),
    *("--trainer.enable_model_summary=false", "--trainer.log_every_n_steps=1", "--scores.num_samples=8"),
    *("--scores.untrained=false", "--grids.columns=2", "--grids.rows=2"),
)


def follow(page: str, folder: Path) -> list[str]:
    """Write the page's files and run its commands, trainings shrunk to two steps; what was printed."""
    for name, text in files(ROOT / f"docs/extending/{page}.md").items():
        (folder / name).write_text(text)
    printed, steps = [], 0
    for words in commands(ROOT / f"docs/extending/{page}.md"):
        short: list[str] = []
        if words[1] == "fit":
            steps = steps + 2 if "--ckpt_path" in words else 2
            short = [*SHORT, f"--trainer.max_steps={steps}", f"--trainer.val_check_interval={steps}"]
        done = run(*words[1:], *short, *(["--scores.num_samples=8"] if words[1] == "validate" else []))
        assert (words[0], done.code) == ("gansharing", 0), f"{' '.join(words)}\n{done.err}"
        printed.append(done.out)
    return printed


def finished(run_dir: str, steps: int = 2) -> dict[str, object]:
    results = json.loads(Path(f"runs/{run_dir}/results.json").read_text())
    assert (results["status"], results["steps"]) == ("finished", steps)
    assert math.isfinite(results["scores"]["fid_lite"])
    return results


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_adds_is_under_sixty_lines(page: Path) -> None:
    lengths = [len(text.splitlines()) for text in files(page).values()]
    assert len(lengths) == 2 and sum(lengths) < 60


def test_adding_a_network(folder: Path) -> None:
    follow("network", folder)
    finished("residual-001")
    generator = gansharing.load("residual.safetensors")
    assert type(generator).__module__ == "residual"
    # By hand: a linear layer, three blocks of two 3x3 convolutions, a convolution to three channels.
    c = 32
    counted = 64 * 16 * c + 16 * c + 3 * 2 * (9 * c * c + c) + 27 * c + 3
    assert sum(p.numel() for p in generator.parameters()) == counted
    sharing = finished("transfer-001")["sharing"]["generator"]  # type: ignore[index]
    assert sharing["learn_ratio"] == pytest.approx(0.1, abs=0.02)
    # The source's output where nothing was trained: dividing changed no image.
    plain, divided = (gansharing.load("runs/transfer-001", divided=d) for d in (False, True))
    assert len(list(Path("samples").glob("seed*.png"))) == 16
    with torch.no_grad():
        assert torch.equal(plain(latent := plain.sample_latent(2)), divided(latent))


def test_adding_a_sharing(folder: Path) -> None:
    fit(folder / "FOLDER", "--trainer.default_root_dir=RUN", "--trainer.max_steps=1")
    shown = follow("sharing", folder)
    assert "FilterGains()" in shown[0]
    facts = finished("gains-001")["sharing"]["generator"]  # type: ignore[index]
    source = gansharing.load("RUN", divided=True)
    # DCGAN has transposed convolutions only, whose dimension 1 counts output filters.
    filters = sum(p.shape[1] for p in source.parameters() if p.ndim == 4)
    assert facts["domain"] == filters
    trained = gansharing.load("runs/gains-001", divided=True)
    for name, weight in source.named_parameters():
        module, _, leaf = name.rpartition(".")
        if weight.ndim == 4:
            assert torch.equal(trained.state_dict()[f"{module}.parametrizations.{leaf}.original0"], weight)
    gains = list(split_of(trained).domain.values())
    assert any(not torch.equal(gain, torch.ones_like(gain)) for gain in gains)
    with torch.no_grad():
        assert torch.equal(trained(latent := trained.sample_latent(2)), merged(trained)(latent))
    assert Path("gains.safetensors").stat().st_size < Path("RUN/checkpoints/last.ckpt").stat().st_size / 2


def test_adding_a_setup(folder: Path) -> None:
    follow("setup", folder)
    results = finished("likelihood-001", steps=4)
    assert results["images"] == 16  # two runs of two batches of four
    assert len(list(Path("samples").glob("seed*.png"))) == 16
    whole = run(
        *("fit", "--config", "likelihood.yaml", "--data.path", "FOLDER", *SHORT),
        *("--trainer.max_steps=4", "--trainer.val_check_interval=4"),
    )
    assert whole.code == 0, whole.err
    stopped, through = (gansharing.load(f"runs/likelihood-00{n}/checkpoints/last.ckpt") for n in (1, 2))
    for name, tensor in through.state_dict().items():
        assert torch.equal(tensor, stopped.state_dict()[name]), f"{name} differs after a resume"
