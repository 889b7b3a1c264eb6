"""The papers' configurations, which the package carries, where they can be read and changed."""

import shutil
import tempfile
from pathlib import Path

import gansharing
from gansharing.errors import UserError

_PACKAGE = Path(gansharing.__file__).parent
# In a wheel beside the code, in a checkout beside the package.
_PLACES = (_PACKAGE / "experiments", _PACKAGE.parent / "experiments")


def experiments(out: str = "experiments") -> None:
    """Write the configurations and scripts of all papers to a folder.

    Commands in the documentation name them as experiments/....yaml.

    Args:
        out: New folder.
    """
    folder = Path(out)
    if folder.exists():
        raise UserError(f"{out} exists already; give --out another folder, or move it away")
    source = next(place for place in _PLACES if place.is_dir())
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target: renamed when it is whole.
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as partial:
            whole = Path(partial, folder.name)
            shutil.copytree(source, whole, ignore=shutil.ignore_patterns("__pycache__", ".*"))
            whole.rename(folder)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from error
    files = sorted(path.relative_to(folder) for path in folder.rglob("*.yaml"))
    print(f"{len(files)} configurations in {folder}: gansharing fit --config {folder / 'demo.yaml'}")
