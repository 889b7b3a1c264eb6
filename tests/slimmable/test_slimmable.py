"""Widths that cannot leak, slices against plain networks, counts against those of the original's code."""

import copy
import math
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import gansharing
from gansharing.checkpoints import save_network
from gansharing.errors import UserError
from gansharing.networks import (
    DCGANGenerator,
    Network,
    SNDCGANDiscriminator,
    SNDCGANGenerator,
    SNGANDiscriminator,
    SNGANGenerator,
)
from gansharing.sharing import WidthWise, merged
from gansharing.slimmable import (
    PerWidthDiscriminator,
    SlimmableDiscriminator,
    SlimmableGenerator,
    at_width,
    current_width,
    distillation,
    extract,
)
from gansharing.slimmable.width import first_channels

QUARTERS = [0.25, 0.5, 0.75, 1.0]
GENERATORS: dict[str, Callable[[], SNGANGenerator | SNDCGANGenerator]] = {
    "sngan": lambda: SNGANGenerator(32, 8, channels=8),
    "classes": lambda: SNGANGenerator(32, 8, 3, channels=8),
    "sndcgan": lambda: SNDCGANGenerator(48, 8, channels=32),
}
LATENT, LABELS = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 2, 1])


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def disturbed(network: Network) -> Network:
    """Nothing at its initial value, norms and tables neither."""
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in network.parameters():
            tensor += 0.1 * torch.randn(tensor.shape, generator=source)
        for name, buffer in network.named_buffers():
            if "running" in name:
                buffer += 0.1 * torch.rand(buffer.shape, generator=source)
    return network.eval()


@pytest.mark.parametrize("name", GENERATORS)
def test_at_full_width_nothing_changes(name: str) -> None:
    plain = disturbed(GENERATORS[name]())
    slim = SlimmableGenerator(copy.deepcopy(plain), [0.5, 1]).eval()
    assert torch.equal(slim(LATENT, LABELS), plain(LATENT, LABELS))


@pytest.mark.parametrize("conditional", ["sliceable", "equation6", "naive"])
@pytest.mark.parametrize("name", GENERATORS)
def test_a_width_cut_out_is_an_ordinary_network(name: str, conditional: str) -> None:
    slim = disturbed(SlimmableGenerator(GENERATORS[name](), [0.3, 0.6, 1], conditional))  # type: ignore[arg-type]
    for width in (0.3, 0.6, 1):
        alone = extract(slim, width)  # type: ignore[arg-type]
        assert type(alone) is type(GENERATORS[name]())
        assert alone.config["init_args"]["channels"] == math.floor(slim.network.channels * width)  # type: ignore
        assert not [m for m in alone.modules() if type(m).__module__.startswith("gansharing.slimmable")]
        with at_width(width):
            expected = slim(LATENT, LABELS)
        torch.testing.assert_close(alone(LATENT, LABELS), expected, rtol=0, atol=1e-6)


def test_slices_are_the_first_channels() -> None:
    slim = SlimmableGenerator(GENERATORS["sndcgan"](), [0.5, 1])
    blocks, first = slim.network.blocks, slim.network.first
    whole = [first.weight, first.bias, blocks[0].conv.weight, blocks[0].conv.bias, slim.network.to_rgb.weight]
    with at_width(0.5):
        part = [
            first.weight, first.bias, blocks[0].conv.weight, blocks[0].conv.bias, slim.network.to_rgb.weight
        ]  # fmt: skip
    rows = 16 * 36  # 16 of 32 channels of 6 x 6
    expected = [whole[0][:rows], whole[1][:rows], whole[2][:16, :8], whole[3][:8], whole[4][:, :2]]
    assert [p.shape for p in part] == [e.shape for e in expected]
    assert all(map(torch.equal, part, expected))


@pytest.mark.parametrize(("form", "shared_shift"), [("sliceable", True), ("equation6", False)])
def test_batch_norm_by_class_as_coded_and_as_written(form: str, shared_shift: bool) -> None:
    slim = disturbed(SlimmableGenerator(GENERATORS["classes"](), [0.5, 1], form))  # type: ignore[arg-type]
    norm, x = slim.network.blocks[0].b1, torch.randn(3, 4, 5, 5)  # type: ignore[index, union-attr]
    own, table = norm.norms[0], norm.embed.weight
    mean, var = own.running_mean[:, None, None], own.running_var[:, None, None]
    hat = (x - mean) / (var + 1e-5).sqrt()
    with at_width(0.5):
        actual = norm(x, LABELS)
    for image, label in enumerate(LABELS):
        gain, shift = table[label, :4][:, None, None], table[label, 8:12][:, None, None]
        width_gain, width_shift = own.weight[:, None, None], own.bias[:, None, None]
        expected = gain * width_gain * hat[image] + shift
        expected = expected + (gain * width_shift if shared_shift else width_shift)
        torch.testing.assert_close(actual[image], expected)


def test_a_width_moves_its_own_statistics_and_gradients() -> None:
    slim = SlimmableGenerator(GENERATORS["sngan"](), QUARTERS).train()
    with at_width(0.5):
        slim(LATENT).square().mean().backward()
    norms = slim.network.norm.norms
    assert [int(norm.num_batches_tracked) for norm in norms] == [0, 1, 0, 0]
    gradient = slim.network.blocks[0].c1.parametrizations.weight.original.grad
    assert gradient[:4, :4].abs().min() > 0 and gradient[4:].abs().sum() == 0 == gradient[:, 4:].abs().sum()


def test_a_slimmable_discriminator_divides_by_the_whole_weights_norm() -> None:
    d = SlimmableDiscriminator(SNDCGANDiscriminator(32, channels=16), [0.5, 1]).eval()
    conv = d.network.blocks[2].conv
    with at_width(0.5):
        part = conv.weight
        assert d(torch.randn(2, 3, 32, 32)).shape == (2,)
    chain = conv.parametrizations.weight
    sigma = chain[0]._u @ chain.original.flatten(1) @ chain[0]._v
    torch.testing.assert_close(part, (chain.original / sigma)[:2, :1])


def test_a_width_ends_with_its_block_whatever_happens() -> None:
    with at_width(0.5):
        with pytest.raises(RuntimeError, match="in the middle"), at_width(0.25):
            raise RuntimeError("in the middle")
        assert current_width() == 0.5
        seen: list[float] = []
        thread = threading.Thread(target=lambda: seen.append(current_width()))
        thread.start()
        thread.join()
        assert seen == [1.0]
    assert current_width() == 1.0


def test_back_propagation_needs_no_width() -> None:
    slim = SlimmableGenerator(GENERATORS["sngan"](), QUARTERS)
    with at_width(0.25):
        inside = slim(LATENT).square().mean()
        slim.zero_grad()
        inside.backward(retain_graph=True)
    expected = [p.grad.clone() if p.grad is not None else None for p in slim.parameters()]
    slim.zero_grad()
    inside.backward()
    for parameter, gradient in zip(slim.parameters(), expected, strict=True):
        assert (parameter.grad is None) == (gradient is None)
        assert gradient is None or torch.equal(parameter.grad, gradient)  # type: ignore[arg-type]


@given(st.integers(1, 4096), st.integers(1, 1000))
@settings(max_examples=200)
def test_channels_are_the_floor_of_the_exact_product(channels: int, thousandths: int) -> None:
    assert first_channels(channels, thousandths / 1000) == channels * thousandths // 1000


def test_distillation_is_the_mean_over_pairs_and_leaves_teachers_alone() -> None:
    images = [torch.randn(2, 3, 4, 4, requires_grad=True) for _ in range(3)]
    steps = [((images[i] - images[i + 1]) ** 2).mean() for i in range(2)]
    torch.testing.assert_close(distillation(images), sum(steps) / 2)
    loss = distillation(images, "widest")
    torch.testing.assert_close(loss, (((images[0] - images[2]) ** 2).mean() + steps[1]) / 2)
    loss.backward()
    assert images[2].grad is None and images[0].grad is not None


@pytest.mark.parametrize(
    ("n_share", "head", "copies"),
    [(0, "own", 16 + 8), (2, "own", 2 + 8 + 8), (2, "linear", 2 + 8 + 4 + 1), (4, "one", 4 + 2)],
)
def test_copies_of_a_discriminator(n_share: int, head: str, copies: int) -> None:
    # four stages, linear and embedding, for each of four widths
    d = PerWidthDiscriminator(SNGANDiscriminator(32, 3, channels=4), QUARTERS, n_share, head)  # type: ignore
    parts = [id(m) for stage in d.trunk.values() for m in stage]  # type: ignore[attr-defined]
    parts += [id(m) for own in d.head for m in (own.linear, own.embed)]
    assert len(set(parts)) == copies


def test_one_discriminator_for_all_widths_scores_them_alike() -> None:
    images = torch.randn(2, 3, 32, 32)
    one = PerWidthDiscriminator(SNGANDiscriminator(32, channels=4), QUARTERS, 4, "one").eval()
    two = PerWidthDiscriminator(SNGANDiscriminator(32, channels=4), QUARTERS, 4).eval()
    assert count(one) == count(SNGANDiscriminator(32, channels=4))
    scores: list[list[Tensor]] = [[], []]
    for width in QUARTERS:
        with at_width(width):
            for network, found in zip((one, two), scores, strict=True):
                found.append(network(images))
    assert all(torch.equal(score, scores[0][0]) for score in scores[0])
    assert not torch.equal(scores[1][0], scores[1][1])


def test_files_hold_slimmable_networks(tmp_path: Path) -> None:
    g = disturbed(SlimmableGenerator(GENERATORS["classes"](), [0.5, 1], "naive"))
    d = disturbed(PerWidthDiscriminator(SNGANDiscriminator(32, 3, channels=8), [0.5, 1], 2, "linear"))
    save_network(g, tmp_path / "g.safetensors", "generator")
    save_network(d, tmp_path / "d.safetensors", "discriminator")
    g2 = gansharing.load(tmp_path / "g.safetensors")
    d2 = gansharing.load(tmp_path / "d.safetensors", "discriminator")
    assert isinstance(g2, Network) and isinstance(d2, Network)
    with at_width(0.5):
        images = g(LATENT, LABELS)
        assert torch.equal(g2(LATENT, LABELS), images)
        assert torch.equal(d2(images, LABELS), d(images, LABELS))


def test_a_slimmable_generator_can_be_divided_and_merged() -> None:
    slim = disturbed(SlimmableGenerator(GENERATORS["sngan"](), [0.5, 1]))
    plain = copy.deepcopy(slim)
    WidthWise(0.3).apply(slim)
    for network in (slim, merged(slim)):
        with at_width(0.5):
            assert torch.equal(network(LATENT), plain(LATENT))


def meta_counts(*networks: Callable[[], nn.Module]) -> list[int]:
    with torch.device("meta"):
        return [count(make()) for make in networks]


def test_generators_count_as_the_originals() -> None:
    sizes = {(SNGANGenerator, 32): (368771, 1204483, 2507139, 4276739, 4282115)}
    sizes[SNGANGenerator, 48] = (751811, 1815427, 3190851, 4878083, 4882307)
    sizes[SNGANGenerator, 64] = (1162051, 3586179, 7272387, 12220675, 12229507)
    sizes[SNDCGANGenerator, 32] = (436995, 1218051, 2343171, 3812355, 3813699)
    sizes[SNDCGANGenerator, 48] = (767235, 1878531, 3333891, 5133315, 5134659)
    sizes[SNDCGANGenerator, 64] = (1225859, 3844355, 7855491, 13259267, 13262147)
    for (kind, resolution), expected in sizes.items():
        with torch.device("meta"):
            slim = SlimmableGenerator(kind(resolution), QUARTERS)
            found = [count(extract(slim, width)) for width in QUARTERS]
        assert (*found, count(slim)) == expected


def test_networks_with_classes_count_as_the_originals() -> None:
    found = meta_counts(
        lambda: SNGANGenerator(32, num_classes=10),
        lambda: SlimmableGenerator(SNGANGenerator(32, num_classes=10)),
        lambda: SlimmableGenerator(SNGANGenerator(32, num_classes=100)),
        lambda: SlimmableGenerator(SNGANGenerator(32, num_classes=10), conditional="naive"),
        lambda: SlimmableGenerator(SNGANGenerator(32, num_classes=100), conditional="naive"),
    )
    assert found == [4304387, 4312835, 4589315, 4351235, 5042435]


def test_discriminators_count_as_the_originals() -> None:
    found = meta_counts(
        lambda: SNDCGANDiscriminator(32), lambda: SNDCGANDiscriminator(48), lambda: SNDCGANDiscriminator(64),
        lambda: SNGANDiscriminator(32), lambda: SNGANDiscriminator(48), lambda: SNGANDiscriminator(64),
        lambda: SNGANDiscriminator(32, 10), lambda: SNGANDiscriminator(32, 100),
    )  # fmt: skip
    assert found[:3] == [2935873, 2946113, 11858497]
    assert found[3:] == [1053825, 10141441, 10141441, 1055105, 1066625]


@pytest.mark.parametrize(
    ("num_classes", "expected"),
    [(0, [4215300, 2825220, 1054212]), (10, [4220420, 2830340, 1059332])],
)
def test_copies_count_as_the_originals(num_classes: int, expected: list[int]) -> None:
    whole = PerWidthDiscriminator(SNGANDiscriminator(32, num_classes))
    assert [count(whole), *(count(whole.with_shared(n)) for n in (2, 4))] == expected


def test_mistakes_are_told_in_a_line() -> None:
    slim = SlimmableGenerator(GENERATORS["sngan"](), QUARTERS)
    d = PerWidthDiscriminator(SNGANDiscriminator(32, channels=4), QUARTERS, 2)
    mistakes: list[tuple[str, Callable[[], object]]] = [
        ("ascend", lambda: SlimmableGenerator(GENERATORS["sngan"](), [0.5, 0.25, 1])),
        ("ascend", lambda: SlimmableGenerator(GENERATORS["sngan"](), [0.25, 0.5])),
        ("channels", lambda: SlimmableGenerator(GENERATORS["sngan"](), [0.01, 1])),
        ("'other' is unknown", lambda: SlimmableGenerator(GENERATORS["sngan"](), conditional="other")),  # type: ignore
        ("channel_arguments", lambda: SlimmableGenerator(DCGANGenerator(32, 8, 2))),
        ("give one", lambda: SlimmableGenerator(SNGANDiscriminator(32, channels=4))),  # type: ignore[arg-type]
        ("no width 0.3", lambda: extract(slim, 0.3)),
        ("n_share is 5", lambda: PerWidthDiscriminator(SNGANDiscriminator(32, channels=4), n_share=5)),
        ("do not exist", lambda: d.with_shared(1)),
        ("two widths", lambda: distillation([LATENT])),
        ("classes; give it labels", lambda: GENERATORS["classes"]()(LATENT)),
        ("resolution 40", lambda: SNGANGenerator(40)),
        ("resolution 128", lambda: SNDCGANDiscriminator(128)),
    ]
    for said, mistake in mistakes:
        with pytest.raises(UserError, match=said) as caught:
            mistake()
        assert "\n" not in str(caught.value)
    for width in (0.0, 1.5, float("nan")):
        with pytest.raises(UserError, match="not a share"), at_width(width):
            pass
    divided = GENERATORS["sngan"]()
    WidthWise(0.3).apply(divided)
    with pytest.raises(UserError, match="slim it first"):
        SlimmableGenerator(divided)
