"""Behaviour of the networks against formulas written out and against torch's older spectral norm."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gansharing.errors import UserError
from gansharing.networks import (
    DCGANDiscriminator,
    DCGANGenerator,
    Generator,
    Network,
    SpectralStyleGenerator,
    build_network,
)
from gansharing.networks.seeded import seeded_latents
from gansharing.networks.spectral_style import AdaIN, StyleMapping

GENERATORS = st.one_of(
    st.builds(
        SpectralStyleGenerator,
        resolution=st.sampled_from([32, 64, 128]),
        latent_dim=st.integers(2, 9),
        base_channels=st.integers(1, 3),
        mapping=st.sampled_from(["separate", "shared"]),
        trunk_input=st.sampled_from(["style", "constant"]),
    ),
    st.builds(
        DCGANGenerator,
        resolution=st.sampled_from([32, 64, 128]),
        latent_dim=st.integers(2, 9),
        base_channels=st.integers(1, 3),
    ),
)


@given(GENERATORS, st.integers(2, 4))
def test_generators_make_images_of_their_resolution(generator: Generator, count: int) -> None:
    images = generator(generator.sample_latent(count))
    assert images.shape == (count, 3, generator.resolution, generator.resolution)
    assert images.abs().max() <= 1


@given(GENERATORS)
def test_a_network_is_rebuilt_from_its_config(generator: Generator) -> None:
    twin = build_network(generator.config)
    assert type(twin) is type(generator)
    assert twin.config == generator.config
    twin.load_state_dict(generator.state_dict())
    latent = generator.sample_latent(2)
    torch.testing.assert_close(twin.eval()(latent), generator.eval()(latent))


def test_config_names_every_argument() -> None:
    config = DCGANDiscriminator(32, spectral_norm="all").config
    assert config["class_path"] == "gansharing.networks.dcgan.DCGANDiscriminator"
    assert config["init_args"] == {
        "resolution": 32,
        "base_channels": 64,
        "spectral_norm": "all",
        "batch_norm": True,
        "init": "dcgan",
    }


@pytest.mark.parametrize(
    "path", ["os.system", "torch.nn.Linear", "gansharing.cli.main", "gansharing.networks.nothing.X", ""]
)
def test_only_networks_are_built(path: str) -> None:
    with pytest.raises(UserError, match="not a network"):
        build_network({"class_path": path, "init_args": {}})


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(UserError, match="latent_dimm"):
        build_network(
            {"class_path": "gansharing.networks.dcgan.DCGANGenerator", "init_args": {"latent_dimm": 3}}
        )


@pytest.mark.parametrize("resolution", [16, 48, 256])
def test_unsupported_resolution_names_the_choices(resolution: int) -> None:
    with pytest.raises(UserError, match="32, 64, 128"):
        DCGANGenerator(resolution)


def test_adain_is_the_papers_formula() -> None:
    torch.manual_seed(0)
    adain = AdaIN(5, 3)
    x, style = torch.randn(2, 3, 4, 6), torch.randn(2, 5)
    expected = torch.empty_like(x)
    for n in range(2):
        alpha = adain.scale.weight @ style[n] + adain.scale.bias
        beta = adain.shift.weight @ style[n] + adain.shift.bias
        for c in range(3):
            mean, variance = x[n, c].mean(), x[n, c].var(unbiased=False)
            expected[n, c] = alpha[c] * (x[n, c] - mean) / torch.sqrt(variance + 1e-5) + beta[c]
    torch.testing.assert_close(adain(x, style), expected)


def test_mapping_is_four_activated_layers_on_the_unit_sphere() -> None:
    torch.manual_seed(0)
    for shared in (False, True):
        mapping = StyleMapping(6, layers=4, shared=shared)
        latent = torch.randn(3, 6)
        x = latent / latent.norm(dim=1, keepdim=True)
        for i in range(4):
            layer = mapping.layers[0 if shared else i]
            x = x @ layer.weight.T + layer.bias
            x = torch.where(x > 0, x, 0.2 * x)
        torch.testing.assert_close(mapping(latent), x)
        torch.testing.assert_close(mapping(5 * latent), mapping(latent))


def test_the_constant_trunk_sees_the_latent_through_adain_only() -> None:
    generator = SpectralStyleGenerator(32, base_channels=2, mapping="shared", trunk_input="constant")
    images = generator(torch.randn(4, 100))
    assert images.shape[0] == 4
    assert not torch.allclose(images[0], images[1])
    with pytest.raises(ValueError, match="trunk_input"):
        SpectralStyleGenerator(32, style="batch_norm", trunk_input="constant")


def test_dcgan_init_reaches_spectrally_normalised_weights() -> None:
    torch.manual_seed(0)
    network = DCGANDiscriminator(64, base_channels=32, spectral_norm="all")
    for name, parameter in network.named_parameters():
        if name.endswith("original"):
            assert abs(parameter.std().item() - 0.02) < 2e-3, name


@pytest.mark.parametrize(("kind", "expected"), [("none", 0), ("middle", 3), ("all", 5)])
def test_spectral_norm_where_it_was_asked_for(kind: str, expected: int) -> None:
    network = DCGANDiscriminator(64, base_channels=4, spectral_norm=kind)
    normalised = [m for m in network.modules() if nn.utils.parametrize.is_parametrized(m)]
    assert len(normalised) == expected
    network.train()
    for _ in range(60):  # power iterations
        network(torch.randn(2, 3, 64, 64))
    for module in normalised:
        sigma = torch.linalg.matrix_norm(module.weight.detach().flatten(1), ord=2)
        assert abs(sigma.item() - 1) < 2e-2


@given(st.lists(st.integers(0, 2**31), min_size=1, max_size=5, unique=True))
def test_seeded_latents_depend_on_the_seed_alone(seeds: list[int]) -> None:
    generator = DCGANGenerator(32, latent_dim=7, base_channels=1)
    before = torch.get_rng_state()
    together = seeded_latents(generator, seeds)
    alone = torch.cat([seeded_latents(generator, [seed]) for seed in seeds])
    assert torch.equal(together, alone)
    assert torch.equal(torch.get_rng_state(), before)


def test_networks_need_no_training_stack() -> None:
    import subprocess
    import sys

    code = (
        "import sys, gansharing.networks, gansharing.objectives, gansharing.augment, gansharing.latent;"
        "bad = {'lightning', 'torchmetrics', 'wandb'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_network_without_stages_says_so() -> None:
    class Bare(Network):
        pass

    with pytest.raises(TypeError, match="Bare"):
        Bare().stages()


@pytest.mark.parametrize("size", ["latent_dim", "base_channels"])
@pytest.mark.parametrize("network", [DCGANGenerator, SpectralStyleGenerator])
def test_empty_layers_are_refused_by_name(network: type[Generator], size: str) -> None:
    with pytest.raises(UserError, match=size):
        network(32, **{size: 0})
