"""BigGAN at every width: what is cut out computes the same, its attention, spectral norms and norms too."""

from collections.abc import Iterator

import pytest
import torch

from gansharing.networks import BigGANDiscriminator, BigGANGenerator
from gansharing.networks.biggan_layers import ProjectedBatchNorm2d
from gansharing.slimmable import (
    PerWidthDiscriminator,
    SlimmableDiscriminator,
    SlimmableGenerator,
    at_width,
    extract,
)
from tests.slimmable.test_slimmable import disturbed

WIDTHS = [0.25, 0.5, 1.0]
LABELS = torch.tensor([0, 2, 1])


def latents(count: int = 3, length: int = 12) -> torch.Tensor:
    return torch.randn(count, length, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def double() -> Iterator[None]:
    # Weights that are far from trained ones magnify rounding; in float64 nothing else is left to see.
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("conditional", ["sliceable", "equation6", "naive"])
@pytest.mark.parametrize("num_classes", [0, 3])
def test_a_width_cut_out_is_an_ordinary_biggan(conditional: str, num_classes: int) -> None:
    torch.manual_seed(0)
    plain = BigGANGenerator(32, 12, num_classes, channels=16, embed_dim=5)
    slim = disturbed(SlimmableGenerator(plain, WIDTHS, conditional))  # type: ignore[arg-type]
    before = {name: tensor.clone() for name, tensor in slim.state_dict().items()}
    for width in WIDTHS:
        alone = extract(slim, width)  # type: ignore[arg-type]
        assert type(alone) is BigGANGenerator and alone.channels == 16 * width
        assert not [m for m in alone.modules() if hasattr(m, "parametrizations")]
        with at_width(width):
            expected = slim(latents(), LABELS)
        torch.testing.assert_close(alone(latents(), LABELS), expected, rtol=0, atol=1e-12)
    assert all(torch.equal(tensor, before[name]) for name, tensor in slim.state_dict().items())


def test_at_full_width_nothing_changes() -> None:
    torch.manual_seed(0)
    plain = disturbed(BigGANGenerator(128, 12, 3, channels=8, embed_dim=5))
    expected = plain(latents(), LABELS)
    slim = SlimmableGenerator(plain, [0.5, 1]).eval()  # type: ignore[arg-type]
    torch.testing.assert_close(slim(latents(), LABELS), expected, rtol=0, atol=1e-6)
    with at_width(0.5):
        assert slim(latents(), LABELS).shape == (3, 3, 128, 128)


def test_as_drawn_a_width_cut_out_is_the_same_to_a_millionth() -> None:
    torch.manual_seed(0)
    slim = SlimmableGenerator(BigGANGenerator(32, 12, 3, channels=16), WIDTHS).eval()
    for width in WIDTHS:
        with at_width(width):
            expected = slim(latents(), LABELS)
        torch.testing.assert_close(extract(slim, width)(latents(), LABELS), expected, rtol=0, atol=1e-6)


def test_a_projection_is_cut_after_the_whole_ones_norm() -> None:
    torch.manual_seed(0)
    slim = disturbed(SlimmableGenerator(BigGANGenerator(32, 12, channels=16), [0.5, 1]))
    ordinary, norm = BigGANGenerator(32, 12, channels=16), slim.network.blocks[0].b1  # type: ignore
    assert isinstance(ordinary.blocks[0].b1, ProjectedBatchNorm2d)
    x, condition = torch.randn(2, 32, 4, 4), torch.randn(2, 3)
    own, embed = norm.norms[0], norm.embed
    mean, var = own.running_mean[:, None, None], own.running_var[:, None, None]
    hat = (x - mean) / (var + 1e-5).sqrt()
    gain = 1 + condition @ embed.gain.weight[:32].T
    shift = condition @ embed.shift.weight[:32].T
    expected = own.weight[:, None, None] * hat + own.bias[:, None, None]
    expected = gain[:, :, None, None] * expected + shift[:, :, None, None]
    with at_width(0.5):
        torch.testing.assert_close(norm(x, condition), expected)


def test_discriminators_for_every_width() -> None:
    torch.manual_seed(0)
    images = torch.randn(3, 3, 32, 32)
    each = PerWidthDiscriminator(BigGANDiscriminator(32, 3, channels=4), WIDTHS, n_share=2).eval()
    thin = SlimmableDiscriminator(BigGANDiscriminator(32, 3, channels=16), WIDTHS).eval()
    for network in (each, thin):
        scores = []
        for width in WIDTHS:
            with at_width(width):
                scores.append(network(images, LABELS))
        assert all(score.shape == (3,) and score.isfinite().all() for score in scores)
        assert not torch.equal(scores[0], scores[2])
