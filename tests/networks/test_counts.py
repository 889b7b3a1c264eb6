"""Parameter counts against those the papers and the original code give."""

import pytest

from gansharing.networks import DCGANDiscriminator, DCGANGenerator, Network, SpectralStyleGenerator


def count(network: Network) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (SpectralStyleGenerator(), 3_809_104),  # Garg 2024, A.5.1
        (
            SpectralStyleGenerator(mapping="shared", trunk_input="constant"),
            3_778_904,
        ),  # the original's modules
        (SpectralStyleGenerator(style="batch_norm"), 3_617_104),  # 40,400 + 3,574,784 + 2 * 960
        (DCGANGenerator(), 3_576_704),
        (DCGANDiscriminator(), 2_765_568),  # A.5.2
        (DCGANDiscriminator(spectral_norm="middle"), 2_765_568),
        (DCGANDiscriminator(spectral_norm="all"), 2_765_568),
        (DCGANDiscriminator(batch_norm=False), 2_763_776),
    ],
)
def test_counts(network: Network, expected: int) -> None:
    assert count(network) == expected


def test_sum_is_the_papers_6_574_million() -> None:
    total = count(SpectralStyleGenerator()) + count(DCGANDiscriminator(spectral_norm="middle"))
    assert total == 6_574_672
    assert count(DCGANGenerator()) + count(DCGANDiscriminator()) == 6_342_272


@pytest.mark.parametrize("resolution", [32, 64, 128])
def test_stages_partition_the_parameters(resolution: int) -> None:
    networks: list[Network] = [
        SpectralStyleGenerator(resolution, base_channels=4),
        SpectralStyleGenerator(resolution, base_channels=4, mapping="shared", trunk_input="constant"),
        DCGANGenerator(resolution, base_channels=4),
        DCGANDiscriminator(resolution, base_channels=4, spectral_norm="all"),
    ]
    for network in networks:
        staged = [id(p) for stage in network.stages().values() for p in stage.parameters()]
        assert sorted(staged) == sorted(id(p) for p in network.parameters())
