"""Paths through latent space."""

from gansharing.latent.interpolate import lerp, slerp, walk

__all__ = ["lerp", "slerp", "walk"]
