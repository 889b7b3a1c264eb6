"""Transfer into another network: what it takes, what stays fresh, and the original's training steps."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor
from torch.utils.data import DataLoader

from gansharing import load
from gansharing.callbacks import GeneratorEMA, Resumable
from gansharing.checkpoints import read_checkpoint, save_network
from gansharing.errors import UserError
from gansharing.networks import GPGANDiscriminator, GPGANGenerator, Network, SmallHeadGenerator
from gansharing.objectives import R1, BinaryCrossEntropy
from gansharing.setups import Adversarial, Transfer
from gansharing.sharing import AdaFM, Combined, FreezeLower, Full, Sharing, WidthWise
from tests.cli.program import TINY, run, write_images
from tests.golden.fill import recorded
from tests.golden.gpgan import arrays, network, original
from tests.networks.test_gpgan import close
from tests.support import FixedBatches, quiet_trainer

CONVOLUTIONS = ["resnet_*.conv_[01].weight"]
GENERAL = ["resnet_3", "resnet_4", "resnet_5", "conv_img"]


def small_head(**options: Any) -> SmallHeadGenerator:
    return SmallHeadGenerator(32, 6, style_dim=8, mapping_layers=2, **({"base_channels": 2} | options))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A class-conditional GP-GAN and its discriminator, as files."""
    folder = tmp_path_factory.mktemp("source")
    torch.manual_seed(1)
    save_network(
        GPGANGenerator(32, 12, num_classes=3, base_channels=2), folder / "g.safetensors", "generator"
    )
    discriminator = GPGANDiscriminator(32, num_classes=3, base_channels=2)
    save_network(discriminator, folder / "d.safetensors", "discriminator")
    return str(folder / "g.safetensors"), str(folder / "d.safetensors")


def setup_of(pair: tuple[str, str], target: Network, **options: Any) -> Transfer:
    options = {"target_discriminator": GPGANDiscriminator(32, base_channels=2)} | options
    return Transfer(*pair, target=target, **options)


def from_source(setup: Transfer, pair: tuple[str, str]) -> dict[str, set[str]]:
    """Which parameters of the source each network of ``setup`` has, by the source's names."""
    found = {}
    for name, path in zip(("generator", "discriminator"), pair, strict=True):
        mine = setup.networks()[name].state_dict()
        plain = {k.replace(".parametrizations.weight.original0", ".weight"): v for k, v in mine.items()}
        theirs = dict(load(path, name).named_parameters())
        found[name] = {k for k in theirs if k in plain and torch.equal(plain[k], theirs[k])}
    return found


def test_a_head_is_replaced_and_classes_are_removed(pair: tuple[str, str]) -> None:
    target, old = small_head(), load(pair[0])
    before = {name: p.detach().clone() for name, p in target.named_parameters()}
    setup = setup_of(
        pair,
        target,
        sharing=Combined([AdaFM(CONVOLUTIONS), FreezeLower(4)]),
        sharing_discriminator=FreezeLower(2),
    )
    found = from_source(setup, pair)
    assert found["generator"] == {n for n, _ in old.named_parameters() if n.startswith(tuple(GENERAL))}
    judge = dict(load(pair[1], "discriminator").named_parameters())
    assert found["discriminator"] == judge.keys() - {"fc.weight", "fc.bias"}
    head = {n: p for n, p in setup.generator.named_parameters() if not n.startswith(tuple(GENERAL))}
    assert head and all(torch.equal(p, before[n]) and p.requires_grad for n, p in head.items())
    assert not any(p.requires_grad for n, p in setup.generator.named_parameters() if n.endswith("original0"))
    start = setup.about()["start"]
    assert start["generator"]["from_source"] == GENERAL and not start["generator"]["in_part"]
    assert start["generator"]["fresh"][-4:] == ["fc", "style_0", "style_1", "gain"]
    assert start["discriminator"]["fresh"] == ["fc"]
    assert setup.counterpart([0]) is None
    # The frozen groups compute what the source's do: identical features give the identical picture.
    x = torch.randn(2, 16, 4, 4)
    plain, divided = old.get_submodule("resnet_3_0"), setup.generator.get_submodule("resnet_3_0")
    assert torch.equal(plain(x), divided(x))


@pytest.mark.parametrize(
    ("sharing", "judging", "expected"),
    [
        (FreezeLower(4), FreezeLower(2), (GENERAL, ["conv_img", "resnet_0"])),
        (Combined([AdaFM(CONVOLUTIONS), FreezeLower(4)]), FreezeLower(5), (GENERAL, None)),
        (Combined([AdaFM(CONVOLUTIONS), Full()]), Full(), ([], [])),
    ],
)
def test_fresh_takes_only_what_is_shared(
    sharing: Sharing, judging: Sharing, expected: tuple[list[str], list[str] | None], pair: tuple[str, str]
) -> None:
    setup = setup_of(pair, small_head(), sharing=sharing, sharing_discriminator=judging, init="fresh")
    found, old = from_source(setup, pair), load(pair[0])
    kept = tuple(expected[0])
    assert found["generator"] == {n for n, _ in old.named_parameters() if kept and n.startswith(kept)}
    stages = setup.about()["start"]["discriminator"]["from_source"]
    assert stages == (
        ["conv_img", *(f"resnet_{i}" for i in range(4))] if expected[1] is None else expected[1]
    )
    groups = {name.split(".")[0].rpartition("_")[0] for name in found["discriminator"]} - {"conv"}
    assert groups == {stage for stage in stages if stage != "conv_img"}


def test_fresh_needs_no_target(pair: tuple[str, str]) -> None:
    setup = Transfer(*pair, sharing=WidthWise(0.5), sharing_discriminator=FreezeLower(3), init="fresh")
    start = setup.about()["start"]
    # A width-wise domain owns columns, no tensor whole: all is the source's.
    assert (start["generator"]["fresh"], start["generator"]["in_part"]) == ([], [])
    assert start["discriminator"]["from_source"] == ["conv_img", "resnet_0", "resnet_1"]
    latent, labels = torch.randn(2, 12), torch.tensor([0, 2])
    assert torch.equal(setup.generator.eval()(latent, labels), load(pair[0])(latent, labels))


def test_what_does_not_fit_is_said_in_one_line(pair: tuple[str, str]) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        (
            {"target": small_head(base_channels=3)},
            "model.target: no stage of this SmallHeadGenerator .*resnet_5",
        ),
        (
            {"target": small_head(), "sharing": AdaFM(CONVOLUTIONS)},
            r"model.sharing: it freezes weights of mapping.fc0, .*gain of this SmallHeadGenerator",
        ),
        (
            {
                "target": small_head(),
                "target_discriminator": GPGANDiscriminator(32, base_channels=2, channel_max=16),
                "sharing_discriminator": FreezeLower(5),
            },
            "model.sharing_discriminator: it freezes weights of resnet_3 ",
        ),
        ({"target": GPGANGenerator(64, base_channels=2)}, "model.target makes images of 64 px"),
        ({"target": small_head(), "init": "random"}, "model.init is 'random'"),
        ({"target": small_head(), "sharing": WidthWise(1e-4)}, "model.sharing: WidthWise leaves the domain"),
    ]
    for options, message in cases:
        with pytest.raises(UserError, match=message):
            setup_of(pair, **options)


class Replayed(GPGANGenerator):
    """Draws recorded latents."""

    def sample_latent(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """The next ones."""
        self.drawn = getattr(self, "drawn", -1) + 1
        return recorded("transfer_step")["in_z"][self.drawn]


class Outputs(Callback):
    """Keeps every step's losses, and the generator after the first."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self.first: dict[str, Tensor] = {}

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *args: Any) -> None:
        """Copy them."""
        self.steps.append({name: value.item() for name, value in outputs.items()})
        self.first = self.first or {k: v.clone() for k, v in pl_module.generator.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "frozen", "optimizer"),
    [
        ("g4d2", (4, 2), lambda p: torch.optim.Adam(p, lr=1e-3, betas=(0.0, 0.99))),
        ("g2d4", (2, 4), lambda p: torch.optim.RMSprop(p, lr=1e-4, alpha=0.99, eps=1e-8)),
    ],
)
def test_three_steps_of_the_setup_are_the_originals(
    name: str, frozen: tuple[int, int], optimizer: Any, tmp_path: Path
) -> None:
    inputs, golden = recorded("transfer_step"), arrays("transfer_step", name)
    for part in ("generator", "discriminator"):
        old = network(tmp_path, original("transfer_step", f"{part}."))
        save_network(old, tmp_path / f"{part}.safetensors", part)
    setup = Transfer(
        str(tmp_path / "generator.safetensors"),
        str(tmp_path / "discriminator.safetensors"),
        sharing=FreezeLower(frozen[0]),
        sharing_discriminator=FreezeLower(frozen[1]),
        target=Replayed(**load(tmp_path / "generator.safetensors").config["init_args"]),
        loss=BinaryCrossEntropy(),
        regularizers=[R1(20.0, every=1)],  # the original's 10, which lacks the 1/2
        optimizer_g=optimizer,
        optimizer_d=optimizer,
        order="gd",
        share_fakes=True,
    )
    watch = Outputs()
    batches = DataLoader([{"image": image} for image in inputs["in_x_real"]], batch_size=None)  # type: ignore[arg-type]
    callbacks = [GeneratorEMA(0.9, rampup=None), watch, Resumable()]
    quiet_trainer(tmp_path / "run", max_steps=3, callbacks=callbacks).fit(setup, batches)
    for key, own in (("out_g_loss", "loss_g"), ("out_d_loss", "loss_d"), ("out_reg", "r1")):
        assert [step[own] for step in watch.steps] == pytest.approx(golden[key].tolist(), rel=1e-4), key
    last = read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")
    with torch.no_grad():
        setup.generator.load_state_dict(last["live_generator"])
        close(setup.generator(inputs["in_z_test"])[..., ::4, ::4], golden["out_image"], 1e-3)
        close(setup.discriminator(inputs["in_x_real"][0]), golden["out_d_logit"], 1e-3)
        # The original's average begins with the source, ours with the first step: after three steps of
        # decay 0.9 theirs is ours + 0.9^3 (source - first).
        average, begin = load(tmp_path / "run"), load(tmp_path / "generator.safetensors").state_dict()
        own = {
            name: v + 0.9**3 * (begin[name] - watch.first[name]) for name, v in average.state_dict().items()
        }
        average.load_state_dict(own)
        close(average(inputs["in_z_test"])[..., ::4, ::4], golden["out_ema_image"], 1e-3)


def test_shared_fakes_are_generated_once(pair: tuple[str, str], tmp_path: Path) -> None:
    passes: list[bool] = []
    target = small_head()
    target.register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    setup = setup_of(pair, target, sharing=FreezeLower(4), order="gd", share_fakes=True, accumulate=2)
    quiet_trainer(tmp_path, max_steps=2).fit(setup, FixedBatches(batch_size=4))
    assert passes == [True] * 4
    with pytest.raises(ValueError, match="share_fakes needs discriminator_steps 1"):
        Adversarial(
            small_head(), GPGANDiscriminator(32, base_channels=2), share_fakes=True, discriminator_steps=2
        )


def test_the_program_lists_what_was_taken(
    pair: tuple[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = [
        *("--model.source", pair[0], "--model.source_discriminator", pair[1]),
        *("--model.target=SmallHeadGenerator", "--model.target.resolution=32", "--model.target.latent_dim=6"),
        *("--model.target.base_channels=2", "--model.sharing=FreezeLower", "--model.sharing.stages=4"),
        *("--model.target_discriminator=GPGANDiscriminator", "--model.target_discriminator.resolution=32"),
        "--model.target_discriminator.base_channels=2",
    ]
    images = write_images(tmp_path / "images", count=12)

    def fit(root: str, *more: str) -> Any:
        folder = f"--trainer.default_root_dir={tmp_path / root}"
        return run(
            "fit", "--config", TINY, "--model=Transfer", "--data.path", images, folder, *options, *more
        )

    with caplog.at_level("INFO"):
        done = fit("run")
    assert done.code == 0, done.err
    assert f"from the source: {', '.join(GENERAL)}; fresh: mapping.fc0" in caplog.text
    start = json.loads((tmp_path / "run/results.json").read_text())["start"]
    assert start["generator"]["from_source"] == GENERAL and start["discriminator"]["fresh"] == ["fc"]
    assert not list((tmp_path / "run/images").glob("*_transfer.png"))
    assert isinstance(load(tmp_path / "run"), SmallHeadGenerator)
    done = fit("other", "--model.target.base_channels=4")
    assert done.code == 2 and "model.target: no stage of this SmallHeadGenerator" in done.err
    done = fit("other", "--data.resolution=64")
    assert done.code == 2 and "model.target works at 32 px" in done.err
    assert not (tmp_path / "other").exists()
