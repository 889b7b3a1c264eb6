"""Slimmable against Hou et al.'s algorithm 1 written out, in double precision."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from gansharing.augment import DiffAugment
from gansharing.callbacks import GeneratorEMA, Resumable
from gansharing.errors import UserError
from gansharing.networks import (
    DCGANGenerator,
    SNDCGANDiscriminator,
    SNDCGANGenerator,
    SNGANDiscriminator,
    SNGANGenerator,
)
from gansharing.objectives import Relativistic
from gansharing.setups import Slimmable
from gansharing.setups.stepping import frozen
from gansharing.slimmable import (
    PerWidthDiscriminator,
    SlimmableDiscriminator,
    SlimmableGenerator,
    at_width,
)
from gansharing.slimmable.discriminator import Head
from tests.cli.program import run, write_images
from tests.support import FixedBatches, quiet_trainer

WIDTHS = [0.25, 0.5, 0.75, 1.0]


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=1e-3)


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=1e-3, betas=(0.5, 0.999))


def generator(classes: int = 0) -> SlimmableGenerator:
    torch.manual_seed(1)
    plain = SNGANGenerator(32, 6, classes, channels=8) if classes else SNDCGANGenerator(32, 6, channels=32)
    return SlimmableGenerator(plain)


def per_width(n_share: int, head: Head = "own", classes: int = 0) -> PerWidthDiscriminator:
    torch.manual_seed(2)
    kind = SNGANDiscriminator(32, classes, channels=8) if classes else SNDCGANDiscriminator(32, channels=16)
    return PerWidthDiscriminator(kind, n_share=n_share, head=head)


def slimmed() -> SlimmableDiscriminator:
    torch.manual_seed(2)
    return SlimmableDiscriminator(SNDCGANDiscriminator(32, channels=32))


class Batches(FixedBatches):
    """With classes 0, 1, 2 in turn."""

    def __iter__(self) -> Any:
        for batch in super().__iter__():
            yield batch | {"label": torch.arange(len(batch["image"])) % 3}


def iterate_norms(d: nn.Module, judged: list[float]) -> None:
    """One power iteration for a player's step of every spectral norm that judges; none in its forwards."""
    d.train()
    copies = {id(m) for m in d.modules() if isinstance(m, nn.ModuleList) and len(m) == len(WIDTHS)}
    idle = {
        id(inner)
        for listed in d.modules()
        if id(listed) in copies
        for width, copy_ in zip(WIDTHS, listed.children(), strict=True)
        if width not in judged
        for inner in copy_.modules()
    }
    for module in d.modules():
        if id(module) not in idle and parametrize.is_parametrized(module, "weight"):
            assert isinstance(module.weight, Tensor)
    d.eval()


def algorithm_1(
    g: nn.Module, d: nn.Module, steps: int, weight: float, teacher: str, judged: list[float], n_dis: int
) -> list[dict[str, float]]:
    """The paper's lines in their order; nothing is done once that they do twice. The losses of each batch."""
    og, od, losses = sgd(g.parameters()), sgd(d.parameters()), []

    def draw(count: int) -> Tensor:
        return torch.randn(count, 6, dtype=torch.float64)

    for number, batch in enumerate(list(Batches(steps * n_dis)), 1):
        x, y, n = batch["image"].double(), batch["label"], len(batch["image"])
        found: dict[str, float] = {}
        od.zero_grad()
        iterate_norms(d, judged)
        for width in judged:
            with at_width(width):
                fake = g(draw(n), y).detach()
                loss = F.relu(1 - d(x, y)).mean() + F.relu(1 + d(fake, y)).mean()
                loss.backward()
                found[f"loss_d/{width:g}"] = loss.item()
        od.step()
        fixed = draw(n)
        if number % n_dis == 0:
            og.zero_grad()
            iterate_norms(d, judged)
            d.requires_grad_(False)
            images = []
            for width in WIDTHS:
                with at_width(width):
                    if width in judged:
                        loss = -d(g(draw(n), y), y).mean()
                        loss.backward()
                        found[f"loss_g/{width:g}"] = loss.item()
                    images += [g(fixed, y)] if weight else []
            if weight:
                pairs = [(i, i + 1 if teacher == "next" else 3) for i in range(3)]
                parts = [weight / 3 * (images[i] - images[j].detach()).square().mean() for i, j in pairs]
                sum(parts, torch.zeros(())).backward()
                found |= {f"distillation/{w:g}": part.item() for w, part in zip(WIDTHS, parts, strict=False)}
            og.step()
            d.requires_grad_(True)
        losses.append(found)
    return losses


CASES: dict[str, dict[str, Any]] = {
    "SlimGAN": {"d": lambda: per_width(2), "weight": 20.0},
    "slimmable G": {"d": lambda: per_width(0), "weight": 0.0},
    "naive": {"d": lambda: per_width(2), "weight": 20.0, "teacher": "widest"},
    "same D": {"d": lambda: per_width(7, "one"), "weight": 20.0},
    "any D": {"d": lambda: SNDCGANDiscriminator(32, channels=16), "weight": 20.0},
    "linear shared": {"d": lambda: per_width(0, "linear"), "weight": 20.0},
    "slimmable D": {"d": slimmed, "weight": 20.0},
    "distillation only": {"d": lambda: per_width(2), "weight": 20.0, "judged": "widest"},
    "classes": {"d": lambda: per_width(2, "own", 3), "weight": 10.0, "n_dis": 2, "classes": 3},
}


@pytest.mark.parametrize("case", CASES)
def test_a_step_is_algorithm_1(case: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"teacher": "next", "judged": "all", "n_dis": 1, "classes": 0} | CASES[case]
    g, d, weight, n_dis = generator(options["classes"]), options["d"](), options["weight"], options["n_dis"]
    twins = copy.deepcopy(g).double(), copy.deepcopy(d).double()
    setup = Slimmable(
        g, d, distillation=weight, teacher=options["teacher"], judged=options["judged"],
        discriminator_steps=n_dis, optimizer_g=sgd, optimizer_d=sgd,
    )  # fmt: skip
    logged = []
    step = setup.training_step
    setup.training_step = lambda *given: logged.append(step(*given)) or logged[-1]  # type: ignore
    gradients: dict[nn.Parameter, Tensor] = {}  # of the last steps, which the setup does not keep
    build = setup.configure_optimizers

    def watched() -> Any:
        optimizers = build()
        for each in optimizers:
            each.register_step_pre_hook(
                lambda o, *_: gradients.update(
                    {p: p.grad.clone() for p in o.param_groups[0]["params"] if p.grad is not None}
                )
            )
        return optimizers

    setup.configure_optimizers = watched  # type: ignore[method-assign]
    torch.manual_seed(7)
    quiet_trainer(tmp_path, max_steps=2, precision="64-true").fit(setup, Batches(2 * n_dis))
    torch.manual_seed(7)
    judged = WIDTHS if options["judged"] == "all" else [1.0]
    expected = algorithm_1(*twins, 2, weight, options["teacher"], judged, n_dis)

    for found, losses in zip(logged, expected, strict=True):
        assert {name: found[name].item() for name in losses} == pytest.approx(losses, rel=1e-9, abs=1e-9)
        for name in ("loss_d", "loss_g", "distillation"):
            parts = [value for key, value in losses.items() if key.startswith(f"{name}/")]
            assert (name in found) == bool(parts)
            assert not parts or found[name].item() == pytest.approx(sum(parts), rel=1e-9, abs=1e-9)
    for ours, twin in zip((g, d), twins, strict=True):
        held, literal = ours.state_dict(), twin.state_dict()
        torch.testing.assert_close(held, literal, rtol=1e-9, atol=1e-9)
        for (name, p), q in zip(ours.named_parameters(), twin.parameters(), strict=True):
            missing = torch.zeros_like(q) if q.grad is None else q.grad
            torch.testing.assert_close(
                gradients.get(p, torch.zeros_like(p)), missing, rtol=1e-9, atol=1e-9, msg=name
            )
    assert any(gradients[p].abs().max() > 1e-4 for p in d.parameters() if p in gradients)


def test_statistics_move_as_often_as_the_originals(tmp_path: Path) -> None:
    # n_dis + 1 + 1 updates a generator step: 7 with five discriminator steps
    setup = Slimmable(generator(), per_width(2), discriminator_steps=5)
    quiet_trainer(tmp_path, max_steps=1).fit(setup, Batches(5))
    moved = {int(b) for n, b in setup.generator.named_buffers() if n.endswith("num_batches_tracked")}
    assert moved == {7}


def test_no_graph_outlives_its_width(tmp_path: Path) -> None:
    """At most one width's generator graph at a time: activations are counted as autograd keeps them."""
    setup = Slimmable(generator(), per_width(2), channels_last=False)
    quiet_trainer(tmp_path, max_steps=1).fit(setup, Batches(1))
    real, fixed = torch.zeros(8, 3, 32, 32), torch.randn(8, 6)
    kept: list[int] = []
    alive: dict[int, int] = {}

    class Held:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor
            alive[id(self)] = tensor.numel()
            kept.append(sum(alive.values()))

        def __del__(self) -> None:
            alive.pop(id(self), None)

    def peak(work: Any) -> int:
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(Held, lambda held: held.tensor):
            work()
        return max(kept)

    def widest() -> None:
        with frozen(setup.discriminator):
            setup.discriminator(setup.generator(fixed)).mean().backward()

    assert peak(lambda: setup._generator_step(real, None, fixed)) <= 1.05 * peak(widest)


def test_rates_fall_to_nothing_and_go_on_where_they_were(tmp_path: Path) -> None:
    def trained(folder: Path, steps: int, resume: bool = False) -> Slimmable:
        setup = Slimmable(generator(), per_width(2), optimizer_g=adam, optimizer_d=adam, decay_steps=4)
        callbacks = [GeneratorEMA(0.5), Resumable()]
        path = str(folder / "checkpoints/last.ckpt") if resume else None
        torch.manual_seed(3)
        trainer = quiet_trainer(folder, max_steps=steps, callbacks=callbacks)
        trainer.fit(setup, Batches(2), ckpt_path=path)
        return setup

    halfway = trained(tmp_path / "parts", 2)
    assert [o.param_groups[0]["lr"] for o in halfway.trainer.optimizers] == pytest.approx([5e-4, 5e-4])
    whole = trained(tmp_path / "whole", 4)
    assert [o.param_groups[0]["lr"] for o in whole.trainer.optimizers] == pytest.approx([0, 0], abs=1e-12)
    resumed = trained(tmp_path / "parts", 4, resume=True)
    assert resumed.trainer.global_step == 4
    for (name, x), (_, y) in zip(resumed.state_dict().items(), whole.state_dict().items(), strict=True):
        assert x.shape == y.shape, name
    assert [o.param_groups[0]["lr"] for o in resumed.trainer.optimizers] == pytest.approx([0, 0], abs=1e-12)


def test_losses_that_compare_and_augmentation(tmp_path: Path) -> None:
    setup = Slimmable(generator(), per_width(2), Relativistic(), augment=DiffAugment("translation"))
    before = copy.deepcopy(setup.state_dict())
    quiet_trainer(tmp_path, max_steps=1).fit(setup, Batches(1))
    for name, parameter in setup.named_parameters():
        still = torch.equal(parameter, before[name])
        if "discriminator.head" in name and name.endswith("bias"):
            assert still, name  # with a loss of differences, the shift of all logits is free
        elif not name.endswith("bias"):
            assert not still, name


def test_every_width_is_scored_in_one_validation(tmp_path: Path) -> None:
    images = write_images(tmp_path / "photos", count=8)
    model = [
        "--model=Slimmable", "--model.generator=gansharing.slimmable.SlimmableGenerator",
        "--model.generator.network=SNGANGenerator", "--model.generator.network.num_classes=1",
        "--model.generator.network.channels=8", "--model.generator.widths=[0.5, 1]",
        "--model.discriminator=gansharing.slimmable.PerWidthDiscriminator",
        "--model.discriminator.network=SNGANDiscriminator", "--model.discriminator.network.channels=8",
        "--model.discriminator.widths=[0.5, 1]",
    ]  # fmt: skip
    done = run(
        *("fit", *model, "--data.resolution=32", "--data.path", images, "--data.batch_size=4"),
        *("--trainer.max_steps=2", "--trainer.val_check_interval=2", "--trainer.accelerator=cpu"),
        *("--trainer.enable_progress_bar=false", "--scores.num_samples=8", "--trainer.log_every_n_steps=1"),
        f"--trainer.default_root_dir={tmp_path / 'run'}",
    )
    assert done.code == 0, done.err
    history = json.loads((tmp_path / "run/results.json").read_text())["history"]
    assert [entry["step"] for entry in history] == [0, 2]
    for entry in history:
        for name in ("fid", "kid", "is", "precision"):
            assert {f"{name}_lite", f"{name}_lite/0.5"} <= entry.keys()
        assert math.isfinite(entry["fid_lite/0.5"]) and entry["fid_lite/0.5"] != entry["fid_lite"]
        assert entry["mic_lite"] == entry["ic_lite/0.5-1"] > 0


def test_mistakes_are_told_in_a_line() -> None:
    g, d = generator(), per_width(2)
    halves = PerWidthDiscriminator(SNDCGANDiscriminator(32, channels=16), [0.5, 1])
    one = SlimmableGenerator(SNDCGANGenerator(32, 6, channels=32), [1.0])
    mistakes: list[tuple[str, Any]] = [
        ("which has one width; give a", lambda: Slimmable(DCGANGenerator(32, 6, 2), d)),
        ("give both the same", lambda: Slimmable(g, halves)),
        ("teacher is 'none'", lambda: Slimmable(g, d, teacher="none")),  # type: ignore[arg-type]
        ("judged is 'some'", lambda: Slimmable(g, d, judged="some")),  # type: ignore[arg-type]
        ("distillation is -1", lambda: Slimmable(g, d, distillation=-1)),
        ("0 for one", lambda: Slimmable(one, SNDCGANDiscriminator(32, channels=16))),
        ("nothing trains the other", lambda: Slimmable(g, d, distillation=0, judged="widest")),
        ("decay_steps is 0", lambda: Slimmable(g, d, decay_steps=0)),
    ]
    for said, mistake in mistakes:
        with pytest.raises(UserError, match=said) as caught:
            mistake()
        assert "\n" not in str(caught.value)
