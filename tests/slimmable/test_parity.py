"""Slimmable networks against recordings of SlimGAN: images, logits, distillation and a training step."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gansharing.checkpoints.mimicry_names import original_names
from gansharing.checkpoints.slimgan import read_slimgan
from gansharing.objectives import Hinge
from gansharing.slimmable import at_width, distillation, extract
from tests.golden.slimgan import ENTRIES, arrays, network, original

WIDTHS = {0.25: "w025", 0.5: "w050", 0.75: "w075", 1.0: "w100"}


def close(actual: Tensor, expected: Tensor, rtol: float = 1e-5) -> None:
    torch.testing.assert_close(actual.detach(), expected, rtol=rtol, atol=1e-5)


@pytest.mark.parametrize("name", ["slimgan_sndcgan32_g", "slimgan_sngan32_g", "slimgan_cganpd32_g"])
@torch.no_grad()
def test_every_width_gives_the_originals_image(name: str, tmp_path: Path) -> None:
    golden, g = arrays(name), network(tmp_path, original(name), read_slimgan)
    images = []
    for width, key in WIDTHS.items():
        with at_width(width):
            images.append(g(golden["z"], golden.get("y")))
        close(images[-1][..., ::3, ::3], golden[key])
    close(distillation(images), golden["distill_stepwise"])
    close(distillation(images, "widest"), golden["distill_naive"])
    g.double()  # in fp32 the kernels for weights that are cut and weights that are whole round differently
    for width in WIDTHS:
        with at_width(width):
            expected = g(golden["z"].double(), golden.get("y"))
        alone = extract(g, width).double()(golden["z"].double(), golden.get("y"))
        torch.testing.assert_close(alone, expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_every_sharing_of_stages_gives_the_originals_logits(tmp_path: Path) -> None:
    name = "slimgan_cganpd32_d"
    golden, whole = arrays(name), network(tmp_path, original(name), read_slimgan)
    for shared in ("0", "2", "4", "m1"):
        d = whole.with_shared(0, "linear") if shared == "m1" else whole.with_shared(int(shared))
        for width, expected in zip(WIDTHS, golden[f"logits_share_{shared}"], strict=True):
            with at_width(width):
                close(d(golden["x"], golden["y"]), expected[:, 0])


@pytest.mark.parametrize("kind", ["sndcgan32", "sngan32"])
def test_a_training_step_is_the_originals(kind: str, tmp_path: Path) -> None:
    name = f"slimgan_{kind}_step"
    golden = arrays(name)
    g = network(tmp_path, original(f"{name}:generator"), read_slimgan).train()
    d = network(tmp_path, original(f"{name}:discriminator"), read_slimgan).with_shared(2).eval()
    loss, judged, fooled = Hinge(), [], []
    for width, z in zip(WIDTHS, golden["z_d"], strict=True):
        with at_width(width):
            with torch.no_grad():
                fake = g(z)
            judged.append(loss.discriminator(d(golden["real"]), d(fake)))
            judged[-1].backward()
    norms_d = {name: p.grad.norm() for name, p in d.named_parameters()}
    for width, z in zip(WIDTHS, golden["z_g"], strict=True):
        with at_width(width):
            fooled.append(loss.generator(d(g(z))))
            fooled[-1].backward()
    images = []
    for width in WIDTHS:
        with at_width(width):
            images.append(g(golden["z_bar"]))
    distilled = 20 * distillation(images)
    distilled.backward()

    close(torch.stack(judged), golden["errD"])
    close(torch.stack(fooled), golden["errG"])
    close(distilled, golden["lossDistill"])
    expected = {"d": golden["gradnorm_D"], "g": golden["gradnorm_G"]}
    recorded = {
        player: dict(zip(ENTRIES[f"{name}:parameters_{player.upper()}"], norms.tolist(), strict=True))
        for player, norms in expected.items()
    }
    by_name = named(norms_d, "discriminator", recorded["d"])
    # What is shared was the widest's copy; nothing of the originals' that was used is missing.
    by_name = {k.replace("s.0.", "s.3.") if is_shared(k) else k: v for k, v in by_name.items()}
    # In one of the two layouts of spectral norm the trained weight is called weight.
    used = {re.sub("weight$", "weight_orig", key): norm for key, norm in recorded["d"].items() if norm >= 0}
    compare(by_name, used)
    norms_g = {name: p.grad.norm() for name, p in g.named_parameters()}
    compare(named(norms_g, "generator", recorded["g"]), recorded["g"])
    last, norm = g.network.to_rgb, (g.network.norm if kind == "sngan32" else g.network.blocks[-1].norm).norms
    layer, before = ("c5", "b5") if kind == "sngan32" else ("c4", "b3")
    close(last.bias.grad, golden[f"grad.{layer}.bias"], 1e-4)
    close(last.parametrizations.weight.original.grad, golden[f"grad.{layer}.weight"], 1e-4)
    close(norm[0].weight.grad, golden[f"grad.{before}.bn.0.weight"], 1e-4)
    close(norm[3].bias.grad, golden[f"grad.{before}.bn.3.bias"], 1e-4)
    for index in (0, 3):
        for buffer, value in norm[index].named_buffers():
            close(value.float(), golden[f"after.{before}.bn.{index}.{buffer}"])


def named(norms: dict[str, Tensor], kind: str, file: dict[str, float]) -> dict[str, Tensor]:
    return {there: norms[own] for own, there in original_names(norms, file, kind).items()}


def is_shared(name: str) -> bool:
    return name.startswith(("block1s", "block2s", "c1s", "c2s"))


def compare(norms: dict[str, Tensor], expected: dict[str, float]) -> None:
    assert norms.keys() == expected.keys()
    for name, norm in norms.items():
        torch.testing.assert_close(norm.item(), expected[name], rtol=1e-4, atol=1e-5, msg=name)
