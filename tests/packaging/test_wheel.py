"""What is handed out: the wheel holds what a user needs, and works where there is no checkout."""

import email
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.cli.program import run, write_images

ROOT = Path(__file__).parents[2]
SHIPPED = {path.relative_to(ROOT).as_posix() for path in (ROOT / "experiments").rglob("*.yaml")}


def build(kind: str, folder: Path) -> Path:
    """A wheel or a source distribution of the checkout, without a network."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_the_package_and_the_papers_configurations(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    code = {path.relative_to(ROOT).as_posix() for path in (ROOT / "gansharing").rglob("*.py")}
    assert code <= names and {f"gansharing/{name}" for name in SHIPPED} <= names
    assert {"gansharing/py.typed", "gansharing/defaults.yaml"} <= names
    roots = {name.partition("/")[0] for name in names}
    assert len(roots) == 2 and "gansharing" in roots  # and its metadata; no tests, no docs
    assert not any("__pycache__" in name or name.endswith(".pyc") for name in names)


def test_its_metadata_say_what_it_is(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    about = email.message_from_string(archive.read(name).decode())
    assert (about["Name"], about["License-Expression"]) == ("gansharing", "Apache-2.0")
    assert about["Requires-Python"] == ">=3.11"
    assert {"deploy", "docs", "dev"} <= set(about.get_all("Provides-Extra", []))
    (points,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
    assert "gansharing = gansharing.cli:main" in archive.read(points).decode()


def test_the_source_distribution_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(build("sdist", tmp_path / "sdist")) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (unpacked,) = (tmp_path / "source").iterdir()
    assert (unpacked / "mkdocs.yml").is_file() and (unpacked / "docs/index.md").is_file()
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "again")]
    subprocess.run(command, cwd=unpacked, check=True, capture_output=True)
    (again,) = (tmp_path / "again").iterdir()
    one, other = zipfile.ZipFile(wheel), zipfile.ZipFile(again)
    assert {i.filename: i.CRC for i in one.infolist()} == {i.filename: i.CRC for i in other.infolist()}


@pytest.mark.timeout(400)  # two processes that import everything, on a machine that may be busy
def test_the_wheel_trains_on_the_embedded_images_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site, here = tmp_path / "site", tmp_path / "here"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    here.mkdir()
    script = (
        "import gansharing.cli as cli; print(cli.__file__);"
        "cli.main(['experiments']); cli.main(['fit', '--config', 'experiments/demo.yaml', *OPTIONS])"
    )
    small = [
        *("--trainer.max_steps=2", "--trainer.val_check_interval=2", "--trainer.accelerator=cpu"),
        *(
            "--model.generator.base_channels=2",
            "--model.discriminator.base_channels=2",
            "--scores.num_samples=8",
        ),
        *("--trainer.precision=32-true", "--trainer.enable_progress_bar=false", "--scores.untrained=false"),
        *("--data.path", str(write_images(tmp_path / "images", count=8)), "--data.batch_size=4"),
    ]
    env = os.environ | {"PYTHONPATH": str(site)}
    command = [sys.executable, "-c", script.replace("OPTIONS", repr(small))]
    done = subprocess.run(command, cwd=here, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(site))  # not the checkout's
    assert (here / "runs/demo-001/checkpoints/best.ckpt").is_file()


def test_configurations_are_written_whole_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("experiments")
    assert done.code == 0 and f"{len(SHIPPED)} configurations" in done.out
    assert {
        f"experiments/{path.relative_to('experiments').as_posix()}"
        for path in Path("experiments").rglob("*.yaml")
    } == SHIPPED
    again = run("experiments")
    assert again.code == 2 and "--out" in again.err and again.err.count("\n") == 1
    (tmp_path / "file").write_text("")
    wrong = run("experiments", "--out=file/inside")
    assert wrong.code == 2 and wrong.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["experiments", "file"]
