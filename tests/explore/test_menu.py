"""Which generators the page offers, and what it refuses to open."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from gansharing.checkpoints import export_deltas, load, read_delta
from gansharing.errors import UserError
from gansharing.networks.seeded import seeded_latents
from gansharing.sharing import apply_delta
from gansharing.tools.explore.menu import Menu
from tests.cli.program import run
from tests.explore.models import CLASSES, moved, write_models
from tests.latent.tiny import tiny_stylegan2


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_models(tmp_path_factory.mktemp("models"))


def menu_of(*paths: Path) -> Menu:
    return Menu([str(path) for path in paths])


def drawn(network: torch.nn.Module) -> Tensor:
    return network(seeded_latents(network, [0, 1]), torch.tensor([0, 2]), noise="const")  # type: ignore[arg-type]


def test_each_domain_is_the_base_with_its_delta(paths: dict[str, Path]) -> None:
    menu = menu_of(paths["base"], paths["cats"], paths["dogs"])
    assert menu.names == ["base", "cats", "dogs"]
    for name in ("cats", "dogs", "cats"):
        expected = load(paths["base"])
        apply_delta(expected, read_delta(paths[name]))
        assert torch.allclose(drawn(menu.generator(name)), drawn(expected), atol=1e-5)
    assert torch.equal(drawn(menu.generator("base")), drawn(load(paths["base"])))
    assert not torch.allclose(drawn(menu.generator("cats")), drawn(menu.generator("dogs")), atol=1e-2)


def test_of_many_domains_few_are_held_and_all_stay_right(paths: dict[str, Path]) -> None:
    menu = menu_of(paths["base"], *[paths["cats"], paths["dogs"]] * 4)
    assert menu.names[0] == "base" and len(set(menu.names)) == 9
    first = {name: drawn(menu.generator(name)) for name in menu.names}
    assert len(menu._ready) == 4
    for name in menu.names:
        assert torch.equal(drawn(menu.generator(name)), first[name])


def test_a_whole_network_of_the_same_architecture_is_a_domain_too(paths: dict[str, Path]) -> None:
    menu = menu_of(paths["base"], paths["base"])
    assert menu.names == ["base-0", "base-1"]
    assert torch.equal(drawn(menu.generator("base-0")), drawn(menu.generator("base-1")))


def test_a_run_of_several_domains_gives_all_of_them(tmp_path: Path) -> None:
    menu = menu_of(write_run(tmp_path))
    assert menu.names == ["emoji", "symbols"]
    assert not torch.equal(drawn(menu.generator("emoji")), drawn(menu.generator("symbols")))


def test_what_domains_share_is_a_base_but_no_domain(tmp_path: Path) -> None:
    whole = menu_of(write_run(tmp_path))
    files = export_deltas(tmp_path / "both-001", tmp_path / "parts")
    menu = menu_of(files.shared, *files.deltas.values())
    assert menu.names == ["emoji", "symbols"]
    for name in menu.names:
        assert torch.allclose(drawn(menu.generator(name)), drawn(whole.generator(name)), atol=1e-5)
    assert torch.equal(drawn(menu.base), drawn(menu.generator("emoji")))
    with pytest.raises(UserError, match="no model"):
        menu_of(files.shared)


def write_run(folder: Path) -> Path:
    """A run of two domains as MultiDomain leaves it, generators alone."""
    networks, state = {}, {}
    for seed, name in enumerate(("emoji", "symbols")):
        network = moved(tiny_stylegan2(CLASSES), seed)
        networks[f"generator.{name}"] = network.config
        state |= {f"generator.{name}.{key}": value for key, value in network.state_dict().items()}
    (folder / "both-001" / "checkpoints").mkdir(parents=True)
    torch.save({"networks": networks, "state_dict": state}, folder / "both-001" / "checkpoints" / "last.ckpt")
    return folder / "both-001"


def test_a_run_is_called_by_its_folder(paths: dict[str, Path], tmp_path: Path) -> None:
    network = load(paths["base"])
    folder = tmp_path / "metfaces-002" / "checkpoints"
    folder.mkdir(parents=True)
    state = {f"generator.{key}": value for key, value in network.state_dict().items()}
    torch.save({"networks": {"generator": network.config}, "state_dict": state}, folder / "best.ckpt")
    for path in (tmp_path / "metfaces-002", folder / "best.ckpt"):
        assert menu_of(path).names == ["metfaces-002"]


@pytest.mark.parametrize(
    ("models", "said"),
    [
        (["cats"], "cats.safetensors is a delta; name its base before it"),
        (["base", "other"], "another architecture than the first model"),
        (["slim", "cats"], "belongs to"),
        (["nothing"], "no file"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    paths: dict[str, Path], models: list[str], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        menu_of(*(paths.get(name, Path("nothing.ckpt")) for name in models))


def test_a_discriminator_alone_and_a_damaged_delta_are_refused(
    paths: dict[str, Path], tmp_path: Path
) -> None:
    network = load(paths["base"])
    torch.save({"networks": {"discriminator": network.config}, "state_dict": {}}, tmp_path / "d.ckpt")
    with pytest.raises(UserError, match="holds no generator; it holds discriminator"):
        menu_of(tmp_path / "d.ckpt")
    torn = bytearray(paths["cats"].read_bytes())
    torn[-1] ^= 1
    (tmp_path / "torn.safetensors").write_bytes(torn)
    with pytest.raises(UserError, match="torn.safetensors is damaged"):
        menu_of(paths["base"], tmp_path / "torn.safetensors")


def test_the_command_refuses_before_it_serves(paths: dict[str, Path]) -> None:
    done = run("explore", paths["cats"])
    assert done.code == 2 and done.err.count("\n") == 1 and "name its base before it" in done.err


def test_without_gradio_one_line_says_how_to_get_it(
    paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # as where it is not installed
    done = run("explore", paths["base"])
    assert done.code == 2 and done.err.count("\n") == 1
    assert 'pip install "gansharing[explore]"' in done.err
