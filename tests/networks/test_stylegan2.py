"""StyleGAN2 against recorded outputs of the original implementation and its published counts."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gansharing.errors import UserError
from gansharing.networks import Network, StyleGAN2Discriminator, StyleGAN2Generator
from tests.golden.fill import STYLEGAN2, fill, recorded

# resolution: parameters of G and D at configuration E, at F, number of styles
COUNTS = {
    64: (23_819_544, 23_407_361, 27_032_600, 26_488_833, 10),
    128: (24_525_213, 23_882_369, 29_328_669, 28_389_121, 12),
    256: (24_767_458, 24_001_089, 30_034_338, 28_864_129, 14),
    512: (24_860_935, 24_030_753, 30_276_583, 28_982_849, 16),
    1024: (24_900_764, 24_038_161, 30_370_060, 29_012_513, 18),
}


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual.detach(), expected, atol=1e-4, rtol=1e-4)


def count(network: Network) -> int:
    return sum(p.numel() for p in network.parameters())


def generator(resolution: int = 64, classes: int = 0, **options: Any) -> StyleGAN2Generator:
    sizes = {"channel_base": 1024, "channel_max": 64} | options
    network = StyleGAN2Generator(resolution, 32, 32, classes, **sizes)
    fill(network, STYLEGAN2)
    return network.eval()


def discriminator(resolution: int = 64, classes: int = 0, **options: Any) -> StyleGAN2Discriminator:
    sizes = {"channel_base": 1024, "channel_max": 64} | options
    network = StyleGAN2Discriminator(resolution, classes, **sizes)
    fill(network, STYLEGAN2)
    return network.eval()


@pytest.mark.parametrize("resolution", COUNTS)
def test_counts_are_the_originals(resolution: int) -> None:
    with torch.device("meta"):
        e = StyleGAN2Generator(resolution), StyleGAN2Discriminator(resolution)
        f = (
            StyleGAN2Generator(resolution, channel_base=32768),
            StyleGAN2Discriminator(resolution, channel_base=32768),
        )
    assert (*map(count, e), *map(count, f), e[0].num_ws) == COUNTS[resolution]


def test_two_mapping_layers_are_525_312() -> None:
    with torch.device("meta"):
        assert (
            count(StyleGAN2Generator(256)) - count(StyleGAN2Generator(256, mapping_layers=2)) == 6 * 262_656
        )


@pytest.mark.parametrize("kind", ["plain", "labels"])
def test_images_are_the_originals(kind: str) -> None:
    golden = recorded("stylegan2_generator")
    expected = {key.removeprefix(f"{kind}:"): value for key, value in golden.items() if key.startswith(kind)}
    labels = expected.get("c")
    g = generator(classes=0 if labels is None else labels.shape[1])
    z = expected["z"]
    with torch.no_grad():
        close(g.mapping(z, labels), expected["ws"])
        close(g(z, labels, noise="none")[..., ::3, ::3], expected["img_none"])
        close(g(z, labels)[..., ::3, ::3], expected["img_const"])
        close(g(z, labels, truncation=0.7)[..., ::3, ::3], expected["img_const_psi0.7"])
        near = g(z, labels, truncation=0.5, cutoff=4)
        close(near[..., ::3, ::3], expected["img_const_psi0.5_cutoff4"])
        if labels is not None:
            assert torch.equal(g.mapping(z, labels.argmax(1)), g.mapping(z, labels))
    ws = g.style(z, labels).detach().requires_grad_(True)
    source = np.random.Generator(np.random.PCG64(1236))
    noise = torch.from_numpy(source.standard_normal((2, 3, 64, 64)).astype(np.float32)) / 64
    (gradient,) = torch.autograd.grad((g.synthesis(ws) * noise).sum(), ws)
    close(gradient.square().sum(2).mean(1).sqrt(), expected["pl_lengths"])


@pytest.mark.parametrize("kind", ["plain", "labels"])
def test_scores_are_the_originals(kind: str) -> None:
    golden = recorded("stylegan2_discriminator")
    labels = golden.get(f"{kind}:c")
    d = discriminator(classes=0 if labels is None else labels.shape[1])
    images = golden["plain:img"].requires_grad_(True)
    scores = d(images, labels)
    close(scores[:, None], golden[f"{kind}:logits"])
    (gradient,) = torch.autograd.grad(scores.sum(), images)
    torch.testing.assert_close(gradient.square().flatten(1).sum(1), golden[f"{kind}:r1"], rtol=1e-4, atol=0)

    source = np.random.Generator(np.random.PCG64(1238))
    coarse = source.standard_normal((8, 3, 4, 4)).repeat(16, 2).repeat(16, 3)
    eight = torch.from_numpy((coarse + 0.5 * source.standard_normal((8, 3, 64, 64))).astype(np.float32))
    with torch.no_grad():
        eight_labels = None if labels is None else torch.arange(8) % 3
        close(d(eight, eight_labels)[:, None], golden[f"{kind}:logits8"])


def phases(golden: dict[str, Tensor]) -> dict[str, tuple[Network, dict[str, Tensor]]]:
    """Each phase of training by itself: gradients are in its network, reported values beside it."""
    z, real, noise = golden["z"], golden["real"], golden["pl_noise"]
    sizes = {"channel_base": 512, "channel_max": 48}

    def networks() -> tuple[StyleGAN2Generator, StyleGAN2Discriminator]:
        g, d = generator(32, **sizes), discriminator(32, **sizes)
        for name, buffer in g.named_buffers():
            if name.endswith("noise_const"):
                buffer.zero_()
        return g.train(), d.train()

    done: dict[str, tuple[Network, dict[str, Tensor]]] = {}
    g, d = networks()
    scores = d(g(z, noise="const"))
    F.softplus(-scores).mean().backward()
    done["Gmain"] = g, {"Loss/scores/fake": scores.mean(), "Loss/G/loss": F.softplus(-scores).mean()}

    g, _ = networks()
    ws = g.style(z[:2])
    images = g.synthesis(ws, noise="const")
    (slope,) = torch.autograd.grad((images * noise / 32).sum(), ws, create_graph=True)
    lengths = slope.square().sum(2).mean(1).sqrt()
    mean = 0.5 + 0.01 * (lengths.mean() - 0.5)
    penalty = (lengths - mean).square().mean()
    (4 * 2 * penalty).backward()
    done["Greg"] = g, {"Loss/pl_penalty": penalty, "Loss/G/reg": 2 * penalty, "pl_mean_after": mean}

    g, d = networks()
    with torch.no_grad():
        fake = g(z, noise="const")
    on_fake, on_real = d(fake), d(real)
    loss = F.softplus(on_fake).mean() + F.softplus(-on_real).mean()
    loss.backward()
    done["Dmain"] = d, {"Loss/scores/real": on_real.mean(), "Loss/D/loss": loss}

    _, d = networks()
    real = real.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(d(real).sum(), real, create_graph=True)
    r1 = slope.square().sum((1, 2, 3)).mean()
    (16 * 10 / 2 * r1).backward()
    done["Dreg"] = d, {"Loss/r1_penalty": r1, "Loss/D/reg": 5 * r1}
    return done


def test_every_phase_of_training_has_the_originals_gradients() -> None:
    golden = recorded("stylegan2_gradients")
    for phase, (network, values) in phases(golden).items():
        for name, value in values.items():
            expected = golden[f"scalar:{phase}:{name}"].item()
            assert value.item() == pytest.approx(expected, rel=1e-4), name
        for name, parameter in network.named_parameters():
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            norm = golden[f"norm:{phase}:{name}"].item()
            assert gradient.double().norm().item() == pytest.approx(norm, rel=1e-3, abs=1e-9), (phase, name)
            whole = golden.get(f"{phase}:{name}")
            if whole is not None:
                limit = 1e-3 * whole.abs().max().item()
                torch.testing.assert_close(gradient, whole, rtol=0, atol=limit)
        if phase == "Gmain":
            assert isinstance(network, StyleGAN2Generator)
            close(network.mapping.w_avg, golden["Gmain:w_avg_after"])


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("resolution", [8, 32])
def test_stages_partition_the_parameters(resolution: int, classes: int) -> None:
    sizes = {"channel_base": 64, "channel_max": 4}
    networks: list[Network] = [
        StyleGAN2Generator(resolution, 4, 4, classes, **sizes),
        StyleGAN2Discriminator(resolution, classes, **sizes),
    ]
    for network in networks:
        staged = [id(p) for stage in network.stages().values() for p in stage.parameters()]
        assert sorted(staged) == sorted(id(p) for p in network.parameters())


def test_stages_in_the_order_of_the_signal() -> None:
    sizes = {"channel_base": 64, "channel_max": 4}
    g = StyleGAN2Generator(16, 4, 4, 2, mapping_layers=2, **sizes)
    assert " ".join(g.stages()) == (
        "embed fc0 fc1 b4.const b4.conv1 b4.torgb b8.conv0 b8.conv1 b8.torgb b16.conv0 b16.conv1 b16.torgb"
    )
    assert list(StyleGAN2Discriminator(16, 2, **sizes).stages()) == ["b16", "b8", "b4", "mapping"]
    assert g.trained_buffers() == ["mapping.w_avg"]
    assert all(layer.weight.shape[1] == 4 for layer in g.style_layers().values())
    assert list(g.style_layers())[0] == "synthesis.b4.conv1.affine"
    assert len(g.style_layers()) == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resolution": 48}, "8, 16, 32"),
        ({"resolution": 2048}, "1024"),
        ({"channel_base": 100, "resolution": 128}, "channel_base 100"),
        ({"mixing": 1.5}, "mixing is 1.5"),
        ({"w_dim": 0}, "w_dim"),
    ],
)
def test_impossible_sizes_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        StyleGAN2Generator(**arguments)


def test_labels_are_asked_for() -> None:
    g = StyleGAN2Generator(8, 4, 4, 3, channel_base=16, channel_max=2)
    with pytest.raises(UserError, match="3 classes"):
        g(torch.zeros(1, 4))
    with pytest.raises(UserError, match="labels of 2 classes"):
        g(torch.zeros(1, 4), torch.ones(1, 2))
    with pytest.raises(UserError, match="takes"):
        g.synthesis(torch.zeros(1, 5, 4))
