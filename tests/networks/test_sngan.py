"""SNGAN, SNDCGAN and cGAN-pd: their blocks against naive formulas, stages, sizes."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gansharing.errors import UserError
from gansharing.networks import (
    Discriminator,
    Generator,
    Network,
    SNDCGANDiscriminator,
    SNDCGANGenerator,
    SNGANDiscriminator,
    SNGANGenerator,
)
from gansharing.networks.sngan_layers import ConditionalBatchNorm2d, DownBlock, Head, UpBlock

NETWORKS: list[Network] = [
    *(SNGANGenerator(resolution, 6, channels=16) for resolution in (32, 48, 64, 128)),
    *(SNDCGANGenerator(resolution, 6, channels=16) for resolution in (32, 48, 64)),
    *(SNGANDiscriminator(resolution, channels=16) for resolution in (32, 48, 64, 128)),
    *(SNDCGANDiscriminator(resolution, channels=16) for resolution in (32, 48, 64)),
    *(SNGANGenerator(resolution, 6, 3, channels=16) for resolution in (32, 128)),
    *(SNGANDiscriminator(resolution, 3, channels=16) for resolution in (32, 128)),
]
LABELS = torch.tensor([2, 0])


def effective(layer: nn.Module) -> Tensor:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight.detach()


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: f"{type(n).__name__}{n.resolution}")
def test_sizes_and_stages(network: Network) -> None:
    staged = [id(p) for stage in network.stages().values() for p in stage.parameters()]
    assert sorted(staged) == sorted(id(p) for p in network.parameters())
    if isinstance(network, Generator):
        image = network(network.sample_latent(2), LABELS)
        assert image.shape == (2, 3, network.resolution, network.resolution) and image.abs().max() <= 1
    else:
        assert isinstance(network, Discriminator)
        side = network.resolution
        assert network(torch.randn(2, 3, side, side), LABELS).shape == (2,)


def test_the_shortcut_sees_the_rectified_features() -> None:
    block = DownBlock(4, 6, down=True).eval()
    x = torch.randn(2, 4, 8, 8)
    rectified = x.clamp(min=0)
    weights = [(effective(layer), layer.bias) for layer in (block.c1, block.c2, block.c_sc)]  # type: ignore
    hidden = F.conv2d(rectified, *weights[0], padding=1).clamp(min=0)
    expected = F.conv2d(hidden, *weights[1], padding=1) + F.conv2d(rectified, *weights[2])
    expected = expected.reshape(2, 6, 4, 2, 4, 2).mean((3, 5))
    torch.testing.assert_close(block(x), expected)
    same = DownBlock(4, 4, down=False).eval()
    branch = same.c2(same.c1(rectified).clamp(min=0))
    torch.testing.assert_close(same(x) - branch, rectified)
    assert (x < 0).any()  # the input itself is left alone


def test_a_generators_block_doubles_bilinearly() -> None:
    block = UpBlock(3, 5, 0).eval()
    x = torch.randn(2, 3, 4, 4)
    edge = F.pad(x, (1, 1, 1, 1), mode="replicate")
    taps = torch.tensor([0.25, 0.75])
    kernel = (taps[:, None] * taps[None])[None, None].expand(3, 1, 2, 2)
    up = torch.zeros(2, 3, 8, 8)
    for row in (0, 1):
        for column in (0, 1):
            turned = kernel.flip([d for d, odd in ((2, row), (3, column)) if odd])
            part = F.conv2d(edge, turned, groups=3)
            up[:, :, row::2, column::2] = part[:, :, row : row + 4, column : column + 4]
    with torch.no_grad():
        block.c2.weight.zero_()  # type: ignore[union-attr, operator]
        block.c2.bias.zero_()  # type: ignore[union-attr, operator]
        torch.testing.assert_close(block(x), block.c_sc(up))


def test_batch_norm_by_class_is_a_norm_for_each_class() -> None:
    norm, x = ConditionalBatchNorm2d(4, 3), torch.randn(2, 4, 5, 5)
    table = norm.embed.weight.detach()
    assert 0.9 < table[:, :4].mean() < 1.1 and table[:, 4:].abs().max() == 0
    with torch.no_grad():
        norm.embed.weight[:, 4:].normal_()
    hat = F.batch_norm(x, None, None, training=True)
    for image, label in enumerate(LABELS):
        expected = hat[image] * table[label, :4, None, None] + table[label, 4:, None, None]
        torch.testing.assert_close(norm.train()(x, LABELS)[image], expected)


def test_the_projection_adds_an_inner_product() -> None:
    head, x = Head(4, 3).eval(), torch.randn(2, 4, 5, 5)
    features = x.clamp(min=0).sum((2, 3))
    assert head.embed is not None
    expected = features @ effective(head.linear)[0] + head.linear.bias  # type: ignore[operator]
    expected = expected + torch.stack(
        [effective(head.embed)[y] @ f for y, f in zip(LABELS, features, strict=True)]
    )
    torch.testing.assert_close(head(x, LABELS), expected)


def test_every_weight_of_a_discriminator_has_spectral_norm_one() -> None:
    torch.manual_seed(0)
    for network in (SNGANDiscriminator(32, 3, channels=8), SNDCGANDiscriminator(32, channels=16)):
        for _ in range(30):  # one power iteration each
            network(torch.randn(1, 3, 32, 32), LABELS[:1])
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
                norm = torch.linalg.matrix_norm(effective(module).flatten(1), 2)
                assert norm.item() == pytest.approx(1, abs=0.02)


def test_a_discriminator_of_64_px_is_one_of_48() -> None:
    d64, d48 = SNGANDiscriminator(64, channels=16).eval(), SNGANDiscriminator(48, channels=16).eval()
    d48.load_state_dict(d64.state_dict())
    images = torch.randn(2, 3, 48, 48)
    assert torch.equal(d64(images), d48(images))
    assert d48.blocks[-1](torch.randn(1, 8, 3, 3)).shape == (1, 16, 3, 3)
    assert d48.blocks[-1](torch.randn(1, 8, 4, 4)).shape == (1, 16, 2, 2)


def test_wrong_arguments() -> None:
    for network in (SNGANGenerator(32, 6, 3, channels=4), SNGANDiscriminator(32, 3, channels=4)):
        given = torch.randn(2, 6) if isinstance(network, Generator) else torch.randn(2, 3, 32, 32)
        with pytest.raises(UserError, match="3 classes; give it labels"):
            network(given)
    with pytest.raises(UserError, match="channels >> 4 is 0"):
        SNGANGenerator(64, channels=8)
    with pytest.raises(UserError, match="use one of 32, 48, 64"):
        SNDCGANGenerator(128)
