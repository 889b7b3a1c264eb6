"""One number of a paper, and what this code gives for it."""

import copy
import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from gansharing.networks import Network
from gansharing.setups import Adversarial
from gansharing.sharing import Split, split_of
from gansharing.tools.named import built

ROOT = Path(__file__).parents[1]
_NUMBER = re.compile(r"-?[\d,]*\.?\d+(?:e-?\d+)?")
_UNITS = {"%": 0.01, "k": 1e3, "M": 1e6, "G": 1e9}


@dataclass(frozen=True)
class Entry:
    """A number of a paper.

    Attributes:
        what: What is counted.
        where: Where the paper has it; "original code" where only that says it.
        paper: The number as it is printed: ``3,809,104``, ``6.574 M``, ``10 %``, ``[0.25, 0.5]``.
        ours: Computes it from a network's sizes or a configuration; None where this cannot be done.
        note: Why it differs, or cannot be derived; else what one should know.
        units: How large the paper's letters are.
        cut: The paper cuts digits off instead of rounding.
    """

    what: str
    where: str
    paper: str
    ours: Callable[[], Any] | None = None
    note: str = ""
    units: Mapping[str, float] | None = None
    cut: bool = False

    def judged(self) -> tuple[str, str]:
        """What this code gives, in the paper's digits, and ``exact``, ``differs`` or ``not derivable``.

        Raises:
            ValueError: It differs, or cannot be derived, and the entry does not say why.
        """
        if self.ours is None:
            found, verdict = "–", "not derivable"
        else:
            value = self.ours()
            found = self._printed(value)
            verdict = "exact" if found == self.paper else "differs"
            if isinstance(value, int | float) and (full := self._in_full(value)).rstrip("%") not in found:
                found += f" ({full})"
        if verdict != "exact" and not self.note:
            raise ValueError(f"{self.what}: {found}, the paper has {self.paper}; say why")
        return found, verdict

    def _printed(self, value: Any) -> str:
        """The value with as many digits and in the unit of the paper's number."""
        number = _NUMBER.search(self.paper)
        if isinstance(value, str | list | tuple | bool) or number is None:
            return str(value)
        unit = self.paper[number.end() :].strip()[:1]
        decimals = len(number[0].partition(".")[2])
        scaled = value / (self.units or _UNITS).get(unit, 1)
        if self.cut:
            scaled = math.floor(scaled * 10**decimals) / 10**decimals
        text = f"{scaled:,.{decimals}f}" if "," in number[0] or unit else f"{scaled:.{decimals}f}"
        return f"{self.paper[: number.start()]}{text}{self.paper[number.end() :]}"

    def _in_full(self, value: float) -> str:
        if isinstance(value, int):
            return f"{value:,}" if "," in self.paper or value >= 10_000 else str(value)
        return f"{100 * value:.4g}%" if "%" in self.paper else f"{value:.6g}"


def not_derivable(what: str, where: str, paper: str, why: str) -> Entry:
    """A number that only training, or data that are not here, could give."""
    return Entry(what, where, paper, None, why)


@cache
def _read(path: Path) -> Any:
    return _resolved(yaml.safe_load(path.read_text()), path.parent)


def _resolved(value: Any, folder: Path) -> Any:
    """The content of files that a configuration names in place of their names."""
    if isinstance(value, dict):
        return {key: _resolved(part, folder) for key, part in value.items()}
    if isinstance(value, list):
        return [_resolved(part, folder) for part in value]
    return _read(folder / value) if isinstance(value, str) and value.endswith(".yaml") else value


def _laid_over(below: Any, above: Any) -> Any:
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    if "class_path" in above and above["class_path"] != below.get("class_path", above["class_path"]):
        return above
    return below | {key: _laid_over(below.get(key), part) for key, part in above.items()}


def config(*names: str) -> dict[str, Any]:
    """Experiments laid over one another: ``config("adafm/base", "adafm/our")``."""
    found: Any = {}
    for name in names:
        found = _laid_over(found, copy.deepcopy(_read(ROOT / f"{name}.yaml")))
    return found


def setting(key: str, *names: str) -> Callable[[], Any]:
    """A value of a configuration: ``setting("model.optimizer_g.lr", "adafm/base")``; a list's by position."""

    def find() -> Any:
        value: Any = config(*names)
        for part in key.split("."):
            inside = value.get("init_args", {}) if isinstance(value, dict) else {}
            value = value[int(part)] if isinstance(value, list) else inside.get(part, value.get(part))
        return value

    return find


def network(key: str, *names: str) -> Network:
    """A network of a configuration, sizes alone."""
    return built(setting(key, *names)())


def divided(network_key: str, sharing_key: str, *names: str) -> Split:
    """A network of a configuration, divided as it says."""
    return built(setting(sharing_key, *names)()).apply(network(network_key, *names))


def size(one: Network) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in one.parameters())


def default_steps() -> int:
    """Discriminator steps a generator step where a configuration names none."""
    return inspect.signature(Adversarial).parameters["discriminator_steps"].default


def trained(network_key: str, sharing_key: str, *names: str) -> Callable[[], int]:
    """How many parameters a transfer trains."""
    return lambda: divided(network_key, sharing_key, *names).domain_size


def owned(one: Network) -> int:
    """How many parameters a domain owns of a divided network."""
    return split_of(one).domain_size
