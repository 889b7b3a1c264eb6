"""What finished runs have left in their folders: their scores, and of which method and data they are."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from gansharing.errors import UserError
from gansharing.slimmable import SlimmableGenerator
from gansharing.slimmable.costs import costs, macs
from gansharing.tools.named import built

_SEED = re.compile(r"([-_](s|seed)\d+|-\d{3,})$")
# Of the section ``data``: which images these are. The rest of it is the method's.
_DATA = ("path", "domains", "fraction", "subset", "resolution")
_PLACES = ("seed", "num_workers")  # neither: they change no result but by chance
_STEM = 80  # characters of a folder's name that a table has room for


class Run:
    """One run's folder: ``results.json`` and ``config.yaml``, nothing else.

    Args:
        folder: The run's folder.

    Raises:
        UserError: One of the files is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results = _mapping(folder / "results.json", json.loads)
        self.config = _mapping(folder / "config.yaml", yaml.safe_load)
        missing = [key for key in ("status", "steps", "history", "parameters") if key not in self.results]
        if missing:
            raise UserError(f"{folder / 'results.json'} has no {missing[0]}; is this the folder of a run?")

    @property
    def stem(self) -> str:
        """The folder's name without its seed or number."""
        return _SEED.sub("", self.folder.name)[:_STEM]

    @property
    def seed(self) -> int:
        """The seed of the training."""
        return int(self.results.get("seed", 0))

    @property
    def protocol(self) -> Mapping[str, Any]:
        """How the scores were taken."""
        return self.results.get("protocol") or {}

    @property
    def extractor(self) -> str:
        """What follows the names of the scores: nothing for Inception's."""
        name = self.protocol.get("extractor", "inception")
        return "" if name == "inception" else f"_{name}"

    @property
    def model(self) -> Mapping[str, Any]:
        """The arguments of the setup."""
        return (self.config.get("model") or {}).get("init_args") or {}

    @property
    def data(self) -> Mapping[str, Any]:
        """The arguments of the data module."""
        return (self.config.get("data") or {}).get("init_args") or {}

    @property
    def data_key(self) -> str:
        """The same for runs on the same images."""
        return json.dumps({key: self.data.get(key) for key in _DATA}, sort_keys=True, default=str)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Options that make the method, flat: the same for runs that differ in their seed or data alone."""
        data = {k: v for k, v in self.data.items() if k not in (*_DATA, *_PLACES)}
        given = self.config.get("trainer") or {}
        trainer = {key: given.get(key) for key in ("max_steps", "max_epochs", "precision", "callbacks")}
        model = dict(self.config.get("model") or {})
        arguments = {k: _source(v) if k.startswith("source") else v for k, v in self.model.items()}
        return dict(
            _flat({"model": {**model, "init_args": arguments}, "data": data, "trainer": trainer,
                   "ema": self.config.get("ema")})
        )  # fmt: skip

    @property
    def views(self) -> dict[str, str]:
        """What the run is scored as: title of a column, and what follows the names of its scores.

        A slimmable generator has a column for each width, several domains one for each.
        """
        domains, widths = self.results.get("domains"), self._widths()
        if domains:
            return {name: f"/{name}" for name in domains} | {"mean of domains": ""}
        return {f"{width:g}×": "" if width == 1 else f"/{width:g}" for width in widths} or {"": ""}

    def _widths(self) -> list[float]:
        name = f"fid{self.extractor}/"
        entries = self.results["history"]
        found = {key.removeprefix(name) for entry in entries for key in entry if key.startswith(name)}
        return [*sorted(map(float, found)), 1.0] if found and not self.results.get("domains") else []

    def curve(self, score: str, suffix: str = "") -> dict[int, float]:
        """A score by step, where it is a finite number."""
        name = f"{score}{self.extractor}{suffix}"
        found = {int(entry["step"]): entry.get(name) for entry in self.results["history"]}
        return {at: value for at, value in found.items() if value is not None and math.isfinite(value)}

    @cached_property
    def operations(self) -> dict[str, int]:
        """Multiply-accumulate operations of an image by column, of a generator that the package knows."""
        try:
            generator = built(_generator(self.config, self.folder, set()))
        except UserError:
            return {}
        if isinstance(generator, SlimmableGenerator):
            return {f"{cost.width:g}×": cost.macs for cost in costs(generator)}
        return dict.fromkeys(self.views, macs(generator))


@dataclass(frozen=True)
class Division:
    """What a domain owns of a generator; nothing of it where the network is not divided."""

    domain: int | None = None
    learn_ratio: float | None = None
    delta_bytes: int | None = None

    @classmethod
    def of(cls, run: Run) -> "Division":
        """That of a run."""
        found = (run.results.get("sharing") or {}).get("generator") or {}
        return cls(found.get("domain"), found.get("learn_ratio"), found.get("delta_bytes"))


def read_runs(paths: Iterable[str]) -> list[Run]:
    """The runs in these folders; a folder that is no run itself stands for the runs in it.

    A run that is named twice, however it is spelled, counts once.

    Raises:
        UserError: A folder is missing, holds no run, or a damaged one.
    """
    folders: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            raise UserError(f"there is no folder {path}; name folders of runs, such as runs/demo-001")
        inside = [path] if (path / "results.json").is_file() else []
        inside = inside or sorted(file.parent for file in path.glob("*/results.json"))
        if not inside:
            raise UserError(f"{path} holds no results.json, nor does a folder in it; name folders of runs")
        folders += inside
    distinct: dict[Path, Path] = {}
    for folder in folders:
        distinct.setdefault(folder.resolve(), folder)
    return [Run(folder) for folder in distinct.values()]


def _mapping(path: Path, read: Any) -> dict[str, Any]:
    try:
        found = read(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; every run leaves it") from error
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} is damaged; train the run again, or leave it out") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no mapping; is it a run's?")
    return found


def _source(path: Any) -> str | None:
    # Which source it is, but neither on which machine nor of which seed.
    folder = re.sub(r"/checkpoints/[^/]*$", "", str(path))
    return None if path is None else _SEED.sub("", folder.rpartition("/")[2])


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in tree.items():
        name = prefix if key == "init_args" else f"{prefix}.{key}".strip(".")
        if isinstance(value, Mapping):
            yield from _flat(value, name)
        else:
            yield name, json.dumps(value, default=str)


def _generator(config: Mapping[str, Any], folder: Path, seen: set[Path]) -> Mapping[str, Any]:
    """What the configuration, or that of the run it starts from, says of the generator."""
    arguments = (config.get("model") or {}).get("init_args") or {}
    game = arguments.get("game") or {}
    found = (
        arguments.get("target")
        or arguments.get("generator")
        or (game.get("init_args") or {}).get("generator")
    )
    if found:
        return found
    source = Path(re.sub(r"/checkpoints/[^/]*$", "", str(arguments.get("source"))))
    if source in seen or not (source / "config.yaml").is_file():
        raise UserError(f"{folder} does not say which generator it is")
    return _generator(_mapping(source / "config.yaml", yaml.safe_load), source, {*seen, source})
