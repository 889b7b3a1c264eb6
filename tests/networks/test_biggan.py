"""BigGAN: counts of the published networks, its layers against formulas written out."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from gansharing.errors import UserError
from gansharing.networks import BigGANDiscriminator, BigGANGenerator, Generator, Network
from gansharing.networks.biggan_layers import DownBlock, ProjectedBatchNorm2d, SelfAttention, UpBlock
from gansharing.networks.init import orthogonal_init

LABELS = torch.tensor([2, 0])


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_counts_at_128_px_are_the_published() -> None:
    with torch.device("meta"):
        assert count(BigGANGenerator(128, num_classes=1000)) == 70_433_988
        assert count(BigGANDiscriminator(128, num_classes=1000)) == 87_982_370


@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize("resolution", [32, 128])
def test_sizes_and_stages(resolution: int, num_classes: int) -> None:
    networks: list[Network] = [
        BigGANGenerator(resolution, 12, num_classes, channels=4, embed_dim=5),
        BigGANDiscriminator(resolution, num_classes, channels=8),
    ]
    for network in networks:
        staged = [id(p) for stage in network.stages().values() for p in stage.parameters()]
        assert sorted(staged) == sorted(id(p) for p in network.parameters())
        if isinstance(network, Generator):
            images = network(network.sample_latent(2), LABELS)
            assert images.shape == (2, 3, resolution, resolution) and images.abs().max() <= 1
        else:
            assert network(torch.randn(2, 3, resolution, resolution), LABELS).shape == (2,)


def test_every_part_of_the_latent_and_the_class_reach_the_image() -> None:
    torch.manual_seed(0)
    network = BigGANGenerator(32, 8, 3, channels=8, embed_dim=5).eval()
    latent = network.sample_latent(2).requires_grad_()
    network(latent, LABELS).square().sum().backward()
    assert latent.grad is not None and latent.grad.abs().amin() > 0
    assert network.embed is not None and network.embed.weight.grad is not None
    assert (network.embed.weight.grad.abs().sum(1) > 0).tolist() == [True, False, True]


def test_attention_place_by_place() -> None:
    torch.manual_seed(0)
    attention, x = SelfAttention(8).eval(), torch.randn(2, 8, 4, 6)
    assert torch.equal(attention(x), x)  # it starts as nothing
    with torch.no_grad():
        attention.gamma.fill_(0.7)
    query, key, value, out = (
        layer.weight[:, :, 0, 0].detach()  # type: ignore[union-attr, index, operator]
        for layer in (attention.query, attention.key, attention.value, attention.out)
    )
    pooled = {
        name: F.max_pool2d(torch.einsum("oc,nchw->nohw", weight, x), 2)
        for name, weight in (("key", key), ("value", value))
    }
    result = attention(x)
    for image in range(2):
        for row in range(4):
            for column in range(6):
                place = x[image, :, row, column]
                scores = torch.stack(
                    [(query @ place) @ pooled["key"][image, :, i, j] for i in range(2) for j in range(3)]
                )
                shares = scores.exp() / scores.exp().sum()
                seen = torch.stack([pooled["value"][image, :, i, j] for i in range(2) for j in range(3)])
                expected = place + 0.7 * out @ (shares @ seen)
                torch.testing.assert_close(result[image, :, row, column], expected, rtol=1e-4, atol=1e-5)


def test_attention_has_a_second_derivative() -> None:
    attention = SelfAttention(8).double().eval()
    nn.init.ones_(attention.gamma)
    x = torch.randn(1, 8, 2, 2, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradgradcheck(attention, x, atol=1e-5)


def test_a_norm_is_modulated_around_one() -> None:
    norm, x, condition = ProjectedBatchNorm2d(4, 3, True).train(), torch.randn(2, 4, 5, 5), torch.randn(2, 3)
    norm.eval()
    hat = x / math.sqrt(1 + 1e-5)
    gain, shift = (layer.weight.detach() for layer in (norm.embed.gain, norm.embed.shift))  # type: ignore
    expected = hat * (1 + condition @ gain.T)[:, :, None, None] + (condition @ shift.T)[:, :, None, None]
    torch.testing.assert_close(norm(x, condition), expected)
    assert torch.equal(norm(x, torch.zeros(2, 3)), F.batch_norm(x, torch.zeros(4), torch.ones(4)))


def test_a_generators_block_doubles_by_nearest_neighbours() -> None:
    torch.manual_seed(0)
    block, x, condition = UpBlock(3, 5, 4, True).eval(), torch.randn(2, 3, 4, 4), torch.randn(2, 4)
    up = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    hidden = block.b1(x, condition).clamp(min=0).repeat_interleave(2, 2).repeat_interleave(2, 3)
    branch = block.c2(block.b2(block.c1(hidden), condition).clamp(min=0))
    torch.testing.assert_close(block(x, condition), branch + block.c_sc(up))


def test_a_discriminators_shortcut_sees_the_features_as_they_are() -> None:
    torch.manual_seed(0)
    block, x = DownBlock(4, 6, down=True).eval(), torch.randn(2, 4, 8, 8)
    assert block.c_sc is not None
    pooled = block.c_sc(x).reshape(2, 6, 4, 2, 4, 2).mean((3, 5))
    branch = block.c2(block.c1(x.clamp(min=0)).clamp(min=0)).reshape(2, 6, 4, 2, 4, 2).mean((3, 5))
    torch.testing.assert_close(block(x), branch + pooled)
    same = DownBlock(4, 4, down=False).eval()
    torch.testing.assert_close(same(x), x + same.c2(same.c1(x.clamp(min=0)).clamp(min=0)))


@pytest.mark.parametrize("kind", [BigGANGenerator, BigGANDiscriminator])
def test_weights_start_orthogonal_with_norm_one(kind: type[Network]) -> None:
    network = kind(32, channels=8).eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and parametrize.is_parametrized(module):
            values = torch.linalg.svdvals(module.weight.detach().flatten(1))
            torch.testing.assert_close(values, torch.ones_like(values), rtol=0, atol=1e-4)


def test_orthogonal_weights_with_and_without_spectral_norm() -> None:
    layers = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Embedding(5, 3))
    before: list[Tensor] = [p.detach().clone() for p in layers.parameters()]
    orthogonal_init(layers)
    values = [torch.linalg.svdvals(layer.weight.detach().flatten(1)) for layer in layers]  # type: ignore
    assert all(torch.allclose(value, torch.ones(3), atol=1e-5) for value in values)
    assert torch.equal(layers[0].bias, before[1])  # type: ignore[arg-type]


def test_wrong_arguments() -> None:
    with pytest.raises(UserError, match="cuts it into 6"):
        BigGANGenerator(128, 128, channels=4)
    with pytest.raises(UserError, match="use one of 32, 128"):
        BigGANDiscriminator(64)
    with pytest.raises(UserError, match=r"channels \* 1 >> 3 is 0"):
        BigGANDiscriminator(128, channels=7)
    with pytest.raises(UserError, match="3 classes; give it labels"):
        BigGANGenerator(32, 8, 3, channels=4)(torch.randn(2, 8))
