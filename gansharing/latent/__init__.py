"""Latent space: paths through it, mixing of styles, and the latent of a given image."""

from gansharing.latent.interpolate import lerp, slerp, walk
from gansharing.latent.noise import noise_maps, noise_regularisation, normalise_noise, render, still
from gansharing.latent.project import Projection, project_latent, project_styles
from gansharing.latent.styles import (
    ContentBased,
    Excited,
    StyleBased,
    check_layers,
    excited,
    has_content,
    has_styles,
    mix,
    style_based,
    style_moments,
)

__all__ = [
    "ContentBased",
    "Excited",
    "Projection",
    "StyleBased",
    "check_layers",
    "excited",
    "has_content",
    "has_styles",
    "lerp",
    "mix",
    "noise_maps",
    "noise_regularisation",
    "normalise_noise",
    "project_latent",
    "project_styles",
    "render",
    "slerp",
    "still",
    "style_based",
    "style_moments",
    "walk",
]
