"""What the tools share that show a trained generator: its options checked, its images as uint8."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor

from gansharing.checkpoints import load
from gansharing.errors import UserError
from gansharing.latent import has_styles, style_based
from gansharing.networks import Generator
from gansharing.networks.seeded import seeded_latents
from gansharing.visual import to_uint8

Noise = Literal["const", "random", "none"]
Statistics = Literal["running", "batch"]


@dataclass(frozen=True)
class Look:
    """How a generator's images are made; None leaves it to the network.

    Attributes:
        truncation: Psi, 1 for none.
        cutoff: Truncate the first layers only.
        noise: Which noise maps are added.
        label: Class index.
        batch_norm: Whose statistics batch norm uses.
    """

    truncation: float | None = None
    cutoff: int | None = None
    noise: Noise | None = None
    label: int | None = None
    batch_norm: Statistics | None = None


class Renderer:
    """A generator with the options that its images are made with.

    Args:
        generator: The network.
        look: The options; those that the generator's forward does not take are refused.

    Raises:
        UserError: An option that the network does not have, or a class that it does not know.
    """

    def __init__(self, generator: Generator, look: Look | None = None) -> None:
        self.generator, self.look = generator, look or Look()
        self.options = options_of(generator, self.look)
        self.classes = _classes(generator, self.look.label)

    @classmethod
    def load(cls, model: str, look: Look | None = None) -> Self:
        """A renderer of a checkpoint, a safetensors file or a run's folder.

        Raises:
            UserError: It holds no generator, or as the constructor.
        """
        network = load(model)
        if not isinstance(network, Generator):
            raise UserError(f"{model} holds no generator")
        return cls(network, look)

    def latents(self, seeds: list[int]) -> Tensor:
        """Latents of seeds, each a function of its seed alone."""
        return seeded_latents(self.generator, seeds)

    def labels(self, count: int) -> Tensor | None:
        """The class of each of ``count`` images; None for networks without classes."""
        return torch.full((count,), self.look.label) if self.classes and self.look.label is not None else None

    @torch.inference_mode()
    def images(self, latents: Tensor) -> Tensor:
        """uint8 ``(N, 3, H, W)`` of latents."""
        return to_uint8(self.generator(latents, self.labels(len(latents)), **self.options))

    def of_seeds(self, seeds: list[int]) -> Tensor:
        """uint8 ``(N, 3, H, W)`` of seeds; random noise, too, depends on the seed alone.

        With the batch's own statistics an image depends on the others in it, and its noise on the first seed.
        """
        own = self.generator.config["init_args"]  # where a network has such a choice
        if (self.look.noise or own.get("noise")) != "random":
            return self.images(self.latents(seeds))
        together = (self.look.batch_norm or own.get("batch_norm")) == "batch"
        images = []
        for part in [seeds] if together else [[seed] for seed in seeds]:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(part[0])
                images.append(self.images(self.latents(part)))
        return torch.cat(images)

    @torch.inference_mode()
    def styles(self, seeds: list[int]) -> Tensor:
        """Styles ``(N, num_ws, w_dim)`` of seeds, truncated as asked.

        Raises:
            UserError: The generator has none.
        """
        truncation = {key: self.options[key] for key in ("truncation", "cutoff") if key in self.options}
        network = style_based(self.generator)
        return network.style(self.latents(seeds), self.labels(len(seeds)), **truncation)

    @torch.inference_mode()
    def of_styles(self, ws: Tensor, batch_size: int = 16) -> Tensor:
        """uint8 ``(N, 3, H, W)`` of styles."""
        noise = {key: self.options[key] for key in ("noise",) if key in self.options}
        synthesis = style_based(self.generator).synthesis
        return torch.cat([to_uint8(synthesis(part, **noise)) for part in ws.split(batch_size)])


def options_of(network: Generator, look: Look) -> dict[str, Any]:
    """The keyword arguments of the network's forward that a look asks for.

    Raises:
        UserError: The network does not take them.
    """
    given = {key: value for key, value in asdict(look).items() if value is not None and key != "label"}
    if unknown := [key for key in given if key not in network.options()]:
        raise UserError(
            f"{type(network).__name__} has no {unknown[0]}: leave --{unknown[0]} out, or take a network that "
            f"has, such as {'FastGANGenerator' if unknown[0] == 'batch_norm' else 'StyleGAN2Generator'}"
        )
    if look.cutoff is not None and look.truncation is None:
        raise UserError("cutoff says which layers are truncated; add --truncation, for example 0.7")
    if look.cutoff is not None and has_styles(network):
        layers = style_based(network).num_ws
        if not 1 <= look.cutoff <= layers:
            raise UserError(f"cutoff is {look.cutoff}; this network has 1 to {layers} layers to truncate")
    return given


def _classes(network: Generator, label: int | None) -> int:
    """Number of classes of a network, after a look at the label asked for."""
    classes = network.classes
    if label is not None and not classes:
        raise UserError(f"{type(network).__name__} was built without classes; leave --label out")
    if classes and label is None:
        raise UserError(f"the network has {classes} classes; choose one with --label 0 to {classes - 1}")
    if label is not None and not 0 <= label < classes:
        raise UserError(f"label is {label}; this network has the classes 0 to {classes - 1}")
    return classes
