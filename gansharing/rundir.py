"""Where a run lives on disk."""

import os
from pathlib import Path

from gansharing.errors import UserError

# Processes that Lightning launches run the whole program again and must find the first one's choice.
_INHERITED = "GANSHARING_RUN_DIR"
_NAMES = ("last", "best")


def choose_run_dir(given: str | None, name: str, ckpt_path: str | None) -> Path:
    """The folder of a training run.

    Args:
        given: ``trainer.default_root_dir``, if the user set it.
        name: What to call a new run under ``runs/``.
        ckpt_path: ``--ckpt_path``; ``last`` continues the newest run of that name.

    Returns:
        ``given``, or ``runs/NAME-001``, ``-002``, ...; a new one, unless the run is resumed.

    Raises:
        UserError: ``given`` already holds a run that is not being resumed.
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
    else:
        existing = sorted(path for path in Path("runs").glob(f"{name}-[0-9][0-9][0-9]") if path.is_dir())
        number = int(existing[-1].name[-3:]) if existing else 0
        folder = existing[-1] if resuming and existing else Path("runs") / f"{name}-{number + 1:03d}"
    os.environ[_INHERITED] = str(folder.resolve())
    return folder


def forget_run_dir() -> None:
    """End of the program: a further one in the same process chooses anew."""
    os.environ.pop(_INHERITED, None)


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
