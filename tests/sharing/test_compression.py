"""A delta of low rank: the singular values asked for, read by all that reads deltas."""

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gansharing import load
from gansharing.checkpoints.deltas import export_delta, read_delta, save_delta
from gansharing.checkpoints.networks import save_network
from gansharing.errors import UserError
from gansharing.networks import GPGANGenerator
from gansharing.networks.seeded import seeded_latents
from gansharing.sharing import AdaFM, Domains, Full, apply_delta, delta_of, split_of
from gansharing.sharing.compression import compress, expand, low_rank_of
from gansharing.sharing.delta import Delta, Slots
from tests.cli.program import run, write_images


def network(trained: bool = True) -> GPGANGenerator:
    """A source, or a domain on it with scales and shifts off the start."""
    torch.manual_seed(0)
    net = GPGANGenerator(32, 4, base_channels=2)
    if trained:
        split = AdaFM().apply(net)
        for parameter in split.domain.values():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return net.eval()


def matrices(net: GPGANGenerator, delta: Delta) -> dict[str, Tensor]:
    found, start = {}, 0
    for name, shape in Slots(net).shapes()["parameters.float32"]:
        flat = delta.tensors["parameters.float32"][start : start + shape.numel()]
        found[name], start = flat.view(shape[0], -1), start + shape.numel()
    return found


@settings(max_examples=15, deadline=None)
@given(st.floats(0.05, 1.0))
def test_each_matrix_keeps_its_largest_singular_values(energy: float) -> None:
    net = network()
    delta = delta_of(net)
    low = compress(delta, Slots(net).shapes(), energy)
    again = Delta(delta.config, delta.shared_hash, delta.layout, expand(low))
    numbers = 0
    for name, matrix in matrices(net, delta).items():
        # numpy's singular values, in double.
        left, values, right = np.linalg.svd(matrix.numpy().astype("float64"), full_matrices=False)
        rank = 1 + int(np.sum(np.cumsum(values) < energy * values.sum() * (1 - 1e-12)))
        assert values[:rank].sum() >= energy * values.sum() * (1 - 1e-9)
        smaller = rank * sum(matrix.shape) < matrix.numel()
        numbers += rank * sum(matrix.shape) if smaller else matrix.numel()
        wanted = (left[:, :rank] * values[:rank]) @ right[:rank] if smaller else matrix.numpy()
        np.testing.assert_allclose(matrices(net, again)[name].numpy(), wanted, rtol=0, atol=2e-6)
    assert low.numbers() == numbers


def test_every_consumer_reads_the_file(tmp_path: Path) -> None:
    net = network()
    save_network(network(False), tmp_path / "base.safetensors", "generator")
    whole, small = tmp_path / "whole.safetensors", tmp_path / "small.safetensors"
    save_network(net, tmp_path / "run.safetensors", "generator")
    export_delta(tmp_path / "run.safetensors", whole)
    done = run("export", tmp_path / "run.safetensors", "--delta", "--energy=0.6", f"--out={small}")
    assert done.code == 0 and "at energy 0.6" in done.out, done.err
    assert small.stat().st_size < 0.7 * whole.stat().st_size

    base: Any = load(tmp_path / "base.safetensors")
    served: Any = load(tmp_path / "base.safetensors")
    delta = read_delta(small)
    apply_delta(base, delta)
    latents = seeded_latents(base, [1, 2])
    with torch.no_grad():
        images = base.eval()(latents)
        mixed = Domains(served, [delta, read_delta(whole)])(latents, torch.tensor([0, 1]))
        torch.testing.assert_close(mixed[0], images[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(mixed[1], net(latents)[1], rtol=0, atol=1e-5)
    assert 0 < (images - net(latents)).abs().max() < 0.5
    assert split_of(base).shared_hash() == split_of(net).shared_hash()
    done = run(
        *("sample", "--base", tmp_path / "base.safetensors", "--delta", small),
        *("--seeds", "0-1", "--out", tmp_path / "images"),
    )
    assert done.code == 0 and (tmp_path / "images/grid.png").is_file()


def test_what_cannot_be_compressed_says_why(tmp_path: Path) -> None:
    net = network()
    save_network(net, tmp_path / "run.safetensors", "generator")
    for energy in (0.0, 1.5):
        with pytest.raises(UserError, match=r"share of the singular values in \(0, 1\]"):
            export_delta(tmp_path / "run.safetensors", tmp_path / "a.safetensors", energy=energy)
    whole = network(False)
    Full().apply(whole)
    with pytest.raises(UserError, match="no matrix beside frozen weights"):
        compress(delta_of(whole), Slots(whole).shapes(), 0.9)
    done = run("export", tmp_path / "run.safetensors", "--energy=0.5", f"--out={tmp_path / 'b'}")
    assert done.code == 2 and "add --delta" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["run.safetensors"]


@pytest.mark.parametrize(
    "pieces",
    [
        {"parameters.float32": [[0, 4, 4, 10_000]]},
        {"parameters.float32": [[-1, 4, 4, 1]]},
        {"parameters.float32": [["0", 4, 4, 1]]},
        {"parameters.float32": []},
        {"elsewhere": [[0, 4, 4, 1]]},
        [],
    ],
)
def test_a_file_whose_factors_do_not_fit_is_damaged(pieces: Any, tmp_path: Path, monkeypatch: Any) -> None:
    net = network()
    tensors = compress(delta_of(net), Slots(net).shapes(), 0.5).tensors
    with pytest.raises(ValueError, match="factor|place"):
        expand(low_rank_of(tensors, pieces))


def test_a_bit_that_flips_in_a_factor_is_noticed(tmp_path: Path) -> None:
    net, path = network(), tmp_path / "a.safetensors"
    save_delta(delta_of(net), path, (Slots(net).shapes(), 0.5))
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="do not have the hash"):
        read_delta(path)


def test_the_script_prints_fid_for_every_share(tmp_path: Path) -> None:
    net = network()
    save_network(network(False), tmp_path / "base.safetensors", "generator")
    save_delta(delta_of(net), tmp_path / "a.safetensors")
    out = tmp_path / "rows.json"
    script: Any = runpy.run_path(str(Path(__file__).parents[2] / "experiments/compression.py"))
    script["main"](
        str(tmp_path / "base.safetensors"),
        str(tmp_path / "a.safetensors"),
        str(write_images(tmp_path / "data", 20)),
        energies="1,0.5",
        num_images=20,
        out=str(out),
    )
    whole, same, half = json.loads(out.read_text())
    assert whole["share"] == 1 and whole["numbers"] == split_of(net).domain_size
    assert same["fid"] == pytest.approx(whole["fid"], rel=1e-3) and same["numbers"] == whole["numbers"]
    assert half["numbers"] < 0.6 * whole["numbers"] and half["difference"] > same["difference"] == 0
