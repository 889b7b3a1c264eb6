"""The generators that one page shows: a base, deltas of it, other networks of its architecture."""

import copy
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

from gansharing.checkpoints import find_checkpoint, kind_of, load, load_base, read_checkpoint, read_delta
from gansharing.errors import UserError
from gansharing.networks import Generator, Network
from gansharing.sharing import Delta, apply_delta, merged
from gansharing.tools.domains import distinct

_READY = 4  # generators kept beside the base: a click on one of many domains should not fill the memory

Make = Callable[[], Generator]


class Menu:
    """Generators of one architecture by name, made when they are asked for.

    The base is held once, and divided once a sharing; of the others the last four stay ready.

    Args:
        models: Checkpoints, safetensors files or runs' folders of one architecture, and deltas of the first.
            A run of several domains gives all of them. The first may also be what ``export RUN --deltas``
            wrote as shared, which is no domain itself.

    Attributes:
        base: The first generator that is shown.
        names: Of all generators, the base's first.

    Raises:
        UserError: A file cannot be read, holds no generator or one of another architecture, or a delta does
            not belong to the first.
    """

    def __init__(self, models: list[str]) -> None:
        self._lock, self._ready = threading.Lock(), OrderedDict[str, Generator]()
        self._divided: dict[str, Generator] = {}
        found: list[tuple[str, Make]] = []
        self._ground: Generator | None = None  # what deltas are put into
        for model in models:
            path = find_checkpoint(model)
            kind = kind_of(path)
            if kind == "delta":
                found.append((path.stem, self._checked(model, read_delta(path))))
            elif kind == "shared" and self._ground is None:
                self._ground = _is_generator(path, load_base(path))
            else:
                found += self._whole(model, path)
        if not found:
            raise UserError("no model: name a checkpoint, a .safetensors file or a run's folder")
        self.names = distinct([name for name, _ in found])
        self._make = {name: make for name, (_, make) in zip(self.names, found, strict=True)}
        self.base = found[0][1]()

    def generator(self, name: str) -> Generator:
        """A plain generator in eval mode, without gradients.

        Raises:
            UserError: There is none of that name, or its file has vanished.
        """
        if name not in self._make:
            raise UserError(f"there is no domain '{name}'; choose from {', '.join(self.names)}")
        if name == self.names[0]:
            return self.base
        with self._lock:
            if name not in self._ready:
                self._ready[name] = self._make[name]()
            self._ready.move_to_end(name)
            while len(self._ready) > _READY:
                self._ready.popitem(last=False)
            return self._ready[name]

    def _whole(self, model: str, path: Path) -> list[tuple[str, Make]]:
        """Every generator of a file, the first of all read at once."""
        parts = _parts(path)
        if self._ground is None:
            self._ground = _generator(path, next(iter(parts)))
        for part, config in parts.items():
            config = config or _generator(path, part).config
            if _architecture(config) != _architecture(self._ground.config):
                raise UserError(
                    f"{model} has another architecture than the first model; start a page of its own for it"
                )
        named = [part.partition(".")[2] or _name(model, path) for part in parts]
        return [(name, partial(_generator, path, part)) for name, part in zip(named, parts, strict=True)]

    def _checked(self, model: str, delta: Delta) -> Make:
        if self._ground is None:
            raise UserError(f"{model} is a delta; name its base before it: gansharing explore BASE DELTA")
        make = partial(self._of_delta, self._ground, delta)
        make()  # a wrong delta is told of now, not when it is chosen
        return make

    def _of_delta(self, ground: Generator, delta: Delta) -> Generator:
        sharing = json.dumps(delta.config, sort_keys=True)
        divided = self._divided.get(sharing) or copy.deepcopy(ground)
        apply_delta(divided, delta)
        self._divided[sharing] = divided
        return cast(Generator, merged(divided)).eval().requires_grad_(False)


def _parts(path: Path) -> dict[str, Mapping[str, Any] | None]:
    """Names of a file's generators, with their configurations where they are to be had without the weights.

    Raises:
        UserError: There is none.
    """
    if path.suffix == ".safetensors":
        return {"generator": None}
    networks = read_checkpoint(path).get("networks")
    known = networks if isinstance(networks, dict) else {"generator": None}  # load says what is wrong
    parts = {name: known[name] for name in known if name.split(".")[0] == "generator"}
    if not parts:
        raise UserError(f"{path} holds no generator; it holds {', '.join(known)}")
    return parts


def _generator(path: Path, part: str) -> Generator:
    return _is_generator(path, load(path, part))


def _is_generator(path: Path, network: Network) -> Generator:
    if not isinstance(network, Generator):
        raise UserError(
            f"{path} holds a {type(network).__name__}; the page shows generators of latents alone"
        )
    return network


def _architecture(config: Mapping[str, Any]) -> str:
    return json.dumps({key: value for key, value in config.items() if key != "sharing"}, sort_keys=True)


def _name(model: str, path: Path) -> str:
    # checkpoints/best.ckpt says less than the run's name.
    folder = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    return folder.resolve().name if Path(model).is_dir() or path.parent.name == "checkpoints" else path.stem
