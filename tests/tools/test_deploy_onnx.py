"""Generators of plain layers as ONNX: onnxruntime makes their images."""

import pytest

from tests.tools.onnx_files import same_images_in_onnxruntime


@pytest.mark.parametrize(
    "name", ["DCGAN", "GP-GAN", "GP-GAN with classes", "SNGAN", "SNGAN with classes", "SNDCGAN"]
)
def test_onnxruntime_makes_the_networks_images(name: str) -> None:
    same_images_in_onnxruntime(name)
