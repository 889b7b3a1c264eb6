"""Many domains of one base, mixed within a batch."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from gansharing.errors import UserError
from gansharing.networks import Generator
from gansharing.sharing import layer_rules  # noqa: F401  (fills the rules by which Parts are multiplied)
from gansharing.sharing.base import split_of
from gansharing.sharing.delta import Delta, slots_for
from gansharing.sharing.segments import Parts, Piece, Segments


class Domains:
    """One base and the deltas of its domains: ``domains(latent, domain)``.

    θ_S is there once, θ_D once a domain: ``(1 + K λ) |θ|`` numbers for K domains. The images are those of the
    one-domain networks to rounding; θ_S acts on the whole batch at once, θ_D on the samples of its domain.

    Args:
        base: The generator; it is divided in place if it is not yet, and set to eval mode. It stays usable
            and keeps its own images.
        deltas: One for each domain, all of one sharing. Their tensors are used where they are.

    Attributes:
        network: The base.

    Raises:
        UserError: There is no delta, the base makes no images, or a delta does not belong to it.
    """

    def __init__(self, base: Generator, deltas: Iterable[Delta]) -> None:
        if not isinstance(base, Generator):
            raise UserError(f"domains are served by a generator, not by a {type(base).__name__}")
        self.network = base.eval()
        device = next(base.parameters()).device
        self._own: list[dict[str, Tensor]] = []
        for delta in deltas:
            own: dict[str, Tensor] = {}
            for kind, entries in slots_for(base, delta).shapes().items():
                parts = delta.tensors[kind].to(device).split([shape.numel() for _, shape in entries])
                own |= {name: part.view(s) for (name, s), part in zip(entries, parts, strict=True)}
            self._own.append(own)
        if not self._own:
            raise UserError("no delta: give at least one domain to serve")
        # Weights of all domains: their layers too are computed for the whole batch, outside of vmap.
        self._shared = {n: p.detach() for n, p in split_of(base).shared.items() if p.ndim > 1}

    def __len__(self) -> int:
        return len(self._own)

    @torch.no_grad()
    def __call__(
        self, latent: Tensor, domain: Tensor, labels: Tensor | None = None, **options: Any
    ) -> Tensor:
        """Generate images of several domains in one forward.

        Args:
            latent: ``(N, latent_dim)``.
            domain: ``(N,)`` integers: which delta each sample is of, by its position among them.
            labels: As the network takes them, ``(N, ...)``.
            options: Further arguments of the network's forward, the same for all samples.

        Returns:
            ``(N, 3, resolution, resolution)``, in the order of ``latent``.

        Raises:
            UserError: ``domain`` is no vector of N numbers of domains.
        """
        self._check(latent, domain)
        order = domain.to(latent.device).argsort(stable=True)
        present, rows, counts = domain.to(latent.device)[order].unique_consecutive(
            return_inverse=True, return_counts=True
        )
        chosen, lengths = present.tolist(), counts.tolist()

        def one(latent: Tensor, row: Tensor, labels: Tensor | None) -> Tensor:
            tensors = self._tensors(chosen, Segments(lengths, row))
            label = None if labels is None else labels[None]
            images: Tensor = functional_call(self.network, tensors, (latent[None], label), options)
            return images[0]

        given = None if labels is None else labels[order]
        in_dims = (0, 0, None if labels is None else 0)
        images: Tensor = vmap(one, in_dims, randomness="different")(latent[order], rows, given)
        return images[order.argsort()]

    def numbers(self) -> int:
        """Numbers held for all domains together: θ_S, the base's own θ_D, and θ_D of each domain."""
        held = sum(parameter.numel() for parameter in self.network.parameters())
        return held + sum(tensor.numel() for own in self._own for tensor in own.values())

    def _tensors(self, chosen: list[int], segments: Segments) -> dict[str, Tensor]:
        served: dict[str, Tensor] = {n: Parts([p], 0, segments) for n, p in self._shared.items()}
        for name in self._own[0]:
            piece: Piece = [self._own[domain][name] for domain in chosen]
            served[name] = Parts([piece], 0, segments)
        return served

    def _check(self, latent: Tensor, domain: Tensor) -> None:
        if domain.shape != latent.shape[:1] or domain.is_floating_point() or domain.dtype == torch.bool:
            raise UserError(
                f"domain is {domain.dtype} of shape {tuple(domain.shape)}; give one integer for each of the "
                f"{len(latent)} latents"
            )
        if len(domain) == 0 or domain.min() < 0 or domain.max() >= len(self):
            raise UserError(f"domain holds numbers outside of 0 to {len(self) - 1}, or none at all")
