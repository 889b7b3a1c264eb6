"""Style mixing, style statistics and noise maps of a tiny StyleGAN2."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gansharing.errors import UserError
from gansharing.latent import has_styles, mix, noise_maps, noise_regularisation, normalise_noise, render
from gansharing.latent.styles import style_based, style_moments
from gansharing.networks import DCGANGenerator
from tests.latent.tiny import tiny_stylegan2


def test_mixing_an_image_with_itself_is_that_image_exactly() -> None:
    generator = tiny_stylegan2()
    latents = generator.sample_latent(3)
    with torch.no_grad():
        ws = generator.style(latents)
        for layers in ([], [0, 1], list(range(generator.num_ws))):
            assert torch.equal(generator.synthesis(mix(ws, ws, layers)), generator(latents))


@given(st.sets(st.integers(0, 7)))
def test_each_layer_comes_from_where_it_should(layers: set[int]) -> None:
    destination, source = torch.zeros(2, 8, 5), torch.ones(2, 8, 5)
    mixed = mix(destination, source, sorted(layers))
    assert [bool(mixed[0, layer, 0]) for layer in range(8)] == [layer in layers for layer in range(8)]
    assert float(destination.abs().sum()) == 0


def test_coarse_layers_alone_change_a_mixed_image() -> None:
    generator = tiny_stylegan2()
    with torch.no_grad():
        ws = generator.style(generator.sample_latent(2))
        own, other = ws[:1], ws[1:]
        first = generator.synthesis(mix(own, other, [0]))
        rest = generator.synthesis(mix(other, own, range(1, generator.num_ws)))
    assert torch.equal(first, rest)
    assert not torch.equal(first, generator.synthesis(own))


@pytest.mark.parametrize("layers", [[8], [0, -1]])
def test_layers_that_do_not_exist_are_refused(layers: list[int]) -> None:
    with pytest.raises(UserError, match="this network has the layers 0-7"):
        mix(torch.zeros(1, 8, 5), torch.zeros(1, 8, 5), layers)


def test_style_moments_are_mean_and_distance() -> None:
    generator = tiny_stylegan2()
    latents = generator.sample_latent(40)
    mean, spread = style_moments(generator, latents)
    with torch.no_grad():
        w = [generator.mapping(latent[None])[0] for latent in latents]
    expected = sum(w) / 40  # type: ignore[arg-type]
    torch.testing.assert_close(mean, expected)
    assert spread**2 == pytest.approx(sum(float((one - expected).norm()) ** 2 for one in w) / 40, rel=1e-4)


def test_networks_without_styles_are_told_by_name() -> None:
    network = DCGANGenerator(resolution=32, latent_dim=4, base_channels=2)
    assert has_styles(tiny_stylegan2()) and not has_styles(network)
    with pytest.raises(UserError, match="DCGANGenerator.*no styles"):
        style_based(network)


def test_the_networks_own_noise_renders_its_own_image() -> None:
    generator = tiny_stylegan2()
    maps = noise_maps(generator.synthesis)
    assert len(maps) == 7  # one a convolution: b4.conv1, then two at 8, 16 and 32 px
    with torch.no_grad():
        ws = generator.style(generator.sample_latent(2))
        assert torch.equal(render(generator.synthesis, ws, maps), generator.synthesis(ws))
        other = {name: torch.zeros_like(plane) for name, plane in maps.items()}
        assert torch.equal(render(generator.synthesis, ws, other), generator.synthesis(ws, noise="none"))
        assert not torch.equal(generator.synthesis(ws), generator.synthesis(ws, noise="none"))


@given(st.integers(0, 1000), st.sampled_from([4, 8, 16, 32]))
def test_noise_regularisation_is_the_papers_formula(seed: int, size: int) -> None:
    source = torch.Generator().manual_seed(seed)
    plane = torch.randn(size, size, generator=source, dtype=torch.float64)
    level, expected = plane.tolist(), 0.0
    while True:
        side = len(level)
        across = sum(level[y][x] * level[y][x - 1] for y in range(side) for x in range(side)) / side**2
        down = sum(level[y][x] * level[y - 1][x] for y in range(side) for x in range(side)) / side**2
        expected += across**2 + down**2
        if side <= 8:
            break
        level = [
            [
                2 * (level[y][x] + level[y][x + 1] + level[y + 1][x] + level[y + 1][x + 1]) / 4
                for x in range(0, side, 2)
            ]
            for y in range(0, side, 2)
        ]
    assert float(noise_regularisation([plane])) == pytest.approx(expected, rel=1e-9)
    assert float(noise_regularisation([plane, plane])) == pytest.approx(2 * expected, rel=1e-9)


def test_structure_costs_more_than_noise() -> None:
    noise = torch.randn(32, 32)
    stripes = torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(8).expand(32, 32)
    assert float(noise_regularisation([stripes])) > 20 * float(noise_regularisation([noise]))
    assert float(noise_regularisation([])) == 0


def test_normalised_noise_has_mean_zero_and_variance_one() -> None:
    plane = 3 + 5 * torch.randn(16, 16)
    normalise_noise([plane])
    assert float(plane.mean()) == pytest.approx(0, abs=1e-6)
    assert float(plane.square().mean()) == pytest.approx(1, rel=1e-5)
