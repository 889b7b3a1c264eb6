"""SmallHead against recorded outputs of the original, whole and by layer, and its parameter counts."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gansharing.errors import UserError
from gansharing.networks import GPGANGenerator, SmallHeadGenerator
from gansharing.networks.smallhead import DampedGain, StyleBlock
from gansharing.sharing import AdaFM, Combined, FilterSelection, FreezeLower, Full, merged
from tests.golden.fill import recorded
from tests.golden.gpgan import arrays, network, original

GENERAL = ["resnet_*.conv_[01].weight"]


def close(actual: Tensor, expected: Tensor) -> None:
    """Within 1e-5 of the largest entry."""
    atol = 1e-5 * expected.abs().max().item()
    torch.testing.assert_close(actual.detach(), expected, rtol=0, atol=atol)


def fill(module: nn.Module, name: str, unwrapped: tuple[str, ...]) -> list[str]:
    """Load a recording whose names have wrappers; gives the parameters' names in the recording's order."""
    names = {}
    for key in original(name):
        own = key
        for wrapper in unwrapped:
            own = own.replace(f".{wrapper}.", ".")
        names[own] = key
    held, state = original(name), module.state_dict()
    module.load_state_dict(
        {own: held[names[own]].reshape(t.shape) if own in names else t for own, t in state.items()}
    )
    return list(names)


def norms(module: nn.Module, order: list[str]) -> Tensor:
    parameters = dict(module.named_parameters())
    gradients = [parameters[name].grad for name in order]
    return torch.stack([torch.zeros(()) if g is None else g.norm() for g in gradients])


def test_the_whole_generator_is_the_original(tmp_path: Path) -> None:
    golden = recorded("smallhead")
    divided = network(tmp_path, original("adafm_g"))
    latent = golden["in_z"]
    g = merged(divided)
    assert isinstance(g, SmallHeadGenerator)
    with torch.no_grad():
        close(g.style(latent)[:, 1], golden["out_style_w"])
        close(g(latent, noise="none")[..., ::8, ::8], golden["out_out"])
        for number, layer in enumerate(m for n, m in g.named_modules() if ".noise_" in n):
            layer.const = golden[f"in_noise_{number}"]  # type: ignore[assignment]
        close(g(latent)[..., ::8, ::8], golden["out_out_noise"])
        for name, parameter in divided.named_parameters():
            if ".weight.original" in name and not name.endswith("original0"):
                parameter.fill_(1.0 if name.endswith("original1") else 0.0)
        close(divided(latent, noise="none")[..., ::8, ::8], golden["out_out_identity"])


def test_a_style_block_and_its_clamped_gradient_are_the_originals() -> None:
    golden, block = arrays("adafm", "adafm_style_block"), StyleBlock(8, 256, 8)
    order = fill(block, "adafm_style_block", ("conv", "linear"))
    x, w = golden["in_x"].requires_grad_(), golden["in_w"].requires_grad_()
    out = block(x, w, "none")
    close(out, golden["out_out"])
    (out * golden["in_probe"]).sum().backward()
    assert x.grad is not None and w.grad is not None
    close(x.grad, golden["out_grad_x"])
    close(w.grad, golden["out_grad_w"])
    close(norms(block, order), golden["out_grad_norms"])
    block.noise_0.const, block.noise_1.const = golden["in_noise_0"], golden["in_noise_1"]
    close(block(x, w, "const"), golden["out_out_noise"])


def test_the_damped_gain_is_the_originals() -> None:
    golden, gain = arrays("adafm", "adafm_small_h"), DampedGain(6, 16, gain=1000.0)
    order = fill(gain, "adafm_small_h", ())
    x = golden["in_x"].requires_grad_()
    out = gain(x)
    close(out, golden["out_out"])
    (out * golden["in_probe"]).sum().backward()
    assert x.grad is not None
    close(x.grad, golden["out_grad_x"])
    close(norms(gain, order), golden["out_grad_norms"])


@pytest.mark.parametrize(
    ("latent_dim", "head", "ours"),
    [(64, 23_563_777, 24_423_937), (256, 25_185_793, 26_045_953), (4, 23_056_897, 23_917_057)],
)
def test_counts_of_the_methods(latent_dim: int, head: int, ours: int) -> None:
    def generator() -> SmallHeadGenerator:
        return SmallHeadGenerator(latent_dim=latent_dim)

    with torch.device("meta"):
        assert FreezeLower(4).apply(generator()).domain_size == head
        split = Combined([AdaFM(GENERAL), FreezeLower(4)]).apply(generator())
        assert (split.domain_size, split.shared_size) == (ours, 4_046_275)
        assert AdaFM(GENERAL).apply(generator()).domain_size == 860_160
        assert FilterSelection(GENERAL).apply(generator()).domain_size == 3_584
        scratch = Combined([AdaFM(GENERAL), Full()]).apply(generator())
        assert scratch.domain_size == ours + 4_046_275


def test_the_general_stages_are_gpgans() -> None:
    sizes = {"base_channels": 2}
    head = SmallHeadGenerator(64, 4, style_dim=4, mapping_layers=2, **sizes)
    source = GPGANGenerator(64, 4, **sizes)
    assert list(head.stages())[-4:] == list(source.stages())[-4:]
    for name in list(head.stages())[-4:]:
        ours, theirs = head.stages()[name].state_dict(), source.stages()[name].state_dict()
        assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    staged = [id(p) for stage in head.stages().values() for p in stage.parameters()]
    assert sorted(staged) == sorted(id(p) for p in head.parameters())
    assert " ".join(head.stages()).startswith("mapping.fc0 mapping.fc1 fc style_0 style_1 gain resnet_3")


@pytest.mark.parametrize("resolution", [32, 64, 128, 256])
def test_noise_and_mixing(resolution: int) -> None:
    g = SmallHeadGenerator(resolution, 4, style_dim=4, mapping_layers=2, base_channels=1).eval()
    nn.init.constant_(g.gain.weight, 1.0)  # at its start the images are saturated
    latent = g.sample_latent(2)
    with torch.no_grad():
        assert g(latent).shape == (2, 3, resolution, resolution)
        assert torch.equal(g(latent), g(latent, noise="const"))
        assert not torch.equal(g(latent, noise="random"), g(latent, noise="random"))
        assert not torch.equal(g(latent), g(latent, noise="none"))
        assert not torch.equal(g.train()(latent), g(latent))
        styles = g.eval().style(latent.flip(0))
        mixed = g.synthesis(g.content(latent), styles)
        assert not torch.equal(mixed, g(latent))
        assert torch.equal(g.synthesis(g.content(latent), styles.flip(0)), g(latent))


def test_sizes_that_it_has_not() -> None:
    for options, message in (({"resolution": 512}, "32, 64, 128, 256"), ({"style_dim": 0}, "style_dim is 0")):
        with pytest.raises(UserError, match=message):
            SmallHeadGenerator(**options)
