"""MineGAN's miners against recorded outputs of the original implementation."""

import pytest
import torch
from torch import Tensor, nn

from gansharing.errors import UserError
from gansharing.networks import BigGANMiner, ConvMiner, Miner, Network, NoiseMiner, build_network
from tests.golden.fill import fill, recorded

RULES = {
    "latent": {"*.weight": "fan_in", "*": "bias"},
    "conv": {"*.bias": "bias", "*": "normal"},
    "noise": {"*.weight": "fan_in*1.4", "*": "bias"},
    "biggan": {"*.u0": "unit", "*.weight": "fan_in", "*": "bias"},
}


def part(kind: str) -> dict[str, Tensor]:
    return {k.split(":")[1]: v for k, v in recorded("miners").items() if k.startswith(kind)}


def count(network: Network) -> int:
    return sum(p.numel() for p in network.parameters())


def test_the_latents_miner() -> None:
    golden, miner = part("latent"), Miner(32)
    fill(miner, RULES["latent"])
    torch.testing.assert_close(miner(golden["in_z"]), golden["out_out"])
    torch.testing.assert_close(miner(golden["in_z2"]), golden["out_out2"])


def test_the_constants_miner() -> None:
    golden, miner = part("conv"), ConvMiner()
    fill(miner, RULES["conv"])
    torch.testing.assert_close(miner(torch.randn(2, 14, 512))[:, ::4], golden["out_out"])


def test_the_noise_miner() -> None:
    golden, miner = part("noise"), NoiseMiner()
    fill(miner, RULES["noise"])
    maps = miner(golden["in_z"])
    assert len(maps) == 4
    for size, noise in zip((4, 8, 16, 32), maps, strict=True):
        torch.testing.assert_close(noise, golden[f"out_out_{size}"])


def test_biggans_miner() -> None:
    golden, miner = part("biggan"), BigGANMiner(18, 16)
    fill(miner, RULES["biggan"])
    before = {name: buffer.clone() for name, buffer in miner.named_buffers()}
    latent, embedding = miner.eval()(golden["in_z"])
    torch.testing.assert_close(latent, golden["out_z_out"])
    torch.testing.assert_close(embedding, golden["out_y_out"])
    assert all(torch.equal(buffer, before[name]) for name, buffer in miner.named_buffers())


def test_biggans_miner_learns_the_largest_singular_value() -> None:
    miner = BigGANMiner(6, 5)
    for parameter in miner.parameters():
        nn.init.normal_(parameter)
    for _ in range(200):
        miner(torch.zeros(1, 6))
    for layer in miner.stages().values():
        expected = torch.linalg.matrix_norm(layer.weight, ord=2)
        torch.testing.assert_close(layer.sv0[0], expected.detach(), rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("miner", "expected"),
    [
        (Miner(512), 525_312),
        (ConvMiner(), 70_176),
        (NoiseMiner(), 71_605_088 - 71_323_648),  # without the layers that are never used
        (BigGANMiner(), 117_128),
    ],
)
def test_counts_stages_and_rebuilding(miner: Network, expected: int) -> None:
    assert count(miner) == expected
    staged = [id(p) for stage in miner.stages().values() for p in stage.parameters()]
    assert sorted(staged) == sorted(id(p) for p in miner.parameters())
    build_network(miner.config).load_state_dict(miner.state_dict())


def test_empty_miners_are_refused() -> None:
    with pytest.raises(UserError, match="dim is 0"):
        Miner(0)
    with pytest.raises(UserError, match="at least two"):
        ConvMiner([8])
