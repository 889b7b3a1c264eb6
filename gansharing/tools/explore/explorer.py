"""What the page's controls do, without the page."""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from gansharing.errors import UserError
from gansharing.latent import Projection, excited, has_content, has_styles, still
from gansharing.metrics.perceptual import build_distance
from gansharing.networks import Generator
from gansharing.seeds import parse_seeds
from gansharing.slimmable import SlimmableGenerator
from gansharing.tools.explore.menu import Menu
from gansharing.tools.project import Space, find
from gansharing.tools.render import Look, Renderer
from gansharing.tools.sample import walk_between
from gansharing.tools.style import Ingredients, mixture
from gansharing.tools.targets import Target, target_of
from gansharing.tools.widths import cut_out

MOST_SEED = 2**32 - 1
MOST_IMAGES = 16
MOST_STATIONS = 12
MOST_FRAMES = 240
MOST_STEPS = 1000
MOST_BYTES = 10_000_000
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
PSI = (-1.0, 1.5)
_COARSE = 4  # layers that are mixed by default, as gansharing mix does: pose and shape
_TEXT = 200  # characters of a list of seeds


@dataclass(frozen=True)
class Setting:
    """What holds for every picture of the page; None is the first domain, the full width, no truncation.

    Attributes:
        domain: Name of one of the menu.
        width: Share of the channels; the nearest trained one is taken.
        truncation: Psi.
        label: Class index.
    """

    domain: str | None = None
    width: float | None = None
    truncation: float | None = None
    label: int | None = None


class Explorer:
    """Generators of one architecture, and what can be asked of them.

    Every value may come from anywhere: what is wrong is refused in one line.

    Args:
        menu: The generators.

    Attributes:
        names: The domains.
        resolution: Height and width of the images, px.
        classes: How many there are to choose from; 0 for a network without.
        widths: Trained widths, ascending; empty for a network that has but one.
        truncates: Whether there is truncation.
        layers: How many layers can be mixed; 0 for a network that cannot.
        coarse: Layers that are mixed by default.
        walks: Spaces that one can walk in.
        spaces: Spaces that an image can be looked for in.
    """

    def __init__(self, menu: Menu) -> None:
        base = menu.base
        self.menu, self.names = menu, menu.names
        self.resolution, self.classes = base.resolution, base.classes
        self.widths = list(base.widths) if isinstance(base, SlimmableGenerator) else []
        self.truncates = "truncation" in base.options()
        self.walks = ["z", "w"] if has_styles(base) else ["z"]
        self.spaces = ["w", "w+", "z"] if has_styles(base) else ["z"]
        self._narrow: dict[tuple[str, float], Generator] = {}
        self._turn = threading.Lock()
        self.layers, self.coarse = self._mixing()

    def _mixing(self) -> tuple[int, list[int]]:
        network = self.menu.base
        if (maps := excited(network)) is not None:
            count = len(maps.excited)
            return count, list(range(min(1, count - 1), count))
        if not (has_styles(network) or has_content(network)):
            return 0, []
        renderer = self.renderer(Setting(label=0 if self.classes else None))
        count = Ingredients.of(renderer, [0]).styles.shape[1]
        return count, list(range(count if not has_styles(network) else min(_COARSE, count)))

    def renderer(self, setting: Setting) -> Renderer:
        """The generator of a setting, with what makes an image a function of its latent.

        Raises:
            UserError: The networks do not have what the setting asks for.
        """
        name = self.names[0] if setting.domain is None else _one_of(setting.domain, self.names)
        network = self.menu.generator(name)
        width, psi = self.width(setting.width), setting.truncation
        if width is not None and width < 1:
            network = self._cut(name, cast(SlimmableGenerator, network), width)
        if psi is not None:
            psi = _number(psi, "truncation", *PSI)
        label = None if setting.label is None else _whole(setting.label, "class", 0, max(0, self.classes - 1))
        return Renderer(network, Look(truncation=psi, label=label, **still(network)))

    def width(self, asked: float | None) -> float | None:
        """The trained width nearest to one that is asked for; None without widths.

        Raises:
            UserError: It is no share of the channels.
        """
        if asked is None or not self.widths:
            return None
        wanted = _number(asked, "width", self.widths[0], 1)
        return min(self.widths, key=lambda width: abs(width - wanted))

    def _cut(self, name: str, network: SlimmableGenerator, width: float) -> Generator:
        if (name, width) not in self._narrow:
            self._narrow = {k: v for k, v in self._narrow.items() if k[0] == name}  # those of one domain
            self._narrow[name, width] = cut_out(network, width)
        return self._narrow[name, width]

    def images(self, setting: Setting, seed: Any, count: Any = 1) -> Tensor:
        """Images of ``count`` seeds from ``seed`` on: uint8 ``(count, 3, H, W)``.

        Raises:
            UserError: As :meth:`renderer`, or the numbers are none or too large.
        """
        number = _whole(count, "number of images", 1, MOST_IMAGES)
        first = _whole(seed, "seed", 0, MOST_SEED - number + 1)
        with self._turn:
            return self.renderer(setting).of_seeds(list(range(first, first + number)))

    def walk(
        self, setting: Setting, seeds: Any, steps: Any = 8, space: Any = "z", loop: bool = True
    ) -> Tensor:
        """Frames of a walk from seed to seed: uint8 ``(T, 3, H, W)``.

        Args:
            setting: As for every picture.
            seeds: A list such as ``1,7,3``, the stations.
            steps: Frames from one station to the next.
            space: One of :attr:`walks`.
            loop: Return to the first.

        Raises:
            UserError: As :meth:`renderer`, or the walk is too long or none.
        """
        stations = _seeds(seeds, MOST_STATIONS)
        number = _whole(steps, "frames per stretch", 1, MOST_FRAMES)
        if number * len(stations) > MOST_FRAMES:
            raise UserError(
                f"{len(stations)} stations of {number} frames each are more than {MOST_FRAMES}; choose fewer"
            )
        with self._turn:
            return walk_between(
                self.renderer(setting), stations, number, _one_of(space, self.walks), loop=bool(loop)
            )

    def mix(self, setting: Setting, seed: Any, other: Any, layers: Sequence[Any]) -> Tensor:
        """The image of a seed, that of another, and the first with some layers of the other.

        Args:
            setting: As for every picture.
            seed: Of the image that is changed.
            other: Of the image that the layers come from.
            layers: Their numbers from 0.

        Returns:
            uint8 ``(3, 3, H, W)``.

        Raises:
            UserError: As :meth:`renderer`, or the network cannot mix, or has no such layers.
        """
        if not self.layers:
            raise UserError("this network has no styles to mix")
        if not isinstance(layers, list) or not layers:
            raise UserError("no layer is chosen; take at least one from the second seed")
        chosen = [_whole(layer, "layer", 0, self.layers - 1) for layer in layers]
        down, across = _whole(seed, "first seed", 0, MOST_SEED), _whole(other, "second seed", 0, MOST_SEED)
        with self._turn:
            upper, lines, _ = mixture(
                self.renderer(setting), [down], [across], ",".join(map(str, sorted(set(chosen))))
            )
        return torch.stack([lines[0][0], upper[0], lines[0][1]])

    def domains(self, setting: Setting, seeds: Any) -> Tensor:
        """Every domain with the same seeds: uint8 ``(domains, seeds, 3, H, W)``.

        Raises:
            UserError: As :meth:`renderer`, or there are too many seeds or none.
        """
        numbers = _seeds(seeds, MOST_IMAGES)
        rows = []
        for name in self.names:
            with self._turn:
                own = Setting(name, setting.width, setting.truncation, setting.label)
                rows.append(self.renderer(own).of_seeds(numbers))
        return torch.stack(rows)

    def invert(
        self,
        setting: Setting,
        path: str | Path | None,
        steps: Any = 100,
        space: Any = None,
        on_step: Callable[[int, float], None] = lambda step, distance: None,
    ) -> tuple[Target, Projection]:
        """Look for the latent of a real image.

        Args:
            setting: As for every picture; truncation has no part in it.
            path: The image's file, PNG, JPEG or WebP.
            steps: Of the optimisation.
            space: One of :attr:`spaces`, the first by default.
            on_step: Called after every step with its number and the distance.

        Raises:
            UserError: As :meth:`renderer`, or the file is too large, no image or damaged.
        """
        number = _whole(steps, "steps", 1, MOST_STEPS)
        where = cast(Space, _one_of(self.spaces[0] if space is None else space, self.spaces))
        target = self._target(path)
        with self._turn:
            renderer = self.renderer(Setting(setting.domain, setting.width, None, setting.label))
        return target, find(renderer, target.image, build_distance(), where, number, on_step=on_step)

    def _target(self, path: str | Path | None) -> Target:
        if path is None:
            raise UserError("no image: drop a PNG, JPEG or WebP file first")
        file = Path(path)
        if file.suffix.lower() not in SUFFIXES:
            raise UserError(f"{file.name} is none of {', '.join(SUFFIXES)}")
        if file.is_file() and file.stat().st_size > MOST_BYTES:
            raise UserError(f"{file.name} is larger than {MOST_BYTES // 1_000_000} MB; make it smaller")
        return target_of(file.name, Path(file.name), file.read_bytes, self.resolution)


def _number(value: Any, what: str, low: float, high: float) -> float:
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not low <= number <= high:
        raise UserError(f"{what} is {_shown(value)}; give a number from {low:g} to {high:g}")
    return float(number)


def _whole(value: Any, what: str, low: int, high: int) -> int:
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not (low <= number <= high and number == int(number)):
        raise UserError(f"{what} is {_shown(value)}; give a whole number from {low} to {high}")
    return int(number)


def _seeds(text: Any, most: int) -> list[int]:
    text = text.strip() if isinstance(text, str) else text
    if not isinstance(text, str) or not 0 < len(text) <= _TEXT:
        raise UserError(f"seeds are {_shown(text)}; write at most {most} such as 1,7,3 or 0-7")
    numbers = parse_seeds(text)
    if len(numbers) > most or max(numbers) > MOST_SEED:
        raise UserError(f"seeds are {_shown(text)}; give at most {most}, none above {MOST_SEED}")
    return numbers


def _one_of(value: Any, known: Sequence[str]) -> Any:
    if value not in known:
        raise UserError(f"{_shown(value)} is none of {_shown(', '.join(known), 120)}")
    return value


def _shown(value: Any, most: int = 40) -> str:
    text = "missing" if value is None or value == "" else str(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."
