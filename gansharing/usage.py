"""What the command line says: its overview, and errors that name the nearest right word."""

import argparse
import difflib
import inspect
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule, LightningModule

from gansharing import _jsonargparse  # noqa: F401  (a class brings its own defaults)
from gansharing.errors import UserError
from gansharing.networks.base import Network
from gansharing.objectives import AdversarialLoss, Regularizer

#: What an evaluation takes from a checkpoint's configuration.
CARRIED = ("seed_everything", "model", "data", "scores", "ema")

OVERVIEW = """\
gansharing: train GANs that share weights, from a folder of images to a scored generator.

Train and evaluate (YAML files and options; --print_config shows every option with its value)
  gansharing fit                                   embedded emoji, Spectral Style-DCGAN, scored
  gansharing fit --data.path FOLDER                your images: a folder, a zip or parquet files
  gansharing fit --config a.yaml --config b.yaml   b laid over a; --model.x=1 laid over both
  gansharing fit ... --ckpt_path last              continue where the run was stopped or killed
  gansharing fit --model Transfer ...              a trained pair to new data, with 10 % of its weights: see
                                                   experiments/width_wise and docs/width_wise.md
  gansharing experiments                           the papers' configurations, written to ./experiments
  gansharing slurm a.yaml --nodes 2 --submit       a batch script that survives preemption; --sweep: job array
  gansharing validate|test --ckpt_path RUN/checkpoints/best.ckpt
  gansharing predict --ckpt_path CKPT --predictions.seeds 0-99

Use what was trained (needs neither data nor configuration)
  gansharing sample CKPT --seeds 0-63 --out DIR    numbered PNG and a grid; --width 0.25,1: a row a width
  gansharing interpolate CKPT --seeds 1,7,3        a walk through latent space (z or w): strip and GIF
  gansharing mix CKPT --rows 0-3 --columns 5-9     style mixing; gansharing truncation CKPT: psi from -1 to 1
  gansharing project CKPT FACE.png ...             the latent of a real image, with a before/after picture
  gansharing explore MODEL DELTA ...               a local page: seeds, walks, mixing, domains, widths
  gansharing score A B                             FID, KID, ... of a folder or a model against a folder
  gansharing report RUN ... --out R.html           runs in the papers' tables, curves, grids; also .md, .csv
  gansharing inspect FILE ...                      parameters per stage of a config or a checkpoint
  gansharing modulation RUN DELTA ...              what AdaFM made of the filters: box plots, sorted scales
  gansharing export CKPT --out G.safetensors       weights that rebuild their network, without pickle;
                                                   --delta: only those that a transfer's domain owns;
                                                   --deltas: what many domains share, and a delta for each;
                                                   --format onnx|torch-export; --width 0.5: a width alone
  gansharing import SRC --format stylegan2-ada --out G.safetensors   published weights: NVIDIA's .pkl, also
                                                   rosinality, fastgan, mimicry, ...: import --help
  gansharing data list|prepare|shard|emoji4        known data sets; decode a folder once; write it as tar
                                                   shards; four emoji styles

Every command has --help (gansharing fit --help, gansharing fit --model.help Adversarial, ...), and takes
--import MODULE for networks, sharings and setups of your own (docs/extending).
A run lives in runs/NAME-001: config.yaml results.json curves.png images/ checkpoints/ csv/ tensorboard/
GANSHARING_CACHE sets where decoded images and features are kept, GANSHARING_TRACEBACK=1 shows tracebacks.
"""


def unknown_command(word: str, known: Iterable[str]) -> str:
    """One line for a command that does not exist."""
    return f"unknown command '{word}'{_nearest(word, known)}; 'gansharing --help' lists them all"


def _nearest(word: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    close = difflib.get_close_matches(word, sorted(known), n=1, cutoff=cutoff)
    return f", did you mean '{close[0]}'?" if close else ""


class OneLineErrors:
    """Makes a jsonargparse parser raise its errors as a :class:`UserError` of one line.

    Attributes:
        lists_all: The option that lists what may be written.
    """

    lists_all = "--print_config"

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Raise the message as a :class:`UserError`."""
        raise UserError(readable(message, self)) from ex


class ToolParser(OneLineErrors, ArgumentParser):  # type: ignore[misc]
    """Parser of the commands that are no trainer verbs; a shortened option is an error, not a guess."""

    lists_all = "--help"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**({"allow_abbrev": False, "exit_on_error": False} | kwargs))
        # argparse takes "-1,0.5" for an option; a list of numbers is a value, as a negative number is.
        self._negative_number_matcher = re.compile(r"-\.?\d[-\d.,]*$")


def root_cause(error: BaseException) -> BaseException:
    """The error that began it all: what a constructor raised, below the wrappers of jsonargparse."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def check_config_files(args: list[str]) -> None:
    """See that every file given by ``--config`` holds a YAML mapping.

    Raises:
        UserError: A file is missing or holds something else; with the line, where YAML names one.
    """
    for path in _config_files(args):
        if not Path(path).is_file():
            raise UserError(f"no configuration file {path}; check the path")
        try:
            content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            mark = getattr(error, "problem_mark", None)
            place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
            problem = getattr(error, "problem", None) or "no text file"
            raise UserError(f"{path} is no YAML{place}: {problem}") from error
        if not isinstance(content, dict):
            kind = "nothing" if content is None else f"a {type(content).__name__}"
            raise UserError(f"{path} holds {kind}; a configuration is 'key: value' lines (--print_config)")


def file_of_key(args: list[str], message: str) -> str:
    """Which ``--config`` file holds the option that ``message`` calls unknown, as `` (in FILE)``."""
    match = re.match(r"there is no option '([\w.\-]+)'", message)
    for path in _config_files(args):
        if match and _holds(yaml.safe_load(Path(path).read_text()), match[1].split(".")):
            return f" (in {path})"
    return ""


def _config_files(args: list[str]) -> list[str]:
    given = _options(args, "--config") + _options(args, "-c")
    return [text for text in given if "\n" not in text and "{" not in text]  # a mapping itself is no file


def _holds(content: Any, keys: list[str]) -> bool:
    if not keys:
        return True
    if not isinstance(content, dict):
        return False
    return _holds(content.get("init_args"), keys) or (
        keys[0] in content and _holds(content[keys[0]], keys[1:])
    )


_UNKNOWN = (
    r"(?:does not accept option|Option) '([\w.\-]+)'",
    r"Key '([\w.\-]+)' is not expected",
    r"No action for key \"([\w.\-]+)\"",
    r"[Uu]nrecognized arguments: --([\w.\-]+)",
    r"Group '[\w.]+' does not accept nested key '([\w.\-]+)'",
)
# The text of this module, when an inner parser's error comes back inside the outer one's.
_DONE = r"there is no option '([\w.\-]+)'.*|option '([\w.\-]+)': .*"
_CLASS = r"(?:Expected a dot import path string: |Import path |Problem with given class_path ')([\w.\-/]+)"


def readable(message: str, parser: Any) -> str:
    """Turn jsonargparse's message into one line; name the nearest right word where one is misspelt.

    Args:
        message: The parser's message, possibly of many lines.
        parser: The parser that met the error; it knows the words.
    """
    key = match[1] if (match := re.search(r'Parser key "([^"]+)"', message)) else ""
    if done := re.search(_DONE, message):
        return re.sub(
            r"option '([\w.\-]+)'", rf"option '{key}.\1'" if key else r"option '\1'", done[0], count=1
        )
    for pattern in _UNKNOWN:
        if match := re.search(pattern, message):
            hint = _nearest_key(match[1], parser)
            return f"there is no option '{match[1]}'{hint} ({parser.lists_all} lists all)"
    if match := re.search(_CLASS, message):
        return f"option '{key}': {_wrong_class(match[1], _classes_for(parser, key))}"
    text = _plain(
        message.removeprefix(match[0]) if (match := re.match(r'Parser key "[^"]+":', message)) else message
    )
    return (f"option '{key}': {text}" if key else text)[:600]


def _plain(message: str) -> str:
    # "Does not validate against any of the Union subtypes ... Errors: - a - b": the first that is not
    # about null; what follows repeats the value.
    lines = [line.strip(" -") for line in message.splitlines() if line.strip(" -")]
    telling = [line for line in lines if line.startswith("Expected") and "NoneType" not in line] or lines
    if all("Literal[" in line for line in telling):
        telling = [
            f"Expected a typing.Literal[{', '.join(re.findall(r'Literal.(.*?)]', ' '.join(telling)))}]"
        ]
    text = " or ".join(telling) if len(telling) < 3 else telling[0]
    if given := re.search(r"(?:Got value|Given value): (.+)", message):
        text = f"{text.partition(' Got value')[0].rstrip('.')}, got '{given[1].strip()}'"
    text = re.sub(r"Expected an? typing\.Literal\[(.*?)\]", r"expected one of \1", text)
    return re.sub(r"Expected an? <class '(\w+)'>", r"expected \1", text)


def _wrong_class(word: str, bases: list[type]) -> str:
    fitting = [
        cls for base in bases for cls in _tree(base) if cls not in bases and not inspect.isabstract(cls)
    ]
    what = f"is no {bases[0].__name__}" if bases else "is no class that fits here"
    hint = _nearest(word.rpartition(".")[2], {cls.__name__ for cls in fitting})
    # Whatever else is imported is known too, but only the project's own are listed.
    own = sorted({cls.__name__ for cls in fitting if cls.__module__.startswith("gansharing.")})
    return f"'{word}' {what}{hint}" + (f"; use one of {', '.join(own)}" if 0 < len(own) <= 24 else "")


def _classes_for(parser: Any, key: str) -> list[type]:
    action = next((action for action in _actions(parser) if action.dest == key), None)
    waiting, found = [getattr(action, "_typehint", None)], []
    while waiting:
        hint = waiting.pop(0)
        waiting += get_args(hint)
        if isinstance(hint, type) and hint.__module__ not in ("builtins", "types"):
            found.append(hint)
    return found


def _tree(cls: type) -> list[type]:
    children: list[type] = cls.__subclasses__()
    return [cls] + [deeper for child in children for deeper in _tree(child)]


def _actions(parser: Any) -> list[argparse.Action]:
    # Those of the verbs too: a key from a configuration file is refused by the outermost parser.
    inner = [
        p for action in parser._actions if isinstance(action.choices, dict) for p in action.choices.values()
    ]
    return [*parser._actions, *(action for p in inner if hasattr(p, "_actions") for action in _actions(p))]


def _nearest_key(word: str, parser: Any) -> str:
    """The nearest of the parser's own options; beyond them, of the arguments of the classes it can name."""
    own = {action.dest for action in _actions(parser) if action.dest not in ("help", "==SUPPRESS==")}
    first, _, last = word.partition(".")
    sections = {name.partition(".")[0] for name in own}
    if last and first not in sections and (close := difflib.get_close_matches(first, sections, n=1)):
        return f", did you mean '{close[0]}.{last}'?"
    siblings = {name for name in own if name.rpartition(".")[0] == word.rpartition(".")[0]}
    return (
        _nearest(word, siblings, 0.7)
        or _nearest(word, own, 0.7)
        or _nearest(word, _arguments_of_classes(), 0.7)
    )


def _arguments_of_classes() -> set[str]:
    bases = (Network, LightningModule, LightningDataModule, AdversarialLoss, Regularizer)
    classes = [cls for base in bases for cls in _tree(base) if cls.__module__.startswith("gansharing")]
    names = {name for cls in classes for name in inspect.signature(cls).parameters}
    return names - {"args", "kwargs"}


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
    kept = {key: config[key] for key in CARRIED if key in config}
    return [args[0], "--config", yaml.safe_dump(kept), *args[1:]]


def _option(args: list[str], name: str) -> str | None:
    return next(iter(_options(args, name)), None)


def _options(args: list[str], name: str) -> list[str]:
    following = [after for arg, after in zip(args, args[1:], strict=False) if arg == name]
    return following + [arg.partition("=")[2] for arg in args if arg.startswith(f"{name}=")]


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
