"""FastGAN against recorded outputs of the original, its counts, finite differences and every sharing."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gansharing.checkpoints.fastgan import read_fastgan
from gansharing.errors import UserError
from gansharing.networks import FastGANDiscriminator, FastGANGenerator, Network
from gansharing.networks.init import raw_weight
from gansharing.sharing import (
    AdaFM,
    BatchStatistics,
    FreezeLower,
    LayerWise,
    LowRank,
    Sharing,
    WidthWise,
    merged,
    split_of,
)
from tests.golden.fastgan import images, noise, original
from tests.golden.fill import recorded

GOLDEN = recorded("fastgan")


def network(part: str, folder: Path) -> Any:
    torch.save(original(part), folder / "original.pth")
    return read_fastgan(folder / "original.pth", None).network


def close(actual: Tensor, name: str, stride: int = 1) -> None:
    if stride > 1:
        actual = actual[..., ::stride, ::stride]
    torch.testing.assert_close(actual.detach(), GOLDEN[name], rtol=3e-4, atol=3e-5)


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def convolutions(net: nn.Module) -> list[nn.Module]:
    return [module for module in net.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]


def test_both_heads_are_the_originals(tmp_path: Path) -> None:
    g, z = network("generator", tmp_path), GOLDEN["generator:z"]
    before = copy.deepcopy(g.state_dict())
    with torch.no_grad():
        for maps, suffix in (("none", ""), (noise(), "_noise")):
            image, small = g.heads(z, maps)
            close(image, f"generator:big{suffix}", 10)
            close(small, f"generator:small{suffix}", 6)
            assert torch.equal(g(z, noise=maps), image)
        # The original samples in train mode; here eval mode does the same and keeps nothing.
        close(g(z, noise="none", batch_norm="batch"), "generator:big_train", 10)
        assert all(torch.equal(tensor, before[name]) for name, tensor in g.state_dict().items())
        image, small = g.train().heads(z, "none")
    close(image, "generator:big_train", 10)
    close(small, "generator:small_train", 6)
    close(g.blocks["8"].convs[0].norm.running_var, "generator:after_train_feat_8_3_running_var")


def flat(scores: Tensor) -> Tensor:
    """The original's order: the big branch's scores of all images come first."""
    return torch.cat([scores[:, :25].flatten(), scores[:, 25:].flatten()])


def test_scores_and_reconstructions_are_the_originals(tmp_path: Path) -> None:
    d, (big, small) = network("discriminator", tmp_path), images()
    with torch.no_grad():
        for quadrant in range(4):
            scores, rebuilt = d.score_and_reconstruct(big, quadrant)
            close(rebuilt.part, f"discriminator:rec_part{quadrant}", 6)
        close(flat(scores), "discriminator:logits_real")
        close(rebuilt.whole, "discriminator:rec_big", 6)
        close(rebuilt.small, "discriminator:rec_small", 6)
        assert torch.equal(d(big), scores)
        close(flat(d((big, small))), "discriminator:logits_fake")
        close(flat(d.train()((big, small))), "discriminator:logits_fake_train")


def test_counts_are_the_originals() -> None:
    counts = {256: (29_127_846, 11_526_160), 512: (29_174_392, 11_526_496), 1024: (29_176_512, 11_528_192)}
    for resolution, expected in counts.items():
        g, d = FastGANGenerator(resolution), FastGANDiscriminator(resolution)
        assert (count(g), count(d)) == expected
        if resolution == 256:
            for net, normalised, norms in ((g, 18, 10), (d, 44, 31)):
                assert [parametrize.is_parametrized(c) for c in convolutions(net)] == [True] * normalised
                assert all(getattr(c, "bias", None) is None for c in convolutions(net))
                assert sum(isinstance(module, nn.BatchNorm2d) for module in net.modules()) == norms


@pytest.mark.parametrize("resolution", [32, 64, 128, 256, 512, 1024])
def test_every_size_makes_scores_and_rebuilds_images(resolution: int) -> None:
    side = min(128, resolution // 2)
    g, d = FastGANGenerator(resolution, 6, 8).eval(), FastGANDiscriminator(resolution, 8).eval()
    with torch.no_grad():
        made = g.heads(torch.zeros(2, 6))
        assert made.image.shape == (2, 3, resolution, resolution)
        assert made.small.shape == (2, 3, side, side)
        assert d(tuple(made)).shape == (2, 50)
        scores, rebuilt = d.score_and_reconstruct(made.image, 1)
        wanted = d.targets(made.image, 1)
    assert scores.shape == (2, 50)
    assert [x.shape for x in (*rebuilt, *wanted)] == [(2, 3, side, side)] * 6
    for net in (g, d):
        staged = [id(p) for stage in net.stages().values() for p in stage.parameters()]
        assert sorted(staged) == sorted(id(p) for p in net.parameters())
    sizes = [f"{4 << i}px" for i in range(resolution.bit_length() - 2)]
    assert list(g.stages()) == [*sizes, "to_small", "to_image"]
    big = [size for size in reversed(sizes[1:]) if int(size[:-2]) <= 256]
    assert list(d.stages()) == [*big, "to_score", "decoders"]


def test_a_smaller_network_is_the_original_without_its_largest_layers() -> None:
    makes: list[tuple[Any, tuple[str, ...]]] = [
        (FastGANDiscriminator, ("start", "small_start")),
        (FastGANGenerator, ("to_",)),
    ]
    for make, ends in makes:
        small, large = (
            {n: p.shape for n, p in make(r, base_channels=8).named_parameters()} for r in (64, 256)
        )
        kept = {n: shape for n, shape in small.items() if not n.startswith(ends) and "to_image" not in n}
        assert kept.items() <= large.items() and len(kept) > 20


def test_what_table_2_leaves_out_is_left_out_and_nothing_else() -> None:
    whole, plain = FastGANGenerator(256, 16, 8), FastGANGenerator(256, 16, 8, skip=False)
    excited = {64: (128, 16), 128: (64, 8), 256: (32, 4)}  # channels of 4, 8, 16 px and of the excited map
    assert count(whole) - count(plain) == sum(16 * low * high + high**2 for low, high in excited.values())
    d, bare = FastGANDiscriminator(256, 8), FastGANDiscriminator(256, 8, skip=False, decoders=False)
    names = {name for name, _ in d.named_parameters()} - {name for name, _ in bare.named_parameters()}
    assert {name.split(".")[0] for name in names} == {
        *("excitations", "decoder", "small_decoder", "part_decoder")
    }
    thin = FastGANDiscriminator(256, 8, decoder_channels=4).decoder
    assert [block.convs[0].conv.out_channels for block in thin.blocks] == [
        32,
        16,
        16,
        8,
    ]  # gated: half remain
    assert "decoders" not in bare.stages() and bare(torch.zeros(1, 3, 256, 256)).shape == (1, 50)
    with pytest.raises(UserError, match="decoders: true"):
        bare.score_and_reconstruct(torch.zeros(1, 3, 256, 256), 0)
    plain.load_state_dict({n: t for n, t in whole.state_dict().items() if "excitations" not in n})
    for module in whole.excitations.values():
        module.register_forward_hook(lambda module, inputs, output: inputs[1])
    z = torch.randn(2, 16)
    assert torch.equal(whole.eval()(z), plain.eval()(z))


def test_weights_are_drawn_before_their_spectrum_is_normalised() -> None:
    torch.manual_seed(0)
    for net in (FastGANGenerator(32, 16, 8), FastGANDiscriminator(32, 8)):
        for module in convolutions(net.eval()):
            raw = raw_weight(module)
            if raw.numel() > 5000:
                assert raw.std().item() == pytest.approx(0.02, rel=0.05)
            weight = module.weight
            if isinstance(module, nn.ConvTranspose2d):
                weight = weight.transpose(0, 1)
            assert torch.linalg.matrix_norm(weight.flatten(1), 2).item() == pytest.approx(1, rel=0.1)


def noisy(resolution: int = 32, **arguments: Any) -> FastGANGenerator:
    torch.manual_seed(0)
    g = FastGANGenerator(resolution, 6, 2, **arguments).eval()
    with torch.no_grad():
        for name, parameter in g.named_parameters():
            if name.endswith("strength"):
                parameter.fill_(0.5)
    return g


def test_an_image_depends_on_its_latent_alone_unless_told_otherwise() -> None:
    g = noisy()
    z = g.sample_latent(3)
    alone = torch.cat([g(latent[None]) for latent in z])
    torch.testing.assert_close(g(z), alone)
    assert torch.equal(g(z), g(z, noise="const", batch_norm="running"))
    assert not torch.allclose(g(z), g(z, noise="none"), atol=1e-3)
    assert not torch.allclose(g(z, noise="random"), g(z, noise="random"), atol=1e-3)
    assert not torch.allclose(g(z, batch_norm="batch")[:2], g(z[:2], batch_norm="batch"), atol=1e-3)
    fixed = [module.const[None, None] for module in g.modules() if hasattr(module, "const")]
    assert torch.equal(g(z), g(z, noise=fixed))
    sampled = noisy(noise="none", batch_norm="batch")
    sampled.load_state_dict(g.state_dict())
    assert torch.equal(sampled(z), g(z, noise="none", batch_norm="batch"))
    torch.manual_seed(1)
    drawn = g.train()(z)
    torch.manual_seed(1)
    again = g(z, noise="random")  # but for a power iteration
    torch.testing.assert_close(drawn, again, rtol=0, atol=5e-3)
    assert not torch.allclose(drawn, g(z), atol=5e-3)
    assert not any(name.endswith("const") for name in g.trained_buffers())
    # Two statistics and a counter a batch norm, two vectors a convolution.
    assert len(g.trained_buffers()) == 3 * 6 + 2 * len(convolutions(g))


def test_tanh_bounds_both_heads() -> None:
    free, bounded = noisy(), noisy(tanh="always")
    z = free.sample_latent(2) * 30
    for raw, image in zip(free.heads(z), bounded.heads(z), strict=True):
        assert torch.equal(raw.tanh(), image)
    assert [FastGANGenerator(r, 6, 8).bounded for r in (256, 512, 1024)] == [False, False, True]


def test_targets_are_the_nearest_pixels_of_the_image_and_of_its_quadrants() -> None:
    d = FastGANDiscriminator(64, 2)
    x = torch.randn(2, 3, 64, 64)
    quadrants = [x[:, :, :32, :32], x[:, :, :32, 32:], x[:, :, 32:, :32], x[:, :, 32:, 32:]]
    for quadrant, part in enumerate(quadrants):
        whole, small, cut = d.targets(x, quadrant)
        assert torch.equal(whole, x[:, :, ::2, ::2]) and torch.equal(small, whole)
        assert torch.equal(cut, part)


def test_gradients_are_finite_differences() -> None:
    torch.manual_seed(0)
    g, d = noisy().double(), FastGANDiscriminator(32, 4).double().eval()
    z = g.sample_latent(2).double()

    def loss() -> Tensor:
        made = g.heads(z)
        scores, rebuilt = d.score_and_reconstruct(made.image, 2)
        return scores.sin().mean() + d(tuple(made)).mean() + sum(x.square().mean() for x in rebuilt)

    for net in (g, d):
        parameters = list(net.parameters())
        gradients = torch.autograd.grad(loss(), parameters)
        assert all(gradient.isfinite().all() for gradient in gradients)
        directions = [torch.randn_like(p) * p.std(correction=0).clamp(min=0.1) for p in parameters]
        values = []
        for step in (1e-6, -2e-6):
            with torch.no_grad():
                for parameter, direction in zip(parameters, directions, strict=True):
                    parameter.add_(direction, alpha=step)
                values.append(loss().item())
        expected = sum((a * b).sum().item() for a, b in zip(gradients, directions, strict=True))
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(expected, rel=1e-3)


SHARINGS: dict[str, Callable[[], Sharing]] = {
    "width": lambda: WidthWise(0.3),
    "layers": lambda: LayerWise(["8px", "16px"]),
    "freeze": lambda: FreezeLower(2),
    "low_rank": lambda: LowRank(1),
    "adafm": AdaFM,
    "statistics": BatchStatistics,
}


@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("part", ["generator", "discriminator"])
def test_sharings_divide_it_and_change_no_output(part: str, sharing: str) -> None:
    torch.manual_seed(0)
    net: Network = noisy() if part == "generator" else FastGANDiscriminator(32, 4).eval()
    x = torch.randn(2, 6) if part == "generator" else torch.randn(2, 3, 32, 32)
    before = net(x)
    split = SHARINGS[sharing]().apply(net)
    assert torch.equal(net(x), before)
    assert 0 < split.learn_ratio < 1
    assert split.domain_buffers.keys() == set(net.trained_buffers())
    plain = merged(net)
    assert torch.equal(plain(x), before)
    assert not split_of(plain).shared


def test_freezing_lower_stages_keeps_what_is_nearest_the_image() -> None:
    g, d = FastGANGenerator(64, 6, 2), FastGANDiscriminator(64, 4)
    shared = FreezeLower(2).apply(g).shared
    assert {name.partition(".")[0] for name in shared} == {"to_small", "to_image"}
    shared = FreezeLower(2).apply(d).shared  # 64 and 32 px
    assert {name.partition(".param")[0] for name in shared if "param" in name} == {
        "start.0", "blocks.32.main.0.0", "blocks.32.main.1.0", "blocks.32.direct.0",
    }  # fmt: skip


def test_what_cannot_be_built_or_called_says_why() -> None:
    cases: list[tuple[Callable[[], Any], str]] = [
        (lambda: FastGANGenerator(48), "32, 64, 128, 256, 512, 1024"),
        (lambda: FastGANDiscriminator(2048), "32, 64, 128, 256, 512, 1024"),
        (lambda: FastGANGenerator(1024, base_channels=7), "base_channels is 7.*at least 8"),
        (lambda: FastGANGenerator(base_channels=1), "at least 2"),
        (lambda: FastGANDiscriminator(base_channels=3), "at least 4"),
        (lambda: FastGANDiscriminator(1024, base_channels=7), "at least 8"),
        (lambda: FastGANGenerator(latent_dim=0), "latent_dim is 0"),
        (lambda: noisy()(torch.zeros(1, 6), noise=[torch.zeros(1, 1, 8, 8)]), "1 maps.*adds 4"),
    ]
    for call, message in cases:
        with pytest.raises(UserError, match=message):
            call()
