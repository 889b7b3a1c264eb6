"""The TensorFlow layout: a file written here by the original's names, read against the same weights."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import gansharing
from gansharing.networks import StyleGAN2Discriminator, StyleGAN2Generator
from tests.checkpoints.pickles import tensorflow_pickle
from tests.cli.program import run
from tests.golden.fill import STYLEGAN2, fill

Variables = list[tuple[str, Any]]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def dense(weight: Tensor) -> np.ndarray[Any, Any]:
    """TensorFlow multiplies from the left: (in, out)."""
    return weight.T.numpy().copy()


def convolution(weight: Tensor) -> np.ndarray[Any, Any]:
    """TensorFlow's order: height, width, in, out."""
    return weight.permute(2, 3, 1, 0).numpy().copy()


def generator_state(g: StyleGAN2Generator) -> dict[str, Any]:
    """The variables of ``G``, ``Gs``: the mapping's and the synthesis' lie in components."""
    s = {name: tensor.clone() for name, tensor in g.state_dict().items()}
    mapping: Variables = [("lod", np.float32(0))]
    if "mapping.embed.weight" in s:
        mapping += [("LabelEmbed/weight", dense(s["mapping.embed.weight"]))]
        mapping += [("LabelEmbed/bias", s["mapping.embed.bias"].numpy())]
    for i in range(2):
        mapping += [(f"Dense{i}/weight", dense(s[f"mapping.fc{i}.weight"]))]
        mapping += [(f"Dense{i}/bias", s[f"mapping.fc{i}.bias"].numpy())]
    synthesis: Variables = [("4x4/Const/const", s["synthesis.b4.const"][None].numpy())]
    noise = 0
    for size in (4, 8, 16):
        layers = [("conv1", "Conv")] if size == 4 else [("conv0", "Conv0_up"), ("conv1", "Conv1")]
        for own, other in [*layers, ("torgb", "ToRGB")]:
            ours, theirs = f"synthesis.b{size}.{own}", f"{size}x{size}/{other}"
            weight = convolution(s[f"{ours}.weight"])
            # Its transposed convolution applies the mirrored kernel.
            synthesis += [(f"{theirs}/weight", weight[::-1, ::-1] if other == "Conv0_up" else weight)]
            synthesis += [(f"{theirs}/bias", s[f"{ours}.bias"].numpy())]
            synthesis += [(f"{theirs}/mod_weight", dense(s[f"{ours}.affine.weight"]))]
            synthesis += [(f"{theirs}/mod_bias", s[f"{ours}.affine.bias"].numpy() - 1)]
            if own != "torgb":
                synthesis += [(f"{theirs}/noise_strength", s[f"{ours}.noise_strength"].numpy())]
                synthesis += [(f"noise{noise}", s[f"{ours}.noise_const"][None, None].numpy())]
                noise += 1
    return {
        "static_kwargs": {"resolution": 16, "fmap_base": 64, "resample_kernel": [1, 3, 3, 1]},
        "variables": [("lod", np.float32(0)), ("dlatent_avg", s["mapping.w_avg"].numpy())],
        "components": {"mapping": {"variables": mapping}, "synthesis": {"variables": synthesis}},
    }


def discriminator_state(d: StyleGAN2Discriminator) -> dict[str, Any]:
    s = {name: tensor.clone() for name, tensor in d.state_dict().items()}
    variables: Variables = [("lod", np.float32(0))]
    layers = [
        ("b16.fromrgb", "16x16/FromRGB"), ("b16.conv0", "16x16/Conv0"), ("b16.conv1", "16x16/Conv1_down"),
        ("b16.skip", "16x16/Skip"), ("b8.conv0", "8x8/Conv0"), ("b8.conv1", "8x8/Conv1_down"),
        ("b8.skip", "8x8/Skip"), ("b4.conv", "4x4/Conv"), ("b4.fc", "4x4/Dense0"), ("b4.out", "Output"),
    ]  # fmt: skip
    if "mapping.embed.weight" in s:
        layers += [("mapping.embed", "LabelEmbed"), *((f"mapping.fc{i}", f"Mapping{i}") for i in range(8))]
    for own, other in layers:
        weight = s[f"{own}.weight"]
        variables += [(f"{other}/weight", convolution(weight) if weight.ndim == 4 else dense(weight))]
        if f"{own}.bias" in s:
            variables += [(f"{other}/bias", s[f"{own}.bias"].numpy())]
    return {"static_kwargs": {"mbstd_group_size": 2, "architecture": "resnet"}, "variables": variables}


def networks(classes: int = 0) -> tuple[StyleGAN2Generator, StyleGAN2Discriminator]:
    g = StyleGAN2Generator(16, 12, 10, classes, mapping_layers=2, channel_base=128, channel_max=16)
    d = StyleGAN2Discriminator(16, classes, channel_base=128, channel_max=16, group_size=2)
    for network in (g, d):
        fill(network, STYLEGAN2)
        network.eval()
    return g, d


def run_import(content: bytes, *options: str) -> Any:
    Path("ffhq.pkl").write_bytes(content)
    return run("import", "ffhq.pkl", "--format", "stylegan2-ada", "--out", "x.safetensors", *options)


@pytest.mark.parametrize("protocol", [2, 3, 5])
@pytest.mark.parametrize("classes", [0, 3])
def test_all_three_networks(protocol: int, classes: int) -> None:
    g, d = networks(classes)
    average = networks(classes)[0]
    average.mapping.w_avg.fill_(2)
    content = tensorflow_pickle(
        [generator_state(g), discriminator_state(d), generator_state(average)], protocol=protocol
    )
    z, labels = torch.randn(4, 12), torch.tensor([0, 2, 1, 0]) if classes else None
    for options, expected in (((), average), (("--part", "generator"), g)):
        done = run_import(content, *options)
        assert done.code == 0, done.err
        with torch.no_grad():
            images = gansharing.load("x.safetensors")(z, labels, truncation=0.5)
            torch.testing.assert_close(images, expected(z, labels, truncation=0.5))
    done = run_import(content, "--part", "discriminator")
    assert done.code == 0, done.err
    images = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        scores = gansharing.load("x.safetensors", "discriminator")(images, labels)
        torch.testing.assert_close(scores, d(images, labels))
    assert not Path("EXECUTED").exists()


def test_problems_name_the_files_own_tensors() -> None:
    g, d = networks()
    state = generator_state(g)
    state["components"]["synthesis"]["variables"].pop(1)
    said = run_import(tensorflow_pickle([state, discriminator_state(d)]), "--part", "generator").err
    assert "missing: synthesis.b4.conv1.weight" in said
    state = generator_state(g)
    state["components"]["synthesis"]["variables"].append(("8x8/Conv7/weight", np.zeros((3, 3, 2, 2))))
    assert "left over: synthesis/8x8/Conv7/weight" in run_import(tensorflow_pickle([state])).err
    state = generator_state(g)
    state["static_kwargs"]["architecture"] = "orig"
    assert "architecture orig" in run_import(tensorflow_pickle([state])).err
    assert "holds no ema; it holds generator (G)" in run_import(
        tensorflow_pickle([generator_state(g)]), "--part", "ema"
    ).err  # fmt: skip
    assert not Path("x.safetensors").exists()


def test_objects_among_the_variables_are_refused() -> None:
    state = {"variables": [("lod", np.array([pickle.Pickler], dtype=object))]}
    done = run_import(tensorflow_pickle([state]))
    assert done.code == 2
    assert "no type of plain numbers" in done.err
