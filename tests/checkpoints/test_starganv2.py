"""StarGAN v2's checkpoints through the real program: every layout and part, and what is refused."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import gansharing
from tests.cli.program import run
from tests.golden.fill import recorded
from tests.golden.starganv2 import FILTER, original

State = dict[str, Tensor]
LAPLACE = torch.tensor([[-1.0, -1, -1], [-1, 8, -1], [-1, -1, -1]])
NAMES = {
    "generator": "generator",
    "mapping_network": "mapping",
    "style_encoder": "style_encoder",
    "discriminator": "discriminator",
}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def live() -> dict[str, State]:
    return {name: original(part) for name, part in NAMES.items()}


def averaged() -> dict[str, State]:
    return {name: state for name, state in live().items() if name != "discriminator"}


def parallel(state: State) -> State:
    return {f"module.{name}": tensor for name, tensor in state.items()}


def import_(content: Any, *options: str) -> str:
    torch.save(content, "original.ckpt")
    done = run("import", "original.ckpt", "--format", "stargan-v2", "--out", "x.safetensors", *options)
    assert done.code == 0, done.err
    return " ".join(done.out.split())


def refused(content: Any, *options: str) -> str:
    torch.save(content, "original.ckpt")
    done = run("import", "original.ckpt", "--format", "stargan-v2", *options)
    assert done.code == 2 and not Path("imported.safetensors").exists()
    return " ".join(done.err.split())


def same(part: str, expected: State) -> Mapping[str, Any]:
    """What built the network read, whose tensors are these."""
    network = gansharing.load("x.safetensors", part)
    found = network.state_dict()
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []
    return network.config["init_args"]


def test_every_part_of_live_networks() -> None:
    content = {name: parallel(state) for name, state in live().items()}
    sizes = {"resolution": 64, "channel_base": 16384, "channel_max": 64}
    assert "note:" not in import_(content)
    assert same("generator", original("generator")) == sizes | {"style_dim": 16, "high_pass": 0.0}
    import_(content, "--part", "mapping")
    expected = {"latent_dim": 16, "style_dim": 16, "num_domains": 3, "hidden": 512}
    assert same("mapping", original("mapping")) == expected
    import_(content, "--part", "style_encoder")
    expected = sizes | {"style_dim": 16, "num_domains": 3}
    assert same("style_encoder", original("style_encoder")) == expected
    import_(content, "--part", "discriminator")
    assert same("discriminator", original("discriminator")) == sizes | {"num_domains": 3}
    assert "holds no ema; it holds generator (generator), mapping (mapping_network)" in refused(
        content, "--part", "ema"
    )


def test_averages_say_so() -> None:
    content = averaged() | {"fan": {"conv1.weight": torch.zeros(1)}}
    for part in ("ema", "mapping", "style_encoder"):
        assert "note:" not in import_(content, "--part", part)
    assert "note:" not in import_(content)
    same("generator", original("generator"))
    assert "no live generator: the averaged one was read" in import_(content, "--part", "generator")
    assert "holds no discriminator" in refused(content, "--part", "discriminator")


@pytest.mark.parametrize("part", NAMES.values())
def test_a_state_dict_alone_is_read(part: str) -> None:
    import_(parallel(original(part)))
    same(part, original(part))


def test_the_high_pass_filter_is_read_or_taken_as_the_original_has_it() -> None:
    state, golden = original("high_pass"), recorded("starganv2")
    assert "note:" not in import_({"generator": state | {FILTER: LAPLACE}})
    assert same("generator", state)["high_pass"] == 1
    network = gansharing.load("x.safetensors")
    masks = [golden["high_pass:mask0"], golden["high_pass:mask1"]]
    images = network(golden["generator:images"], golden["generator:style"], masks)[..., 1::4, 2::4]
    torch.testing.assert_close(images, golden["high_pass:masked"], rtol=1e-4, atol=1e-4)
    import_({"generator": state | {FILTER: LAPLACE / 3}})
    assert same("generator", state)["high_pass"] == pytest.approx(3)
    assert "1 was taken" in import_({"generator": state})
    assert same("generator", state)["high_pass"] == 1
    for wrong in (LAPLACE.neg(), LAPLACE.flip(0).cumsum(0), torch.ones(2, 2), LAPLACE * float("nan")):
        assert FILTER in refused({"generator": state | {FILTER: wrong}})


def test_what_does_not_fit_is_named() -> None:
    g = original("generator")

    def without(name: str) -> State:
        return {key: tensor for key, tensor in g.items() if key != name}

    assert "missing: encode.1.norm1.bias" in refused({"generator": without("encode.1.norm1.bias")})
    assert "'from_rgb.weight' is missing" in refused({"generator": without("from_rgb.weight")})
    assert "left over: odd" in refused({"generator": g | {"odd": torch.zeros(1)}})
    assert "misshapen: to_rgb.2.bias" in refused({"generator": g | {"to_rgb.2.bias": torch.zeros(4)}})
    assert "from_rgb.weight" in refused({"generator": g | {"from_rgb.weight": torch.zeros(7, 3, 3, 3)}})
    assert "resolution 16384" in refused({"generator": g | {"from_rgb.weight": torch.zeros(1, 3, 3, 3)}})
    odd = original("discriminator") | {"main.x.conv2.weight": torch.zeros(1)}
    assert "holds no discriminator of StarGAN v2" in refused({"discriminator": odd})
    assert "holds no network of this format" not in refused(averaged(), "--part", "miner")
    assert "no network of this format" in refused({"state": 1}) + refused([g])


def test_a_file_with_code_is_refused_by_name() -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return Path, ("x",)

    assert "pathlib.Path" in refused({"generator": original("generator") | {"x": Bomb()}})
