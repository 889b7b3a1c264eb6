"""The projected discriminator: what is frozen, what is stored, what it sees."""

import pytest
import torch
from torch import nn

from gansharing.errors import UserError
from gansharing.metrics.extractors.lite import LiteExtractor
from gansharing.networks import ProjectedDiscriminator, build_network
from gansharing.sharing import Full


@pytest.fixture(scope="module")
def judge() -> ProjectedDiscriminator:
    torch.manual_seed(0)
    return ProjectedDiscriminator(32, base_channels=4, head_channels=6, feature_size=128)


def test_only_the_heads_are_trained_and_stored(judge: ProjectedDiscriminator) -> None:
    in_heads = {id(p) for p in judge.heads.parameters()}
    assert {id(p) for p in judge.parameters()} == in_heads
    assert {name.split(".")[0] for name in judge.state_dict()} == {"heads", "mixing"}
    assert all(name.startswith("heads.") for name in judge.trained_buffers())
    assert set(Full().apply(build_network(judge.config)).domain) == dict(judge.named_parameters()).keys()


def test_its_maps_are_those_of_the_network_the_scores_use(judge: ProjectedDiscriminator) -> None:
    pixels = torch.rand(2, 3, 128, 128) * 255
    extractor = LiteExtractor(128)
    seen: list[torch.Tensor] = []
    blocks: nn.ModuleList = extractor.network._blocks
    handles = [block.register_forward_hook(lambda _, __, x: seen.append(x)) for block in blocks]
    extractor.embed(pixels)
    for handle in handles:
        handle.remove()
    maps = judge.train().pyramid(pixels)
    assert [m.shape[2] for m in maps] == [32, 16, 8, 4]
    for mine in maps:
        same = [x for x in seen if x.shape == mine.shape]
        # The scores' network has its norms in its convolutions: other roundings, other on every processor.
        torch.testing.assert_close(mine, same[-1], rtol=0, atol=1e-4 * float(mine.abs().max()))


def test_scores_reach_the_images_through_frozen_layers(judge: ProjectedDiscriminator) -> None:
    images = (torch.rand(3, 3, 32, 32) * 2 - 1).requires_grad_(True)
    scores = judge.train()(images)
    assert scores.shape == (3, 4 * 16)
    before = {name: buffer.clone() for name, buffer in judge.pyramid.named_buffers()}
    scores.sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0
    assert all(torch.equal(buffer, before[name]) for name, buffer in judge.pyramid.named_buffers())


def test_the_mixture_written_out(judge: ProjectedDiscriminator) -> None:
    maps = judge.pyramid(torch.rand(1, 3, 128, 128) * 255)
    mixed = judge.mixing(maps)
    b = dict(judge.mixing.named_buffers())
    coarse = torch.einsum("oi,nihw->nohw", b["across3"][:, :, 0, 0], maps[3])
    torch.testing.assert_close(mixed[3], coarse, rtol=1e-4, atol=1e-4)
    up = nn.Upsample(scale_factor=2, mode="bilinear")(nn.functional.conv2d(coarse, b["down3"], padding=1))
    across = torch.einsum("oi,nihw->nohw", b["across2"][:, :, 0, 0], maps[2])
    torch.testing.assert_close(mixed[2], across + up, rtol=1e-4, atol=1e-3)


def test_a_round_trip_keeps_the_scores(judge: ProjectedDiscriminator) -> None:
    twin = build_network(judge.config)
    twin.load_state_dict(judge.state_dict())
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    assert torch.equal(twin.eval()(images), judge.eval()(images))


def test_impossible_sizes() -> None:
    with pytest.raises(UserError, match="multiple of 32"):
        ProjectedDiscriminator(32, feature_size=100)
