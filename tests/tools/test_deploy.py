"""Plain weights, what is no ordinary network, and what cannot be deployed."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

import gansharing.networks as networks
from gansharing.checkpoints import save_network
from gansharing.errors import UserError
from gansharing.networks import DCGANDiscriminator, FastGANGenerator, Generator
from gansharing.sharing import AdaFM, Combined, Miner, Sharing, StyleOffsets, WidthWise
from gansharing.slimmable import SlimmableGenerator
from gansharing.tools.deploy import compare, folded, write_graph
from tests.cli.program import files_in, run
from tests.tools.archives import inputs_of, loaded
from tests.tools.generators import GENERATORS, lively, stylegan2


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_generator_of_the_project_is_deployed_by_these_tests() -> None:
    exported = {getattr(networks, name) for name in networks.__all__}
    known = {cls for cls in exported if isinstance(cls, type) and issubclass(cls, Generator)} - {Generator}
    assert known == {type(make()) for make in GENERATORS.values()}


def moved(network: Generator, sharing: Sharing) -> Generator:
    """The network divided, the domain's weights no longer those of the source."""
    split = sharing.apply(network)
    with torch.no_grad():
        for parameter in split.domain.values():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.requires_grad_(False)


@pytest.mark.parametrize(
    ("name", "sharing"),
    [
        ("FastGAN", WidthWise(0.3)),
        ("GP-GAN", AdaFM()),
        ("StyleGAN2", Combined([WidthWise(0.2), StyleOffsets()])),
        ("SNGAN with classes", WidthWise(0.5)),
        ("DCGAN", Miner()),
    ],
)
def test_folded_networks_have_plain_weights_and_the_same_images(name: str, sharing: Sharing) -> None:
    network = moved(lively(GENERATORS[name]), sharing)
    given = inputs_of(network, 3)
    expected = network(*given)
    plain = folded(network)
    torch.testing.assert_close(plain(*given), expected, atol=1e-5, rtol=1e-4)
    assert not any(parametrize.is_parametrized(module) for module in plain.modules())
    assert {key.rpartition(".")[2] for key in plain.state_dict()}.isdisjoint({"original", "_u", "_v"})
    assert torch.equal(network(*given), expected)  # what was folded is as it was
    assert not plain.training and not any(p.requires_grad for p in plain.parameters())


@pytest.mark.parametrize(
    "make",
    [
        lambda: moved(lively(GENERATORS["DCGAN"]), Miner()),
        lambda: SlimmableGenerator(lively(GENERATORS["SNGAN with classes"]), widths=[0.5, 1.0]).eval(),
        lambda: (
            stylegan2(resolution=16, width=256).eval().requires_grad_(False)
        ),  # convolutions that the CPU tiles by hand
    ],
    ids=["mined", "slimmable", "tiled"],
)
def test_what_is_no_ordinary_network_is_written_too(here: Path, make: Callable[[], Generator]) -> None:
    network = make()
    write_graph(network, "g.pt2", "torch-export")
    inner = network.network if isinstance(network, SlimmableGenerator) else network
    given = inputs_of(inner, 4)
    torch.testing.assert_close(loaded(here / "g.pt2")[0](*given), network(*given), atol=1e-4, rtol=1e-4)


def test_noise_and_statistics_that_are_no_function_of_the_latent_are_replaced_and_said(here: Path) -> None:
    network = lively(lambda: FastGANGenerator(32, 8, 4, noise="random", batch_norm="batch"))
    save_network(network, "model.safetensors", "generator")
    done = run("export", "model.safetensors", "--format=torch-export", "--noise=none", "--out=g.pt2")
    assert done.code == 0, done.err
    assert "note: the network's own noise is random; the file has none" in done.out
    assert "note: the network's own batch_norm is batch; the file has running" in done.out
    graph, about = loaded(here / "g.pt2")
    (latents,) = inputs_of(network, 4)
    expected = network(latents, noise="none", batch_norm="running")
    torch.testing.assert_close(graph(latents), expected, atol=1e-4, rtol=1e-4)
    assert about["choices"] == {"noise": "none", "batch_norm": "running"}


class Odd(Generator):
    """Grey levels of the latent.

    Args:
        branch: Read a latent as a number, which no graph can; otherwise be darker in a graph.
    """

    def __init__(self, branch: bool) -> None:
        super().__init__()
        self.latent_dim, self.resolution, self.branch = 2, 4, branch
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        changed = float(latent.sum()) > 0 if self.branch else torch.compiler.is_exporting()
        grey = self.weight * latent[:, :1, None, None].expand(-1, 3, 4, 4)
        return grey - 0.1 if changed else grey


def test_what_cannot_be_deployed_is_one_line_and_writes_nothing(here: Path) -> None:
    save_network(GENERATORS["DCGAN"](), "plain.safetensors", "generator")
    save_network(DCGANDiscriminator(32, 2), "d.safetensors", "discriminator")
    before = files_in(here)
    for arguments, message in [
        (["plain.safetensors", "--format=onnx", "--noise=none"], "DCGANGenerator has no noise"),
        (["plain.safetensors", "--noise=none"], "--noise none is for onnx and torch-export"),
        (["plain.safetensors", "--format=onnx", "--delta"], "a delta is written as safetensors only"),
        (["d.safetensors", "--part=discriminator", "--format=onnx"], "onnx files hold generators"),
    ]:
        done = run("export", *arguments)
        assert done.code == 2
        assert message in done.err and done.err.count("\n") == 1
    assert files_in(here) == before


def test_a_network_that_is_no_graph_or_another_one_is_not_written(here: Path) -> None:
    with pytest.raises(UserError, match="torch.export cannot make a graph of this network"):
        write_graph(Odd(branch=True), "g.pt2", "torch-export")
    with pytest.raises(UserError, match="images differ from the network's by 1.0e-01"):
        write_graph(Odd(branch=False), "g.pt2", "torch-export")
    assert files_in(here) == set()


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_is_named_before_anything_is_done(
    here: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    save_network(GENERATORS["DCGAN"](), "plain.safetensors", "generator")
    monkeypatch.setitem(sys.modules, missing, None)
    done = run("export", "plain.safetensors", "--format=onnx")
    assert done.code == 2 and done.err.count("\n") == 1
    assert f'ONNX needs the package {missing}: pip install "gansharing[deploy]"' in done.err
    assert files_in(here) == {"plain.safetensors"}


def test_one_ten_thousandth_is_allowed_and_beyond_it_rounding_alone() -> None:
    exact = torch.linspace(-1, 1, 48, dtype=torch.float64).view(1, 3, 4, 4)

    def judge(found: float, network: float, scale: float = 1.0) -> list[str]:
        off = [(scale * exact + shift).float() for shift in (found, network)]
        return compare(*off, lambda: scale * exact, "onnx")

    assert judge(9e-5, 0) == judge(-9e-4, 0, scale=10) == []
    assert judge(3e-4, -1e-4) == [
        "the graph's images differ from the network's by up to 4.0e-04, which are rounding errors"
    ]
    for found, network in [(1.1e-4, 0), (3e-4, 5e-5), (1, 1e-3)]:
        with pytest.raises(UserError, match="the onnx graph's images differ from the network's by"):
            judge(found, network)
    with pytest.raises(UserError, match="by inf"):
        compare(exact[:, :, :2], exact, lambda: exact, "onnx")
