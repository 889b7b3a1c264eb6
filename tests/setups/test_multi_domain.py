"""Several domains at once, against the same training written out, and in every layout of parts."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn
from torch.nn.functional import softplus

from gansharing.checkpoints import save_network
from gansharing.errors import UserError
from gansharing.networks import DCGANDiscriminator, DCGANGenerator
from gansharing.objectives import R1
from gansharing.seeds import stream_seed
from gansharing.setups import Adversarial, MultiDomain
from gansharing.sharing import Full, LayerWise, WidthWise, merged, split_of
from tests.support import quiet_trainer

NAMES = ["left", "middle", "right"]
SIZE, STEPS, SIDE, LR, BETAS = 4, 3, 32, 1e-2, (0.5, 0.9)


def nets() -> tuple[DCGANGenerator, DCGANDiscriminator]:
    torch.manual_seed(0)
    return DCGANGenerator(SIDE, 6, base_channels=4), DCGANDiscriminator(SIDE, base_channels=2)


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=LR, betas=BETAS)


def game(**options: Any) -> Adversarial:
    generator, discriminator = nets()
    made: dict[str, Any] = {"regularizers": [R1(0.5, 2)], "optimizer_g": adam, "optimizer_d": adam} | options
    return Adversarial(generator, discriminator, **made)


def batches() -> list[dict[str, dict[str, Tensor]]]:
    source = torch.Generator().manual_seed(1)
    return [
        {n: {"image": torch.rand(SIZE, 3, SIDE, SIDE, generator=source) * 2 - 1} for n in NAMES}
        for _ in range(STEPS)
    ]


class Loader:
    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Iterator[Any]:
        return iter(batches())


def fitted(root: Path, setup: MultiDomain, seed: int = 5) -> MultiDomain:
    torch.manual_seed(seed)
    quiet_trainer(root, max_steps=STEPS, precision="64-true").fit(setup, Loader())
    return setup


def latent(step: int, domain: int, phase: int) -> Tensor:
    seed = stream_seed(5, step, domain, 0, 4 + phase)
    return torch.randn(SIZE, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def optimizer(parameters: Any, every: int | None = None) -> torch.optim.Optimizer:
    share = 1.0 if every is None else every / (every + 1)
    return torch.optim.Adam(parameters, lr=LR * share, betas=(BETAS[0] ** share, BETAS[1] ** share))


def gradient(network: nn.Module, name: str) -> Tensor:
    found = dict(network.named_parameters())[name].grad
    assert found is not None
    return found


def written_out(
    sharing: Any, reduction: str, weights: list[float]
) -> tuple[list[nn.Module], list[nn.Module]]:
    """Three generators and discriminators, each whole; what is shared gets one gradient by hand."""
    generator, discriminator = nets()
    sharing.apply(generator)
    shared = list(split_of(generator).shared)
    makers = [copy.deepcopy(generator).double() for _ in NAMES]
    judges = [copy.deepcopy(discriminator).double() for _ in NAMES]
    steps_g = [optimizer(g.parameters()) for g in makers]
    steps_d = [optimizer(d.parameters(), 2) for d in judges]
    for number, batch in enumerate(batches()):
        for n, (g, d, step) in enumerate(zip(makers, judges, steps_d, strict=True)):
            real = batch[NAMES[n]]["image"].double()
            fake = g(latent(number, n, 0)).detach()
            step.zero_grad()
            (softplus(-d(real)).mean() + softplus(d(fake)).mean()).backward()
            step.step()
            if number % 2 == 0:
                step.zero_grad()
                x = real.clone().requires_grad_(True)
                (slope,) = torch.autograd.grad(d(x).sum(), x, create_graph=True)
                (2 * 0.5 * 0.5 * slope.square().sum((1, 2, 3)).mean()).backward()
                for p in d.parameters():
                    p.grad = torch.zeros_like(p) if p.grad is None else p.grad
                step.step()
        for n, (g, d, step) in enumerate(zip(makers, judges, steps_g, strict=True)):
            step.zero_grad()
            softplus(-d(g(latent(number, n, 2)))).mean().backward()
        for name in shared:
            total = sum(
                (w * gradient(g, name) for w, g in zip(weights, makers, strict=True)), torch.zeros(())
            )
            for g in makers:
                share = sum(weights) if reduction == "mean" else 1
                dict(g.named_parameters())[name].grad = total / share
        for step in steps_g:
            step.step()
    return list(makers), list(judges)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(
    "sharing", [WidthWise(0.4), LayerWise(["4px"]), Full()], ids=["width", "layer", "full"]
)
@pytest.mark.parametrize("weights", [None, {"left": 3.0, "right": 0.5}], ids=["alike", "weighted"])
def test_steps_are_those_of_the_training_written_out(
    tmp_path: Path, sharing: Any, reduction: Any, weights: dict[str, float] | None
) -> None:
    makers, judges = written_out(sharing, reduction, [(weights or {}).get(name, 1.0) for name in NAMES])
    setup = fitted(tmp_path, MultiDomain(game(), NAMES, sharing, reduction=reduction, weights=weights))
    for n, name in enumerate(NAMES):
        for mine, theirs in ((setup.generator[name], makers[n]), (setup.discriminator[name], judges[n])):
            torch.testing.assert_close(
                dict(mine.state_dict()), dict(theirs.state_dict()), rtol=1e-9, atol=1e-11
            )


def test_shared_weights_are_one_and_own_weights_part(tmp_path: Path) -> None:
    setup = fitted(tmp_path, MultiDomain(game(), NAMES, WidthWise(0.4)))
    first, second = (split_of(setup.generator[name]) for name in NAMES[:2])
    assert all(second.shared[name] is tensor for name, tensor in first.shared.items())
    assert all(not torch.equal(second.domain[n], tensor) for n, tensor in first.domain.items())
    assert not torch.equal(*(s.domain_buffers["blocks.0.norm.running_mean"] for s in (first, second)))
    whole = first.domain_size * len(NAMES) + first.shared_size
    assert sum(p.numel() for p in setup.generator.parameters()) == whole


@pytest.mark.parametrize(
    ("sharing", "together"), [(Full(), 1), (LayerWise(["to_score"]), len(NAMES))], ids=["own", "trunk"]
)
def test_gradients_of_one_discriminator_are_held_at_a_time(
    tmp_path: Path, sharing: Any, together: int
) -> None:
    class Count(Callback):
        held: list[int] = []

        def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
            trainer.optimizers[1].register_step_pre_hook(lambda *_: self.held.append(self.count(pl_module)))

        def count(self, setup: MultiDomain) -> int:
            own = [split_of(each.discriminator).domain.values() for each in setup.games.values()]
            return sum(any(tensor.grad is not None for tensor in tensors) for tensors in own)

    torch.manual_seed(5)
    setup = MultiDomain(game(), NAMES, WidthWise(0.4), sharing_discriminator=sharing)
    count = Count()
    quiet_trainer(tmp_path, max_steps=STEPS, callbacks=[count]).fit(setup, Loader())
    steps = STEPS + 2  # R1 is due at the first and the third
    assert count.held == [together] * (steps * len(NAMES) // together)


def test_a_trunk_of_the_discriminator_with_a_head_for_each_domain(tmp_path: Path) -> None:
    last = list(nets()[1].stages())[-1]
    setup = fitted(
        tmp_path, MultiDomain(game(), NAMES, WidthWise(0.4), sharing_discriminator=LayerWise([last]))
    )
    splits = [split_of(setup.games[name].discriminator) for name in NAMES]
    assert splits[0].shared and all(splits[1].shared[n] is t for n, t in splits[0].shared.items())
    before = dict(nets()[1].named_parameters())
    assert all(not torch.equal(t, before[n].double()) for n, t in splits[0].shared.items())
    assert not torch.equal(*(next(iter(s.domain.values())) for s in splits[:2]))


@pytest.mark.parametrize("options", [{"share_latent": True}, {"share_fakes": True}, {"order": "gd"}])
def test_orders_of_the_game(tmp_path: Path, options: dict[str, Any]) -> None:
    setup = fitted(tmp_path, MultiDomain(game(**options), NAMES, WidthWise(0.4), accumulate=2))
    again = fitted(tmp_path, MultiDomain(game(**options), NAMES, WidthWise(0.4), accumulate=2))
    assert all(torch.equal(a, b) for a, b in zip(setup.parameters(), again.parameters(), strict=True))
    other = fitted(tmp_path, MultiDomain(game(**options), NAMES, WidthWise(0.4), accumulate=2), seed=6)
    assert not all(torch.equal(a, b) for a, b in zip(setup.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: MultiDomain(game(), [], WidthWise(0.4)), "at least one"),
        (lambda: MultiDomain(game(), ["a", "a"], WidthWise(0.4)), "different names"),
        (lambda: MultiDomain(game(), ["a.b"], WidthWise(0.4)), "without dots"),
        (lambda: MultiDomain(game(), ["a"], WidthWise(0.4), accumulate=0), "at least 1"),
        (lambda: MultiDomain(game(), ["a"], WidthWise(0.4), weights={"b": 1.0}), "by the names of"),
        (lambda: MultiDomain(game(), ["a"], WidthWise(0.4), weights={"a": 0.0}), "above 0"),
        (lambda: MultiDomain(game(), ["a"], WidthWise(0.0001)), "leaves the domain no weight"),
    ],
)
def test_what_does_not_fit_is_said(make: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        make()


def test_all_domains_start_from_a_source(tmp_path: Path) -> None:
    generator, discriminator = nets()
    with torch.no_grad():
        for parameter in [*generator.parameters(), *discriminator.parameters()]:
            parameter.add_(torch.randn_like(parameter))
    whole, judge = str(tmp_path / "g.safetensors"), str(tmp_path / "d.safetensors")
    save_network(generator, whole, "generator")
    save_network(discriminator, judge, "discriminator")
    setup = MultiDomain(
        game(), NAMES, WidthWise(0.4), LayerWise(["to_score"]), source=whole, source_discriminator=judge
    )
    for name in NAMES:
        found = setup.generator[name], setup.discriminator[name]
        for network, source in zip(found, (generator, discriminator), strict=True):
            state = merged(network).state_dict()
            assert state.keys() == source.state_dict().keys()
            assert all(torch.equal(state[key], value) for key, value in source.state_dict().items())
    assert setup.trained(0) and setup.about()["source"] == whole
    with pytest.raises(UserError, match=r"model.source .*g.safetensors holds a generator alone"):
        MultiDomain(game(), NAMES, WidthWise(0.4), source=whole)
    other = Adversarial(DCGANGenerator(SIDE, 6, base_channels=8), nets()[1])
    said = r"holds DCGANGenerator\(base_channels=4\) where model.game has DCGANGenerator\(base_channels=8\)"
    with pytest.raises(UserError, match=said):
        MultiDomain(other, NAMES, WidthWise(0.4), source=whole, source_discriminator=judge)


def test_a_batch_that_does_not_divide(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not divide into 3"):
        fitted(tmp_path, MultiDomain(game(), NAMES, WidthWise(0.4), accumulate=3))
