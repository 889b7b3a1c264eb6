"""What every network declares of itself: its configuration, its stages, its latents."""

import functools
import importlib
import inspect
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from gansharing.errors import UserError

T = TypeVar("T")


class Configurable:
    """Something that can be rebuilt from plain values.

    Subclasses take numbers, strings and lists of them in their constructor. The arguments of the outermost
    call are kept in :attr:`config`, so that a checkpoint or a safetensors header can build the same again.
    """

    config: dict[str, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        constructor: Any = cls.__init__

        @functools.wraps(constructor)
        def recording(self: "Configurable", *args: Any, **given: Any) -> None:
            if type(self) is cls:
                signature = inspect.signature(constructor)
                bound = signature.bind(self, *args, **given)
                bound.apply_defaults()
                # Without a constructor of its own a class has object's, which names no argument.
                named = [
                    p.name
                    for p in signature.parameters.values()
                    if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
                ]
                arguments = {name: bound.arguments[name] for name in named[1:]}
                object.__setattr__(
                    self,
                    "config",
                    {"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": arguments},
                )
            constructor(self, *args, **given)

        setattr(cls, "__init__", recording)  # noqa: B010  (mypy allows no assignment to a method)


class Features(NamedTuple):
    """Channels between layers: renumbered in all of these layers alike, they change no image.

    Attributes:
        written: Names of the layers that have them as outputs; norms and styles on the way among them.
        read: Names of the layers that sum over them.
    """

    written: list[str]
    read: list[str]


class Network(Configurable, nn.Module):
    """A network that declares its parts and can be rebuilt from its :attr:`config`."""

    #: Constructor arguments, and attributes, that count channels: smaller ones make a narrower network.
    channel_arguments: tuple[str, ...] = ()
    #: Constructor arguments of a network whose weights are used as they are stored, without spectral norm.
    plain_arguments: Mapping[str, Any] = {}

    def stages(self) -> Mapping[str, nn.Module]:
        """Parts of the network in the order in which the signal meets them.

        Returns:
            Ordered mapping of stage name to module: from the latent to the image for a generator, from
            the image to the score for a discriminator. Every parameter belongs to exactly one stage.
        """
        raise TypeError(f"{type(self).__name__} does not declare its stages")

    def features(self) -> list[Features]:
        """The channels between its layers, each where it is written and read.

        Raises:
            UserError: The network does not declare them.
        """
        raise UserError(f"{type(self).__name__} does not say where its channels are written and read")

    def gated_layers(self) -> Collection[str]:
        """Layers and norms whose output channels are two halves of a gated linear unit, by name."""
        return ()

    def trained_buffers(self) -> list[str]:
        """Names of the persistent buffers that training changes, such as running statistics.

        They belong to a domain as its weights do. All of them, unless a subclass holds constants among them.
        """
        return [name for name in self.state_dict() if name in dict(self.named_buffers())]

    def style_layers(self) -> Mapping[str, nn.Module]:
        """Linear layers that turn a latent into per-channel styles, by name; empty where there are none."""
        return {}

    def latent_entry(self) -> nn.Module:
        """The module whose first argument is the batch of latents: the network itself unless overridden."""
        return self


class Generator(Network):
    """Maps latents to images.

    Attributes:
        latent_dim: Length of a latent vector.
        resolution: Height and width of the images in pixels.
    """

    latent_dim: int
    resolution: int

    def options(self) -> Collection[str]:
        """Names of what :meth:`forward` takes besides latents and labels."""
        return list(inspect.signature(self.forward).parameters)[2:]

    def sample_latent(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw latents from the prior, N(0, I) unless a subclass has another.

        Args:
            count: Number of latents.
            generator: Source of randomness on the CPU; torch's global one when omitted.

        Returns:
            Float tensor of shape ``(count, latent_dim)`` on the network's device. The numbers do not
            depend on the device.
        """
        latent = torch.randn(count, self.latent_dim, generator=generator)
        return latent.to(next(self.parameters()).device)

    @property
    def classes(self) -> int:
        """How many classes the images may be of; 0 for a network that takes no labels."""
        return int(self.config["init_args"].get("num_classes") or 0)

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        """Generate images.

        Args:
            latent: ``(N, latent_dim)``.
            labels: Class indices ``(N,)`` for conditional networks, ignored by the others.

        Returns:
            ``(N, 3, resolution, resolution)`` in [-1, 1].

        Raises:
            UserError: The network is conditional and labels are missing.
        """
        raise TypeError(f"{type(self).__name__} does not define forward")


class Discriminator(Network):
    """Scores images; higher means more real. Scores are logits: no network here ends in a sigmoid."""

    #: Whether its scores ``(N,)`` come of convolutions, linear layers, LeakyReLU and average pooling alone,
    #: so that :func:`~gansharing.networks.piecewise.scores_and_slopes` applies.
    piecewise_linear = False

    resolution: int

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Score images.

        Args:
            images: ``(N, 3, resolution, resolution)``, usually in [-1, 1].
            labels: Class indices ``(N,)`` for conditional networks, ignored by the others.

        Returns:
            Scores of shape ``(N,)``, or ``(N, K)`` for patch-wise or multi-head discriminators.
        """
        raise TypeError(f"{type(self).__name__} does not define forward")


def build_network(config: Mapping[str, Any]) -> Network:
    """Build a network from its :attr:`Configurable.config`.

    Args:
        config: ``{"class_path": "package.module.Class", "init_args": {...}}``; other keys are ignored.

    Raises:
        UserError: The class is not a known network, or does not take these arguments.
    """
    return build(config, Network, "gansharing.networks", "network")


def build(config: Mapping[str, Any], base: type[T], package: str, kind: str) -> T:
    """Build an object from its :attr:`Configurable.config`.

    The configuration may come from an untrusted file, so only subclasses of ``base`` are built: those of
    ``package``, and those whose module the caller has already imported.

    Args:
        config: ``{"class_path": "package.module.Class", "init_args": {...}}``.
        base: What the class must be.
        package: Where its module may be imported from.
        kind: Its name in messages.

    Raises:
        UserError: The class is not a known one, or does not take these arguments.
    """
    path = str(config.get("class_path", ""))
    module_name, _, name = path.rpartition(".")
    if module_name.startswith(f"{package}."):
        try:
            importlib.import_module(module_name)
        except ImportError:
            pass
    known = {f"{cls.__module__}.{cls.__qualname__}": cls for cls in _subclasses(base)}
    if path not in known:
        raise UserError(
            f"the file asks for the {kind} '{path}', which is not a {kind} of gansharing nor of a module "
            f"that is imported; import the module that defines '{name}' before loading "
            f"(on the command line: --import {module_name})"
        )
    try:
        return known[path](**config.get("init_args", {}))
    except TypeError as error:
        raise UserError(f"the {kind} '{path}' cannot be built from the file's arguments: {error}") from error


def _subclasses(cls: type) -> list[type]:
    children: list[type] = cls.__subclasses__()
    return children + [deeper for child in children for deeper in _subclasses(child)]


def pyramid_depth(resolution: int, lowest: int = 32, highest: int = 128) -> int:
    """Number of doublings between 4 px and ``resolution``.

    Raises:
        UserError: ``resolution`` is not a power of two in ``[lowest, highest]``.
    """
    if resolution < lowest or resolution > highest or resolution & (resolution - 1):
        allowed = ", ".join(str(2**k) for k in range(lowest.bit_length() - 1, highest.bit_length()))
        raise UserError(f"resolution {resolution} is not supported by this network; use one of {allowed}")
    return resolution.bit_length() - 3


def require_positive(**sizes: int) -> None:
    """Refuse sizes that would leave a layer empty.

    Raises:
        UserError: A size is less than 1; the message names it.
    """
    for name, size in sizes.items():
        if size < 1:
            raise UserError(f"{name} is {size}; give at least 1")
