"""Projection finds the images that a network itself has made."""

import math

import pytest
import torch
from torch import Tensor

from gansharing.latent import project_latent, project_styles, render
from gansharing.latent.project import learning_rate, style_noise
from gansharing.networks import DCGANGenerator
from tests.latent.tiny import tiny_stylegan2


def pixels(images: Tensor) -> Tensor:
    """Points whose squared distance is the mean squared difference."""
    return images.flatten(1) / math.sqrt(images[0].numel())


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().mean())


def tiny_dcgan() -> DCGANGenerator:
    torch.manual_seed(3)
    generator = DCGANGenerator(resolution=32, latent_dim=8, base_channels=4)
    for parameter in generator.parameters():  # away from its pale start
        parameter.data.mul_(8)
    return generator.eval().requires_grad_(False)


@pytest.mark.parametrize(("per_layer", "factor"), [(False, 0.5), (True, 0.35)])
def test_an_image_of_its_own_comes_back_nearer(per_layer: bool, factor: float) -> None:
    generator = tiny_stylegan2()
    target = generator(generator.sample_latent(1))
    others = generator(generator.sample_latent(40))
    found = project_styles(generator, target, pixels, steps=100, per_layer=per_layer)
    assert found.end == pytest.approx(distance(found.image, target), rel=1e-4)
    assert found.end < factor * found.start
    assert found.end < factor * min(distance(other, target) for other in others.split(1))


def test_what_is_returned_renders_what_is_shown() -> None:
    generator = tiny_stylegan2()
    target = generator(generator.sample_latent(1))
    found = project_styles(generator, target, pixels, steps=8)
    assert found.latent.shape == (1, generator.num_ws, 16)
    assert torch.equal(found.latent[:, :1].expand_as(found.latent), found.latent)
    assert torch.equal(render(generator.synthesis, found.latent, found.noise), found.image)
    assert len(found.path) == 8 and torch.equal(found.path[-1], found.image)
    for plane in found.noise.values():
        assert float(plane.mean()) == pytest.approx(0, abs=1e-5)
        assert float(plane.square().mean()) == pytest.approx(1, rel=1e-4)


def test_per_layer_styles_differ_from_layer_to_layer() -> None:
    generator = tiny_stylegan2()
    target = generator(generator.sample_latent(1))
    ws = project_styles(generator, target, pixels, steps=4, per_layer=True).latent
    assert not torch.equal(ws[:, 0], ws[:, 1])


def test_the_network_is_left_as_it_was_and_the_seed_decides() -> None:
    generator = tiny_stylegan2()
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    target, state = generator(generator.sample_latent(1)), torch.get_rng_state()
    first, again, other = (project_styles(generator, target, pixels, steps=3, seed=s) for s in (0, 0, 1))
    assert torch.equal(first.image, again.image) and not torch.equal(first.image, other.image)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in generator.state_dict().items())


def test_a_class_is_kept() -> None:
    generator = tiny_stylegan2(num_classes=3)
    label = torch.tensor([2])
    target = generator(generator.sample_latent(1), label)
    right = project_styles(generator, target, pixels, steps=2, labels=label)
    wrong = project_styles(generator, target, pixels, steps=2, labels=torch.tensor([0]))
    assert right.start != wrong.start


def test_descent_in_latent_space_never_rises_and_comes_near() -> None:
    generator = tiny_dcgan()
    target = generator(generator.sample_latent(1, torch.Generator().manual_seed(99)))
    seen: list[float] = []
    found = project_latent(generator, target, pixels, steps=60, on_step=lambda _, value: seen.append(value))
    assert found.start > 0.01
    assert seen[0] == pytest.approx(found.start, rel=1e-4)
    assert all(later <= earlier for earlier, later in zip(seen, seen[1:], strict=False))
    assert found.end < 0.2 * found.start
    assert torch.equal(generator(found.latent), found.image)


def test_descent_works_on_styles_networks_too() -> None:
    generator = tiny_stylegan2()
    target = generator(generator.sample_latent(1, torch.Generator().manual_seed(99)))
    found = project_latent(generator, target, pixels, steps=10)
    assert found.latent.shape == (1, 16) and found.end < found.start


def test_descent_ends_where_it_has_arrived() -> None:
    generator = tiny_dcgan()
    source = torch.Generator().manual_seed(0)
    target = generator(generator.sample_latent(64, source)[5:6])  # one of the draws that it starts from
    steps: list[int] = []
    found = project_latent(generator, target, pixels, steps=50, on_step=lambda step, _: steps.append(step))
    assert found.end == 0 and steps == []


def test_schedules_are_the_papers() -> None:
    # 1000 steps: up over 50, down from 750 (Karras et al. 2020, appendix D).
    assert learning_rate(0.025) == pytest.approx(0.05)
    assert learning_rate(0.05) == learning_rate(0.4) == learning_rate(0.75) == pytest.approx(0.1)
    assert learning_rate(0.875) == pytest.approx(0.05)
    assert learning_rate(1.0) == pytest.approx(0, abs=1e-12)
    assert style_noise(0.0, 2.0) == pytest.approx(0.1)
    assert style_noise(0.375, 2.0) == pytest.approx(0.025)
    assert style_noise(0.75, 2.0) == style_noise(0.9, 2.0) == 0
