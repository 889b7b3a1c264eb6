"""Costs of widths against those of the original's code, and against what is cut out."""

from collections.abc import Callable

import pytest
import torch

from gansharing.networks import (
    DCGANGenerator,
    Generator,
    SNDCGANDiscriminator,
    SNDCGANGenerator,
    SNGANDiscriminator,
    SNGANGenerator,
)
from gansharing.networks.sngan_layers import StagedDiscriminator
from gansharing.slimmable import PerWidthDiscriminator, SlimmableGenerator, extract
from gansharing.slimmable.costs import costs, macs

# Million multiply-accumulate operations an image at 0.25, 0.5, 0.75 and 1, as the original's code has them.
MILLIONS = {
    (SNDCGANGenerator, 32): [7.0, 26.6, 58.7, 103.5],
    (SNDCGANGenerator, 64): [35.8, 138.8, 308.9, 546.0],
    (SNGANGenerator, 32): [106.5, 422.2, 947.1, 1681.1],
    (SNGANGenerator, 48): [52.9, 208.4, 466.6, 827.4],
    (SNGANGenerator, 64): [123.9, 491.1, 1101.6, 1955.3],
}


@pytest.mark.parametrize(("kind", "resolution"), MILLIONS)
def test_operations_of_every_width_are_the_originals(kind: type[SNGANGenerator], resolution: int) -> None:
    with torch.device("meta"):
        found = costs(SlimmableGenerator(kind(resolution)))
    assert [round(cost.macs / 1e6, 1) for cost in found] == MILLIONS[kind, resolution]


@pytest.mark.parametrize(
    ("classes", "used", "alone"),
    [
        (0, [368771, 1204483, 2507139, 4276739], [368771, 1204483, 2507139, 4276739]),
        (10, [376451, 1219843, 2530179, 4307459], [375683, 1218307, 2527875, 4304387]),
        (100, [445571, 1358083, 2737539, 4583939], [444803, 1356547, 2735235, 4580867]),
    ],
)
def test_parameters_of_every_width_are_the_originals(classes: int, used: list[int], alone: list[int]) -> None:
    with torch.device("meta"):
        found = costs(SlimmableGenerator(SNGANGenerator(32, num_classes=classes)))
    assert [cost.used for cost in found] == used
    assert [cost.alone for cost in found] == alone


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: SNDCGANDiscriminator(32), {0: 11743492, 2: 11541316, 7: 2960452}),
        (lambda: SNDCGANDiscriminator(48), {0: 11784452, 2: 11582276, 7: 3001412}),
        (lambda: SNDCGANDiscriminator(64), {0: 47433988, 2: 47231812, 9: 11907652}),
        (lambda: SNGANDiscriminator(64), {0: 40565764, 2: 40091524, 5: 10144516}),
        (lambda: SNGANDiscriminator(32, 100), {0: 4266500, 2: 2876420, 4: 1105412}),
    ],
    ids=["sndcgan32", "sndcgan48", "sndcgan64", "sngan64", "cganpd100"],
)
def test_discriminators_of_four_widths_count_as_the_originals(
    make: Callable[[], StagedDiscriminator], expected: dict[int, int]
) -> None:
    with torch.device("meta"):
        made = {n_share: PerWidthDiscriminator(make(), n_share=n_share) for n_share in expected}
    assert {n: sum(p.numel() for p in network.parameters()) for n, network in made.items()} == expected


@pytest.mark.parametrize("conditional", ["sliceable", "naive"])
def test_what_is_cut_out_costs_as_much(conditional: str) -> None:
    slim = SlimmableGenerator(SNGANGenerator(32, 8, 3, channels=8), [0.5, 1], conditional)  # type: ignore
    before = {name: tensor.clone() for name, tensor in slim.state_dict().items()}
    for cost in costs(slim):
        alone = extract(slim, cost.width)
        assert isinstance(alone, Generator)
        assert sum(p.numel() for p in alone.parameters()) == cost.alone
        assert macs(alone) == cost.macs
    assert slim.training and all(p.requires_grad for p in slim.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in slim.state_dict().items())


def test_operations_are_the_sum_over_the_layers() -> None:
    # Every pixel that a transposed convolution reads meets 4 x 4 weights for each pair of channels.
    network, expected, side = DCGANGenerator(32, 6, 4), 0, 1
    for module in network.modules():
        if isinstance(module, torch.nn.ConvTranspose2d):
            expected += side**2 * module.in_channels * module.out_channels * 16
            side = 4 if side == 1 else 2 * side
    assert side == 32 and macs(network) == expected
