"""Path length against whole Jacobians and finite differences."""

import pytest
import torch
from torch import Tensor, nn

from gansharing.errors import UserError
from gansharing.objectives import PathLength
from gansharing.objectives.path_length import path_lengths


class Styled(nn.Module):
    """Latents (N, 4) to ws (N, 3, 5) to images (N, 3, 2, 3), neither linear."""

    def __init__(self) -> None:
        super().__init__()
        self.mapping, self.image = nn.Linear(4, 15).double(), nn.Linear(15, 18).double()

    def style(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        shift = 0 if labels is None else labels[:, None].double()
        return (self.mapping(latent) + shift).tanh().view(-1, 3, 5)

    def synthesis(self, ws: Tensor) -> Tensor:
        return self.image(ws.flatten(1)).sin().view(-1, 3, 2, 3)


def naive_lengths(net: Styled, ws: Tensor, noise: Tensor) -> Tensor:
    lengths = []
    for w, y in zip(ws, noise, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda w: net.synthesis(w[None])[0], w)
        # Rows: the image's 18 values; columns: 3 styles of 5.
        pulled = y.flatten() / (2 * 3) ** 0.5 @ jacobian.reshape(18, 15)
        lengths.append((pulled.view(3, 5).square().sum(1).sum() / 3).sqrt())
    return torch.stack(lengths)


def test_lengths_are_those_of_the_jacobian() -> None:
    net, latent = Styled(), torch.randn(4, 4, dtype=torch.float64)
    ws = net.style(latent)
    torch.manual_seed(1)
    lengths = path_lengths(net.synthesis(ws), ws)
    torch.manual_seed(1)
    noise = torch.randn(4, 3, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(lengths, naive_lengths(net, ws.detach(), noise))


def test_penalty_and_moving_average_over_three_evaluations() -> None:
    net, penalty = Styled(), PathLength(weight=3.0, every=5, decay=0.1, batch_shrink=2).double()
    mean = 0.0
    for seed in range(3):
        latent, labels = torch.randn(6, 4, dtype=torch.float64), torch.arange(6)
        torch.manual_seed(seed)
        value = penalty(net, latent, labels)
        torch.manual_seed(seed)
        noise = torch.randn(3, 3, 2, 3, dtype=torch.float64)  # the first half of the batch
        lengths = naive_lengths(net, net.style(latent[:3], labels[:3]).detach(), noise)
        mean = 0.9 * mean + 0.1 * lengths.mean().item()
        assert penalty.pl_mean.item() == pytest.approx(mean)
        assert value.item() == pytest.approx(3 * 5 * (lengths - mean).square().mean().item())


@pytest.mark.parametrize("name", ["mapping", "image"])
def test_its_gradient_is_the_finite_difference(name: str) -> None:
    net, latent = Styled(), torch.randn(4, 4, dtype=torch.float64)
    penalty = PathLength(decay=0.3).double()
    penalty.pl_mean.fill_(0.2)
    weight = getattr(net, name).weight

    def value() -> Tensor:
        torch.manual_seed(2)
        penalty.pl_mean.fill_(0.2)
        return penalty(net, latent)

    value().backward()
    step, ends = 1e-6, []
    for sign in (1, -1):
        with torch.no_grad():
            weight[1, 2] += sign * step
        ends.append(value().item())
        with torch.no_grad():
            weight[1, 2] -= sign * step
    assert weight.grad[1, 2].item() == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5)


def test_one_latent_is_enough() -> None:
    assert PathLength(batch_shrink=4).double()(Styled(), torch.randn(1, 4, dtype=torch.float64)).isfinite()


def test_the_average_is_kept_in_the_state() -> None:
    first, second = PathLength(), PathLength()
    first.pl_mean.fill_(0.7)
    second.load_state_dict(first.state_dict())
    assert second.pl_mean == first.pl_mean


def test_a_generator_without_styles_is_refused() -> None:
    PathLength().check(Styled())
    with pytest.raises(UserError, match=r"Linear has none; leave it out or use StyleGAN2Generator"):
        PathLength().check(nn.Linear(2, 2))


@pytest.mark.parametrize("options", [{"every": 0}, {"batch_shrink": 0}])
def test_impossible_arguments(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        PathLength(**options)
