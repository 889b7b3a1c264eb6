"""The layout of the original's checkpoints, built here from its key names and plain torch modules."""

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gansharing
from gansharing.errors import UserError
from gansharing.tools.convert import import_


def generator_state() -> OrderedDict[str, Tensor]:
    """Names and shapes of the original's generator; values drawn here."""
    torch.manual_seed(0)
    channels = [100, 512, 256, 128, 64, 3]
    state = OrderedDict(starting_const=torch.randn(1, 100, 1, 1))
    state["mapper.linear.weight"] = torch.randn(100, 100) / 10
    state["mapper.linear.bias"] = torch.randn(100) / 10
    for level in range(1, 6):
        state[f"conv_l{level}.weight"] = torch.randn(channels[level - 1], channels[level], 4, 4) / 30
    for level in range(1, 5):
        for kind in ("scale", "bias"):
            state[f"ada_l{level}.style_{kind}.weight"] = torch.randn(channels[level], 100) / 10
            state[f"ada_l{level}.style_{kind}.bias"] = torch.randn(channels[level])
    return state


def original_forward(state: dict[str, Tensor], latent: Tensor) -> Tensor:
    """The original's forward pass as the facts on its code describe it."""
    style = F.normalize(latent, dim=1)
    for _ in range(4):
        style = F.leaky_relu(F.linear(style, state["mapper.linear.weight"], state["mapper.linear.bias"]), 0.2)
    x = state["starting_const"]
    for level in range(1, 5):
        x = F.conv_transpose2d(
            x, state[f"conv_l{level}.weight"], stride=1 if level == 1 else 2, padding=int(level > 1)
        )
        x = F.instance_norm(x, eps=1e-5)
        scale, bias = (
            F.linear(style, state[f"ada_l{level}.style_{k}.weight"], state[f"ada_l{level}.style_{k}.bias"])
            for k in ("scale", "bias")
        )
        x = F.relu(scale[:, :, None, None] * x + bias[:, :, None, None])
    return torch.tanh(F.conv_transpose2d(x, state["conv_l5.weight"], stride=2, padding=1))


class Notebook:
    """A class of the author's own, whose unpickling would run what it reduces to."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return explode, ("exploded",)


def explode(path: str) -> None:
    Path(path).touch()


@pytest.mark.parametrize("prefix", ["", "gen.", "generator."])
def test_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    monkeypatch.chdir(tmp_path)
    state = generator_state()
    assert sum(t.numel() for t in state.values()) == 3_778_904
    # As Lightning saved it: the modules themselves lie pickled among the hyperparameters.
    checkpoint = {
        "state_dict": OrderedDict((prefix + k, v) for k, v in state.items()),
        "hyper_parameters": {"generator": Notebook(), "module": nn.Linear(2, 2), "lr": 5e-4},
    }
    torch.save(checkpoint, "official.ckpt")
    import_("official.ckpt", "g.safetensors", "ssd")
    assert not Path("exploded").exists()
    latent = torch.randn(5, 100)
    torch.testing.assert_close(gansharing.load("g.safetensors")(latent), original_forward(state, latent))


def test_discriminator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    convolution = [
        nn.Conv2d(i, o, 4, 2, 1, bias=False) for i, o in [(3, 64), (64, 128), (128, 256), (256, 512)]
    ]
    middle = [nn.utils.spectral_norm(c) for c in convolution[1:]]
    layers: list[nn.Module] = [convolution[0], nn.LeakyReLU(0.2)]
    for conv in middle:
        layers += [conv, nn.BatchNorm2d(conv.out_channels), nn.LeakyReLU(0.2)]
    model = nn.Sequential(*layers, nn.Conv2d(512, 1, 4, 1, 0, bias=False), nn.Sigmoid())
    model(torch.randn(4, 3, 64, 64))
    model.eval()
    torch.save({f"disc.model.{k}": v for k, v in model.state_dict().items()}, "d.pt")
    import_("d.pt", "d.safetensors", "ssd", "discriminator")
    images = torch.randn(3, 3, 64, 64)
    logits = gansharing.checkpoints.load("d.safetensors", "discriminator")(images)
    torch.testing.assert_close(logits.sigmoid(), model(images).flatten())


def test_other_files_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"w": torch.zeros(3)}, "other.pt")
    with pytest.raises(UserError, match="starting_const"):
        import_("other.pt", "g.safetensors", "ssd")
    with pytest.raises(UserError, match="discriminator"):
        import_("other.pt", "g.safetensors", "ssd", "discriminator")
    state = generator_state()
    del state["ada_l2.style_bias.weight"]
    torch.save(state, "incomplete.pt")
    with pytest.raises(UserError, match="blocks.1.adain.shift.weight"):
        import_("incomplete.pt", "g.safetensors", "ssd")
    assert not Path("g.safetensors").exists()
