"""Steps whose players share passes through the discriminator are the steps that do not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gansharing.augment import DiffAugment
from gansharing.networks import GPGANDiscriminator, GPGANGenerator, SNDCGANDiscriminator
from gansharing.objectives import R1, R2, BinaryCrossEntropy, GradientPenalty, Hinge, Relativistic
from gansharing.setups import Adversarial
from gansharing.sharing import FreezeLower
from tests.support import FixedBatches, quiet_trainer

ON_BOTH = [R1(20.0, every=1), R2(20.0, every=1)]


class Counted(GPGANDiscriminator):
    """Counts passes."""

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Count."""
        self.passes = getattr(self, "passes", 0) + 1
        return super().forward(images, labels)


def trained(root: Path, joint: bool, precision: Any = "64-true", **options: Any) -> tuple[Adversarial, int]:
    torch.manual_seed(0)
    d = Counted(32, base_channels=2, channel_max=4)
    FreezeLower(2).apply(d).freeze_shared()
    given: dict[str, Any] = {"loss": BinaryCrossEntropy(), "regularizers": ON_BOTH} | options
    setup = Adversarial(GPGANGenerator(32, 4, base_channels=2, channel_max=4), d, **given)
    assert setup._joint is not None
    if not joint:
        setup._joint = None
    quiet_trainer(root, max_steps=3, precision=precision).fit(setup, FixedBatches(batch_size=4))
    return setup, d.passes


@pytest.mark.parametrize(
    ("options", "passes"),
    [
        ({"order": "gd", "share_fakes": True}, 2),
        ({"order": "gd", "share_fakes": True, "regularizers": [R1(20.0, every=1)], "loss": Hinge()}, 2),
        ({"order": "gd", "share_fakes": True, "accumulate": 2}, 6),
        ({"order": "dg", "share_fakes": True}, 3),
        ({"order": "dg", "discriminator_steps": 2, "regularizers": [R1(20.0, every=1)]}, 5),
    ],
    ids=["shared", "shared_r1", "parts", "dg", "two_steps"],
)
def test_three_steps_are_those_without_shared_passes(
    options: dict[str, Any], passes: int, tmp_path: Path
) -> None:
    (ours, seen), (plain, more) = (trained(tmp_path / str(j), j, **options) for j in (True, False))
    assert seen == 3 * passes < more
    for name, value in ours._latest.items():
        torch.testing.assert_close(value, plain._latest[name], rtol=1e-9, atol=1e-12, msg=name)
    assert ours._latest.keys() == plain._latest.keys()
    for (name, mine), (_, other) in zip(ours.state_dict().items(), plain.state_dict().items(), strict=True):
        # Adam divides a gradient by its own size, rounding included.
        torch.testing.assert_close(mine, other, rtol=1e-7, atol=1e-9, msg=name)


def test_in_half_precision_the_penalty_keeps_a_pass_of_its_own(tmp_path: Path) -> None:
    options = {"order": "gd", "share_fakes": True, "precision": "bf16-mixed"}
    assert trained(tmp_path / "a", True, **options)[1] == trained(tmp_path / "b", False, **options)[1]


@pytest.mark.parametrize(
    "options",
    [
        {"regularizers": None},
        {"regularizers": [R1(every=2)]},
        {"regularizers": [R1(every=1), GradientPenalty()]},
        {"loss": Relativistic()},
        {"augment": DiffAugment()},
        {"discriminator": SNDCGANDiscriminator(32)},
    ],
    ids=["none", "lazy", "between", "comparing", "augmented", "normalised"],
)
def test_elsewhere_nothing_is_shared(options: dict[str, Any]) -> None:
    given: dict[str, Any] = {"regularizers": ON_BOTH} | options
    d = given.pop("discriminator", GPGANDiscriminator(32, base_channels=2))
    assert Adversarial(GPGANGenerator(32, 4, base_channels=2), d, **given)._joint is None
