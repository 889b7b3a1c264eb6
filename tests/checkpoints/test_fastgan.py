"""FastGAN's checkpoints through the real program, there and back: every layout, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import gansharing
from gansharing.checkpoints import save_network
from gansharing.checkpoints.fastgan import fastgan_state
from gansharing.networks import DCGANGenerator, FastGANDiscriminator, FastGANGenerator, Network
from tests.cli.program import run
from tests.golden.fastgan import ENTRIES, original
from tests.golden.fill import recorded

State = dict[str, Tensor]
BUFFERS = ("weight_u", "weight_v", "running_mean", "running_var", "num_batches_tracked")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def import_(content: Any, *options: str) -> str:
    torch.save(content, "original.pth")
    done = run("import", "original.pth", "--format", "fastgan", "--out", "x.safetensors", *options)
    assert done.code == 0, done.err
    return " ".join(done.out.split())


def export(part: str = "generator") -> Any:
    done = run("export", "x.safetensors", "--format", "fastgan", "--part", part, "--out", "back.pth")
    assert done.code == 0, done.err
    return torch.load("back.pth", weights_only=True)


def refused(content: Any, *options: str) -> str:
    torch.save(content, "original.pth")
    done = run("import", "original.pth", "--format", "fastgan", *options)
    assert done.code != 0 and not Path("imported.safetensors").exists()
    return " ".join(done.err.split())


def parallel(state: State) -> State:
    return {f"module.{name}": tensor for name, tensor in state.items()}


def listed(state: State) -> list[Tensor]:
    """The parameters in the order of the recorded names, which is that of the original's layers."""
    return [state[name] for name, _ in ENTRIES["generator"] if not name.endswith(BUFFERS)]


def moved(state: State) -> State:
    """Other parameters with the same buffers."""
    return {n: t if n.endswith(BUFFERS) else t + 1 for n, t in state.items()}


def same(one: State, other: State) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_a_released_file_is_read_and_written_back() -> None:
    g, d = original("generator"), original("discriminator")
    content = {"g": g, "d": parallel(d)}
    said = import_(content)
    assert "read g" in said and "live buffers" in said and "batch's statistics" in said
    golden, network = recorded("fastgan"), gansharing.load("x.safetensors")
    arguments = network.config["init_args"]
    assert [arguments[name] for name in ("resolution", "latent_dim", "base_channels")] == [256, 64, 16]
    images = network(golden["generator:z"], noise="none")[..., ::10, ::10]
    torch.testing.assert_close(images, golden["generator:big"], rtol=3e-4, atol=3e-5)
    same(export()["g"], g)
    assert "statistics" not in import_(content, "--part", "discriminator")
    back = export("discriminator")
    assert back.keys() == {"d"}
    same(back["d"], d)
    assert "holds no live generator" in import_(content, "--part", "generator")


def test_the_average_comes_as_a_list() -> None:
    average = original("generator")
    live, d = moved(average), original("discriminator")
    content = {"g": parallel(live), "d": parallel(d), "g_ema": listed(average), "opt_g": {"state": {}}}
    assert "read g_ema" in import_(content)
    same(export()["g"], average)
    import_(content, "--part", "generator")
    same(export()["g"], live)
    assert "holds no miner" in refused(content, "--part", "miner")
    short = content | {"g_ema": listed(average)[1:]}
    assert "g_ema lists" in refused(short)
    assert "--part generator" in refused(content | {"g_ema": [1.0]})
    import_(content | {"g_ema": parallel(average)})
    same(export()["g"], average)


@pytest.mark.parametrize("part", ["generator", "discriminator"])
def test_a_state_dict_alone_is_read(part: str) -> None:
    state = original(part)
    import_(parallel(state))
    same(export(part)[part[0]], state)


# Layers beyond the recorded ones at 256 px, and those of another shape; 8 channels.
G512 = {
    **{f"feat_512.{i}.weight_orig": s for i, s in ((1, (4, 4, 3, 3)), (5, (4, 2, 3, 3)))},
    "se_512.main.1.weight_orig": (2, 16, 4, 4),
    "se_512.main.3.weight_orig": (2, 2, 1, 1),
}
SIZES: dict[tuple[str, int], dict[str, tuple[int, ...]]] = {
    ("generator", 512): G512 | {"feat_512.2.weight": (1,), "feat_512.7.running_var": (4,)},
    ("generator", 1024): G512 | {"feat_1024.1.weight_orig": (2, 2, 3, 3), "feat_1024.2.running_var": (2,)},
    ("discriminator", 512): {"down_from_big.0.weight_orig": (2, 3, 4, 4)},
    ("discriminator", 1024): {
        "down_from_big.0.weight_orig": (1, 3, 4, 4),
        "down_from_big.2.weight_orig": (2, 1, 4, 4),
        "down_from_big.3.running_var": (2,),
    },
}


@pytest.mark.parametrize(("part", "resolution"), SIZES)
def test_larger_images_have_the_originals_further_layers(part: str, resolution: int) -> None:
    torch.manual_seed(0)
    network: Network = (
        FastGANGenerator(resolution, 4, 8) if part == "generator" else FastGANDiscriminator(resolution, 8)
    )
    state = fastgan_state(network, part)[part[0]]
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert SIZES[part, resolution].items() <= shapes.items()
    recorded_names = {name for name, _ in ENTRIES[part]}
    assert recorded_names <= state.keys()
    further = {name.split(".")[0] for name in state.keys() - recorded_names}
    assert (
        further
        == {
            ("generator", 512): {"feat_512", "se_512"},
            ("generator", 1024): {"feat_512", "se_512", "feat_1024"},
            ("discriminator", 512): set(),
            ("discriminator", 1024): {"down_from_big"},
        }[part, resolution]
    )
    import_({part[0]: state}, *([] if part == "generator" else ["--part", "discriminator"]))
    read = gansharing.load("x.safetensors", part)
    assert (read.resolution, read.config["init_args"]["base_channels"]) == (resolution, 8)
    own = network.state_dict()
    for name, tensor in read.state_dict().items():
        assert name.endswith(".const") or torch.equal(tensor, own[name]), name


def test_what_does_not_fit_is_named() -> None:
    g = original("generator")
    less = {name: tensor for name, tensor in g.items() if name != "feat_16.1.weight_orig"}
    assert "missing: feat_16.1.weight_orig" in refused({"g": less})
    assert "left over: odd" in refused({"g": g | {"odd": torch.zeros(1)}})
    assert "misshapen: se_64.main.1.weight_orig" in refused(
        {"g": g | {"se_64.main.1.weight_orig": torch.zeros(1, 2, 3, 4)}}
    )
    assert "of 2048 px" in refused({"g": g | {"feat_2048.1.weight_orig": torch.zeros(1)}})
    assert "init.init.0.weight_orig" in refused({"g": {"feat_8.2.weight": torch.zeros(1)}})
    assert "no FastGAN of that part" in refused({"g": {"init.init.0.weight_orig": torch.zeros(4)}})
    assert "feat_8.1.weight_orig" in refused({"g": g | {"init.init.0.weight_orig": torch.zeros(4, 4, 4, 4)}})
    assert "down_from_big.0" in refused({"d": {"rf_big.0.weight_orig": torch.zeros(16, 8, 1, 1)}})
    assert "holds no network of this format" in refused({"state": 1}) + refused([g])
    assert "holds no discriminator" in refused({"g": g}, "--part", "discriminator")


def test_a_file_with_code_is_refused_by_name() -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return Path, ("x",)

    assert "pathlib.Path" in refused({"g": {"init.init.0.weight_orig": torch.zeros(1), "x": Bomb()}})


def test_what_the_original_does_not_have_is_not_written() -> None:
    networks: list[tuple[Network, str]] = [
        (FastGANGenerator(128, 4, 2), "128 px"),
        (FastGANGenerator(256, 4, 2, tanh="always"), "256 px with tanh"),
        (FastGANGenerator(256, 4, 2, skip=False), "256 px, without skip or its decoders"),
        (DCGANGenerator(32, base_channels=1), "DCGANGenerator"),
    ]
    for network, said in networks:
        save_network(network, "x.safetensors", "generator")
        done = run("export", "x.safetensors", "--format", "fastgan", "--out", "back.pth")
        assert done.code != 0 and not Path("back.pth").exists()
        assert said in " ".join(done.err.split())
