"""sample and mix on FastGAN: noise, statistics and excitations as the command line chooses them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gansharing.checkpoints import save_network
from gansharing.latent import project_latent
from gansharing.networks import FastGANGenerator
from gansharing.networks.seeded import seeded_latents
from gansharing.visual import to_uint8
from tests.cli.program import files_in, run
from tests.tools.generators import lively


def fastgan(resolution: int = 128, **options: Any) -> FastGANGenerator:
    network = lively(lambda: FastGANGenerator(resolution, 8, 4, tanh="always", **options))
    assert isinstance(network, FastGANGenerator)
    return network


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save_network(fastgan(32), "g.safetensors", "generator")
    save_network(fastgan(32, noise="random", batch_norm="batch"), "official.safetensors", "generator")
    return tmp_path


def sampled(seed: int, *options: object) -> Tensor:
    done = run("sample", *options)
    assert done.code == 0, done.err
    with Image.open(f"samples/seed{seed:07d}.png") as image:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def near(image: Tensor, expected: Tensor) -> bool:
    return int((image.int() - to_uint8(expected).int()).abs().max()) <= 1


def test_mixed_with_itself_an_image_is_that_image_exactly() -> None:
    network = fastgan()
    latents = network.sample_latent(3)
    for sizes in ([], [64], [128], network.excited):
        assert torch.equal(network.mix(latents, latents, sizes), network(latents))


def test_excitations_alone_come_from_the_style() -> None:
    network = fastgan()
    content, style = network.sample_latent(2).split(1)
    seen: list[Tensor] = []
    with torch.no_grad():
        # By hand: what excites the map of 128 px is taken from the style's forward.
        excite = network.excitations["128"]
        hook = excite.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        network(style)
        hook.remove()
        hook = excite.register_forward_pre_hook(lambda _, given: (seen[0], given[1]))
        expected = network(content)
        hook.remove()
    assert torch.equal(network.mix(content, style, [128]), expected)
    assert not torch.equal(expected, network(content))
    assert not torch.equal(expected, network.mix(content, style, [64]))


def test_the_sheet_shows_sources_and_mixtures(here: Path) -> None:
    network = fastgan(noise="random", batch_norm="batch")
    save_network(network, "g.safetensors", "generator")
    done = run("mix", "g.safetensors", "--rows=1,2", "--columns=2,5")
    assert done.code == 0, done.err
    with Image.open("mixing.png") as sheet:
        pixels = torch.from_numpy(np.array(sheet)).permute(2, 0, 1)
    tiles = [[pixels[:, y : y + 128, x : x + 128] for x in range(0, 388, 130)] for y in range(0, 388, 130)]
    still = {"noise": "const", "batch_norm": "running"}
    latents = dict(zip((1, 2, 5), seeded_latents(network, [1, 2, 5]).split(1), strict=True))
    with torch.no_grad():
        own = {seed: network(latent, **still)[0] for seed, latent in latents.items()}
        mixed = network.mix(latents[1], latents[5], [128], **still)[0]
    assert near(tiles[0][1], own[2]) and near(tiles[0][2], own[5])
    assert near(tiles[1][0], own[1]) and near(tiles[2][0], own[2])
    assert near(tiles[2][1], own[2])  # an image mixed with itself
    assert near(tiles[1][2], mixed) and not near(tiles[1][2], own[1])


def test_sample_chooses_noise_and_statistics(here: Path) -> None:
    network = fastgan(32)
    latents = seeded_latents(network, [3, 4])
    with torch.no_grad():
        default, none = network(latents)[0], network(latents, noise="none")[0]
        batch = network(latents, batch_norm="batch")[0]
    assert near(sampled(3, "g.safetensors", "--seeds=3,4"), default)
    assert near(sampled(3, "g.safetensors", "--seeds=3,4", "--noise=none"), none)
    assert near(sampled(3, "g.safetensors", "--seeds=3,4", "--batch_norm=batch"), batch)
    assert not near(to_uint8(default), none) and not near(to_uint8(default), batch)


def test_the_originals_sampling_depends_on_seeds_and_batch_alone(here: Path) -> None:
    model = "official.safetensors"
    first = sampled(3, model, "--seeds=3,4")
    torch.manual_seed(99)
    assert torch.equal(sampled(3, model, "--seeds=3,4"), first)
    assert not torch.equal(sampled(3, model, "--seeds=3,5"), first)  # another neighbour
    still = ("--noise=const", "--batch_norm=running")
    assert torch.equal(sampled(3, model, "--seeds=3", *still), sampled(3, model, "--seeds=3,4", *still))


def test_projection_takes_what_is_a_function_of_the_latent() -> None:
    network = fastgan(32, noise="random", batch_norm="batch")
    target = network(network.sample_latent(1), noise="const", batch_norm="running")
    found = project_latent(network, target, lambda images: images.flatten(1), steps=3)
    assert found.end < found.start
    assert torch.equal(network(found.latent, noise="const", batch_norm="running"), found.image)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layers=0"], "FastGANGenerator maps latents straight to images"),
        (["--truncation=0.5"], "FastGANGenerator has no truncation"),
    ],
)
def test_a_generator_too_small_for_excitations_says_so(
    here: Path, arguments: list[str], message: str
) -> None:
    before = files_in(here)
    done = run("mix", "g.safetensors", *arguments)
    assert done.code == 2
    assert message in done.err and done.err.count("\n") == 1
    assert files_in(here) == before


def test_an_excitation_that_does_not_exist_is_named(here: Path) -> None:
    save_network(fastgan(64), "64.safetensors", "generator")
    done = run("mix", "64.safetensors", "--layers=0-1")
    assert done.code == 2 and "there is no layer 1: this network has the layers 0-0" in done.err
