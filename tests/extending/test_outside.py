"""Modules of the user's own: found where they lie, imported only when the user names them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from gansharing.checkpoints import save_network
from gansharing.errors import UserError
from gansharing.outside import import_module, import_named, modules_here, require_imported
from tests.cli.program import TINY, run
from tests.extending.pages import ROOT, files

# Once without and once with the module's name, in a process that ``-P`` keeps the folder from, as the
# installed command is; one process, for starting it takes most of the time.
TWICE = """
import gansharing.cli as cli
try:
    cli.main(["sample", "G.safetensors", "--seeds=1"])
except SystemExit as refused:
    print("status", refused.code)
cli.main(["sample", "G.safetensors", "--seeds=1", "--import", "residual"])
"""


@pytest.mark.timeout(300)  # a process of its own starts slowly on a busy machine
def test_a_program_that_was_told_no_module_runs_nothing_of_a_checkpoint(folder: Path) -> None:
    (folder / "residual.py").write_text(files(ROOT / "docs/extending/network.md")["residual.py"])
    with modules_here():
        import_module("residual")
    generator = sys.modules["residual"].ResidualGenerator(32, 4, 2)
    save_network(generator, "G.safetensors", "generator")
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-P", "-c", TWICE], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert "status 2" in done.stdout and "--import residual" in done.stderr
    assert done.stderr.count("\n") == 1
    assert Path("samples/seed0000001.png").is_file()


def test_modules_beside_the_user_come_after_all_others(folder: Path) -> None:
    (folder / "colorsys.py").write_text(
        "raise RuntimeError('a file of the folder replaced a part of Python')"
    )
    path = list(sys.path)
    sys.modules.pop("colorsys", None)
    done = run("inspect", TINY, "--import", "colorsys")
    assert done.code == 0, done.err
    assert sys.path == path


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (None, "nowhere", "no module 'nowhere'"),
        (None, "../x", "no module's name"),
        ("import numpyy", "broken_a", "fails: No module named 'numpyy'"),
        ("1 / 0", "broken_b", "fails: ZeroDivisionError"),
    ],
)
def test_what_cannot_be_imported_is_said_in_a_line(
    folder: Path, content: str | None, name: str, said: str
) -> None:
    if content:
        (folder / f"{name}.py").write_text(content)
    done = run("sample", "x.ckpt", f"--import={name}")
    assert done.code == 2 and said in done.err and done.err.count("\n") == 1


def test_a_class_path_that_leads_nowhere_is_named(folder: Path) -> None:
    done = run("fit", "--config", TINY, "--model.generator", "residuall.ResidualGenerator")
    assert done.code == 2 and "residuall" in done.err and done.err.count("\n") == 1


def test_a_checkpoints_configuration_imports_nothing(folder: Path) -> None:
    (folder / "evil.py").write_text("import os; os.mkdir('ran')")
    sys.path.append(str(folder))
    try:
        for config in (
            {"model": {"class_path": "evil.Setup"}},
            {"model": {"init_args": {"optimizer_g": "evil.make"}}},
            {"data": [{"transform": {"class_path": "evil.deep.Setup"}}]},
        ):
            with pytest.raises(UserError, match="--import evil"):
                require_imported(config, "x.ckpt")
        require_imported({"data": {"path": "photos.zip"}, "model": {"class_path": "torch.optim.Adam"}}, "x")
        assert not Path("ran").exists()
        assert import_named(["fit", "--import", "evil", "--x=1"]) == ["fit", "--x=1"]
        assert Path("ran").exists()
        require_imported({"model": {"class_path": "evil.Setup"}}, "x.ckpt")
    finally:
        sys.path.remove(str(folder))


@pytest.mark.parametrize(
    ("options", "latents"),
    [
        (["--model.generator=SNGANGenerator"], 128),  # what SN-GAN itself has, not the standing network's 100
        (["--model.generator=SNGANGenerator", "--model.generator.latent_dim=7"], 7),
        (["--config", "seven.yaml", "--model.generator=SNGANGenerator"], 7),  # written: it stays
    ],
)
def test_a_class_brings_its_own_defaults(options: list[str], latents: int, folder: Path) -> None:
    seven = {"model": {"init_args": {"generator": {"init_args": {"latent_dim": 7}}}}}
    (folder / "seven.yaml").write_text(yaml.safe_dump(seven))
    done = run("fit", *options, "--print_config")
    assert done.code == 0, done.err
    generator = yaml.safe_load(done.out)["model"]["init_args"]["generator"]
    assert generator["init_args"]["latent_dim"] == latents
