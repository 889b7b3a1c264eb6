"""A finished run of the program, with a validation every second step and one before the first."""

from pathlib import Path

import pytest

from tests.cli.program import fit, write_images


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture(scope="session")
def finished(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    fit(
        images,
        *("--trainer.val_check_interval=2", "--scores.untrained=true"),
        f"--trainer.default_root_dir={folder}",
    )
    return folder
