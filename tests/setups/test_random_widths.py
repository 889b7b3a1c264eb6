"""The sandwich rule: which widths a step trains, the same however often the run was interrupted."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gansharing.callbacks import GeneratorEMA, Resumable
from gansharing.errors import UserError
from gansharing.networks import SNDCGANDiscriminator, SNDCGANGenerator
from gansharing.setups import Slimmable
from gansharing.slimmable import (
    PerWidthDiscriminator,
    SlimmableDiscriminator,
    SlimmableGenerator,
    current_width,
    sandwich,
)
from tests.support import FixedBatches, quiet_trainer

WIDTHS = [0.25, 1.0]


@given(st.integers(0, 2**64 - 1), st.integers(0, 10**6), st.integers(1, 74))
def test_a_draw_is_between_ascends_and_depends_on_seed_and_step(seed: int, step: int, count: int) -> None:
    drawn = sandwich(WIDTHS, count, seed, step)
    assert (drawn[0], drawn[-1], len(drawn)) == (0.25, 1.0, count + 2)
    assert all(a < b for a, b in zip(drawn, drawn[1:], strict=False))
    assert all(abs(100 * width - round(100 * width)) < 1e-9 for width in drawn)
    assert drawn == sandwich(WIDTHS, count, seed, step)


def test_every_hundredth_is_drawn_as_often() -> None:
    drawn = [sandwich(WIDTHS, 2, 7, step) for step in range(3700)]
    counts = [sum(hundredth / 100 in widths for widths in drawn) for hundredth in range(26, 100)]
    assert sum(counts) == 2 * 3700 and 60 < min(counts) and max(counts) < 140  # 100 each, deviation 10


def setup(random_widths: int = 1, **options: Any) -> Slimmable:
    torch.manual_seed(1)
    generator = SlimmableGenerator(SNDCGANGenerator(32, 6, channels=32), WIDTHS, between=True)
    discriminator = PerWidthDiscriminator(SNDCGANDiscriminator(32, channels=16), WIDTHS, n_share=2)
    return Slimmable(generator, discriminator, random_widths=random_widths, **options)


def trained(folder: Path, steps: int, seen: list[float] | None = None, resume: bool = False) -> Slimmable:
    module = setup()
    if seen is not None:
        module.generator.register_forward_pre_hook(lambda *_: seen.append(current_width()))
    torch.manual_seed(3)
    trainer = quiet_trainer(folder, max_steps=steps, callbacks=[GeneratorEMA(0.5), Resumable()])
    path = str(folder / "checkpoints/last.ckpt") if resume else None
    trainer.fit(module, FixedBatches(1, batch_size=2), ckpt_path=path)
    return module


def test_both_players_see_the_widths_of_their_batch(tmp_path: Path) -> None:
    seen: list[float] = []
    trained(tmp_path, 2, seen)
    expected = []
    for step in range(2):
        widths = sandwich(WIDTHS, 1, 3, step)
        # the discriminator's fakes; then from the widest down those that fool it and those that teach
        expected += widths + [width for width in reversed(widths) for _ in range(2)]
    assert seen == expected


def test_a_run_that_was_cut_anywhere_draws_as_one_that_was_not(tmp_path: Path) -> None:
    whole, parts = list[float](), list[float]()
    ends = trained(tmp_path / "whole", 4, whole).state_dict()
    for steps in (1, 2, 3, 4):
        last = trained(tmp_path / "parts", steps, parts, resume=steps > 1)
    assert parts == whole and len(set(whole)) > 4
    for name, tensor in last.state_dict().items():
        assert torch.equal(tensor, ends[name]), name


def test_narrow_gains_are_borrowed_and_no_statistics_move(tmp_path: Path) -> None:
    module = trained(tmp_path, 2)
    norms = [m for m in module.generator.modules() if isinstance(m, nn.BatchNorm2d)]
    # two widths of each norm; a batch: the discriminator's fakes, those that fool it, and the distillation
    assert {int(norm.num_batches_tracked) for norm in norms if norm.num_batches_tracked is not None} == {6}


def test_mistakes_are_told() -> None:
    generator = SlimmableGenerator(SNDCGANGenerator(32, 6, channels=32), WIDTHS)
    plain = SNDCGANDiscriminator(32, channels=16)
    four = SlimmableGenerator(SNDCGANGenerator(32, 6, channels=32), [0.25, 0.5, 1.0], between=True)
    between = SlimmableGenerator(SNDCGANGenerator(32, 6, channels=32), WIDTHS, between=True)
    mistakes = [
        ("between: true", lambda: Slimmable(generator, plain, random_widths=1)),
        ("widths such as", lambda: Slimmable(four, plain, random_widths=1)),
        ("give 1 to 74", lambda: Slimmable(between, plain, random_widths=75)),
        ("give 1 to 74", lambda: Slimmable(between, plain, random_widths=-1)),
        (
            "given widths only",
            lambda: Slimmable(
                between,
                SlimmableDiscriminator(SNDCGANDiscriminator(32, channels=32), WIDTHS),
                random_widths=1,
            ),
        ),
    ]
    for said, mistake in mistakes:
        with pytest.raises(UserError, match=said) as caught:
            mistake()
        assert "\n" not in str(caught.value)
