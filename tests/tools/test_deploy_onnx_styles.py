"""Generators with styles, noise, excitations and attention as ONNX: onnxruntime makes their images."""

import pytest

from tests.tools.onnx_files import same_images_in_onnxruntime


@pytest.mark.parametrize(
    ("name", "noise"),
    [
        ("BigGAN with classes", None),
        ("SpectralStyle", None),
        ("StyleGAN2", "none"),
        ("StyleGAN2 with classes", None),
        ("SmallHead", "none"),
        ("FastGAN", None),
    ],
)
def test_onnxruntime_makes_the_networks_images(name: str, noise: str | None) -> None:
    same_images_in_onnxruntime(name, noise)
