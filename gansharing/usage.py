"""What the command line says: its overview, and errors that name the nearest right word."""

import argparse
import difflib
import inspect
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

from gansharing.errors import UserError
from gansharing.networks.base import Network

OVERVIEW = """\
gansharing: train GANs that share weights, from a folder of images to a scored generator.

Train and evaluate (YAML files and options; --print_config shows every option with its value)
  gansharing fit                                   embedded emoji, Spectral Style-DCGAN, scored
  gansharing fit --data.path FOLDER                your images: a folder, a zip or parquet files
  gansharing fit --config a.yaml --config b.yaml   b laid over a; --model.x=1 laid over both
  gansharing fit ... --ckpt_path last              continue where the run was stopped or killed
  gansharing validate|test --ckpt_path RUN/checkpoints/best.ckpt
  gansharing predict --ckpt_path CKPT --predictions.seeds 0-99

Use what was trained (needs neither data nor configuration)
  gansharing sample CKPT --seeds 0-63 --out DIR    numbered PNG and a grid
  gansharing interpolate CKPT --seeds 1,7,3        a walk through latent space: strip and GIF
  gansharing score A B                             FID, KID, ... of a folder or a model against a folder
  gansharing inspect FILE ...                      parameters per stage of a config or a checkpoint
  gansharing export CKPT --out G.safetensors       weights that rebuild their network, without pickle
  gansharing import SRC --format ssd --out G.safetensors   checkpoints of original repositories
  gansharing data list|prepare|emoji4              known data sets; decode a folder once; four emoji styles

Every command has --help (gansharing fit --help, gansharing fit --model.help Adversarial, ...).
A run lives in runs/NAME-001: config.yaml results.json curves.png images/ checkpoints/ csv/ tensorboard/
GANSHARING_CACHE sets where decoded images and features are kept, GANSHARING_TRACEBACK=1 shows tracebacks.
"""


def unknown_command(word: str, known: Iterable[str]) -> str:
    """One line for a command that does not exist."""
    return f"unknown command '{word}'{_nearest(word, known)}; 'gansharing --help' lists them all"


def _nearest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f", did you mean '{close[0]}'?" if close else ""


def known_keys(parser: argparse.ArgumentParser) -> set[str]:
    """Every key a configuration may hold: the parser's options, and arguments of classes it can name."""
    keys = {action.dest for action in parser._actions if action.dest not in ("help", "==SUPPRESS==")}
    for classes in _class_trees():
        for cls in classes:
            keys |= {name for name in inspect.signature(cls).parameters if name not in ("args", "kwargs")}
    return keys


def _class_trees() -> list[list[type]]:
    from lightning.pytorch import LightningDataModule, LightningModule

    from gansharing.objectives import AdversarialLoss, Regularizer

    def tree(cls: type) -> list[type]:
        children: list[type] = cls.__subclasses__()
        found = [cls, *(deeper for child in children for deeper in tree(child))]
        return [c for c in found if c.__module__.startswith("gansharing")]

    return [
        tree(cls) for cls in (Network, LightningModule, LightningDataModule, AdversarialLoss, Regularizer)
    ]


_UNKNOWN = (
    r"(?:does not accept option|Option) '([\w.\-]+)'",
    r"Key '([\w.\-]+)' is not expected",
    r"No action for key \"([\w.\-]+)\"",
    r"[Uu]nrecognized arguments: --([\w.\-]+)",
    r"Group '[\w.]+' does not accept nested key '([\w.\-]+)'",
)


def readable(message: str, known: set[str]) -> str:
    """Turn jsonargparse's message into one line; name the nearest known key where one is misspelt.

    Args:
        message: The parser's message, possibly of many lines.
        known: Keys from :func:`known_keys`, dotted or not.
    """
    for pattern in _UNKNOWN:
        if match := re.search(pattern, message):
            word = match[1]
            last = word.rpartition(".")[2]
            candidates = known if "." in word else {key.rpartition(".")[2] for key in known}
            hint = _nearest(word, candidates) or _nearest(last, {key.rpartition(".")[2] for key in known})
            return f"there is no option '{word}'{hint} (--print_config lists all)"
    return _innermost(message)[:600]


def _innermost(message: str) -> str:
    # jsonargparse nests "Does not validate against any of ... Errors: - ..."; only the innermost is about
    # what the user wrote, the others say that a class was not null or not another class.
    lines = [line.strip(" -") for line in message.splitlines() if line.strip(" -")]
    for line in lines:
        if line.startswith("there is no option"):
            return line
    telling = [
        line for line in lines if "NoneType" not in line and not line.endswith(("Errors:", "subtypes"))
    ]
    text = " ".join(telling[:3] or lines)
    return re.sub(r'Parser key "([^"]+)":', r"option '\1':", text)


def with_config_of_checkpoint(args: list[str], carried: Callable[[str], dict[str, Any]]) -> list[str]:
    """Let ``validate``, ``test`` and ``predict`` take their configuration from the checkpoint.

    Args:
        args: The command line.
        carried: Reads the configuration that a checkpoint carries.

    Returns:
        ``args``, with ``--config`` of a temporary nature replaced by explicit ``--model`` and ``--data``
        values when the user gave ``--ckpt_path`` but neither ``--config`` nor ``--model``.
    """
    if not args or args[0] == "fit" or any(a.split("=")[0] in ("-c", "--config", "--model") for a in args):
        return args
    path = _option(args, "--ckpt_path")
    if path in ("last", "best"):
        run = _option(args, "--trainer.default_root_dir")
        path = str(Path(run) / "checkpoints" / f"{path}.ckpt") if run else None
    if path is None:
        return args
    config = carried(path)
    kept = {
        key: config[key] for key in ("seed_everything", "model", "data", "scores", "ema") if key in config
    }
    return [args[0], "--config", yaml.safe_dump(kept), *args[1:]]


def _option(args: list[str], name: str) -> str | None:
    for position, arg in enumerate(args):
        if arg == name and position + 1 < len(args):
            return args[position + 1]
        if arg.startswith(f"{name}="):
            return arg.partition("=")[2]
    return None


def check_choice(name: str, value: str, known: Iterable[str]) -> None:
    """Refuse a word that is not one of ``known``.

    Raises:
        UserError: With the nearest right word.
    """
    known = list(known)
    if value not in known:
        raise UserError(
            f"{name} '{value}' is not known{_nearest(value, known)}; use one of {', '.join(known)}"
        )
