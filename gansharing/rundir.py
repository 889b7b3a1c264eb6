"""Where a run lives on disk."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from gansharing.errors import UserError

# Processes that Lightning launches run the whole program again and must find the first one's choice.
_INHERITED = "GANSHARING_RUN_DIR"
_NAMES = ("last", "best")
_new: list[Path] = []  # the folder that this program made, then its new parents


def choose_run_dir(given: str | None, name: str, ckpt_path: str | None) -> Path:
    """The folder of a training run.

    Args:
        given: ``trainer.default_root_dir``, if the user set it.
        name: What to call a new run under ``runs/``.
        ckpt_path: ``--ckpt_path``; ``last`` continues the newest run of that name.

    Returns:
        ``given``, or ``runs/NAME-001``, ``-002``, ...; a new one, unless the run is resumed.

    Raises:
        UserError: ``given`` already holds a run that is not being resumed, or no folder can be made.
    """
    if inherited := os.environ.get(_INHERITED):
        return Path(inherited)
    resuming = ckpt_path in _NAMES
    if given:
        folder = Path(given)
        if ckpt_path is None and (folder / "checkpoints" / "last.ckpt").exists():
            raise UserError(
                f"{folder} already holds a run; add --ckpt_path last to continue it, "
                "or choose another --trainer.default_root_dir"
            )
        _make(folder)
    else:
        folder = _numbered(name, resuming)
    os.environ[_INHERITED] = str(folder.resolve())
    return folder


def _numbered(name: str, newest: bool) -> Path:
    existing = sorted(path for path in Path("runs").glob(f"{name}-[0-9][0-9][0-9]") if path.is_dir())
    if newest and existing:
        return existing[-1]
    number = int(existing[-1].name[-3:]) if existing else 0
    while True:  # a run that starts at the same moment may take the number first
        number += 1
        with suppress(FileExistsError):
            return _make(Path("runs") / f"{name}-{number:03d}", exist_ok=False)


def _make(folder: Path, exist_ok: bool = True) -> Path:
    if getattr(rank_zero_only, "rank", 0) != 0:  # started by a scheduler: only the first process writes
        return folder
    absent = [path for path in (folder.absolute(), *folder.absolute().parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=exist_ok)
    except OSError as error:
        if not exist_ok and folder.is_dir():
            raise
        raise UserError(
            f"cannot make the run's folder {folder}: {error.strerror}; "
            "choose another --trainer.default_root_dir"
        ) from error
    _new[:] = absent
    return folder


def forget_run_dir() -> None:
    """End of the program: a further one in the same process chooses anew.

    A folder that this program made, but in which no training began, is removed: loggers write before the
    data, the weights of the extractor or a checkpoint have been looked at.
    """
    os.environ.pop(_INHERITED, None)
    new, _new[:] = list(_new), []
    if not new or (new[0] / "results.json").exists():
        return
    shutil.rmtree(new[0], ignore_errors=True)
    for parent in new[1:]:
        with suppress(OSError):  # not there, or not empty: another run began beside this one
            parent.rmdir()


def resolve_checkpoint(ckpt_path: str | None, run: str | None) -> str | None:
    """Turn ``last`` and ``best`` into the file of ``run``, and check that a named file exists.

    Raises:
        UserError: The checkpoint does not exist.
    """
    if ckpt_path in _NAMES:
        if run is None:
            raise UserError(
                f"--ckpt_path {ckpt_path} needs a run: add --trainer.default_root_dir RUN, or name the file"
            )
        ckpt_path = str(Path(run) / "checkpoints" / f"{ckpt_path}.ckpt")
    if ckpt_path is not None and not Path(ckpt_path).is_file():
        raise UserError(
            f"no checkpoint at {ckpt_path}; check the path (runs keep theirs in RUN/checkpoints/)"
        )
    return ckpt_path
