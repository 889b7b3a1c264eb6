"""A delta carries all that a domain learned, and fits nothing but its own base."""

import copy
import json
import os
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

from gansharing.checkpoints.deltas import export_delta, read_delta, save_delta
from gansharing.checkpoints.networks import save_network
from gansharing.errors import UserError
from gansharing.networks import DCGANGenerator, Generator, Network, StyleGAN2Generator
from gansharing.networks.seeded import seeded_latents
from gansharing.sharing import FreezeLower, LayerWise, LowRank, Sharing, WidthWise, split_of
from gansharing.sharing.delta import Delta, apply_delta, delta_of
from gansharing.visual import to_uint8
from tests.cli.program import run
from tests.sharing.test_sharing import NETWORKS, PAIRS, SHARINGS, build, output


def train(network: Network, seed: int) -> None:
    """Random steps of θ_D, and what a forward in train mode does to the buffers."""
    torch.manual_seed(seed)
    split = split_of(network)
    split.freeze_shared()
    optimizer = torch.optim.Adam(list(split.domain.values()), lr=1e-2)
    for _ in range(3):
        for parameter in split.domain.values():
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
    network.train()
    with torch.no_grad():
        output(network)
    network.eval()


def trained(network: str = "stylegan2", sharing: str = "width", seed: int = 1) -> Network:
    net = build(network)
    SHARINGS[sharing]().apply(net)
    train(net, seed)
    return net


def check_round_trip(net: Network, base: Network, sharing: Sharing, seed: int, path: Path) -> None:
    split = sharing.apply(net)
    before = {name: tensor.clone() for name, tensor in split.shared.items()}
    first = delta_of(net)
    train(net, seed)
    assert all(torch.equal(split.shared[name], tensor) for name, tensor in before.items())

    save_delta(delta_of(net), path)
    numbers = sum(t.numel() * t.element_size() for t in split.domain.values())
    numbers += sum(t.numel() * t.element_size() for t in split.domain_buffers.values())
    assert 0 < path.stat().st_size - numbers <= 4096

    untouched = output(base)
    apply_delta(base, read_delta(path))
    assert torch.equal(output(base), output(net))
    after, wanted = base.state_dict(), net.state_dict()
    assert after.keys() == wanted.keys() and all(torch.equal(after[k], wanted[k]) for k in wanted)

    shared = {name: (p.data_ptr(), p._version) for name, p in split_of(base).shared.items()}
    apply_delta(base, first)  # a domain that has learned nothing yet: the base itself
    assert torch.equal(output(base), untouched)
    assert shared == {name: (p.data_ptr(), p._version) for name, p in split_of(base).shared.items()}


@pytest.mark.parametrize(("network", "sharing"), PAIRS)
def test_a_delta_on_its_base_is_the_trained_network_bit_for_bit(
    network: str, sharing: str, tmp_path: Path
) -> None:
    check_round_trip(build(network), build(network), SHARINGS[sharing](), 1, tmp_path / "a.safetensors")


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    network=st.sampled_from(sorted({network for network, _ in PAIRS})),
    sharing=st.one_of(
        st.builds(
            WidthWise, st.floats(0.1, 1), st.sampled_from(["shared", "domain"]), st.sampled_from([0, 1])
        ),
        st.builds(LowRank, st.integers(1, 2)),
        st.builds(FreezeLower, st.integers(0, 3)),
    ),
    seed=st.integers(0, 2**16),
)
def test_whatever_the_options_a_delta_brings_the_network_back(
    network: str, sharing: Sharing, seed: int, tmp_path: Path
) -> None:
    try:
        sharing.apply(build(network))
    except UserError:
        reject()
    check_round_trip(build(network), build(network), sharing, seed, tmp_path / "a.safetensors")


def test_a_base_in_other_hands_is_refused_and_left_as_it_was() -> None:
    delta = delta_of(trained())
    other = build("stylegan2")
    with torch.no_grad():
        other.get_parameter("synthesis.b16.conv1.weight")[3, 9, 1, 1] += 1e-6
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(UserError, match="another base"):
        apply_delta(other, delta)
    assert "sharing" not in other.config
    after = other.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)


def test_writing_to_the_base_between_two_swaps_is_noticed() -> None:
    base, delta = build("stylegan2"), delta_of(trained())
    apply_delta(base, delta)
    with torch.no_grad():
        base.get_parameter("synthesis.b8.conv0.bias")[0] += 1e-6
    with pytest.raises(UserError, match="another base"):
        apply_delta(base, delta)


def test_swapping_survives_a_move_to_another_type_and_back() -> None:
    net = trained()
    base, delta = build("stylegan2"), delta_of(net)
    first = delta_of(trained(seed=2))
    apply_delta(base, first)
    base.double().float()  # replaces buffers by new tensors
    apply_delta(base, delta)
    assert torch.equal(output(base), output(net))


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (lambda: DCGANGenerator(32, 12, 4), "belongs to a StyleGAN2Generator, the base is a DCGANGenerator"),
        (
            lambda: StyleGAN2Generator(16, 12, 12, mapping_layers=2, channel_base=256, channel_max=8),
            "with channel_max 16, the base has 8",
        ),
    ],
)
def test_another_network_is_refused(base: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        apply_delta(base(), delta_of(trained()))  # type: ignore[operator]


def test_a_base_divided_in_another_way_is_refused() -> None:
    net = build("stylegan2")
    LowRank(1).apply(net)
    with pytest.raises(UserError, match="divided by WidthWise, the base by LowRank"):
        apply_delta(net, delta_of(trained()))


def test_an_undivided_network_has_no_delta() -> None:
    with pytest.raises(UserError, match="not divided"):
        delta_of(build("dcgan"))


def rewrite(path: Path, change: object) -> None:
    """Change the header's JSON, keep the tensors."""
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(json.loads(raw[8 : 8 + length])["__metadata__"]["gansharing"])
    change(header)  # type: ignore[operator]
    save_file(load_file(path), path, metadata={"gansharing": json.dumps(header)})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: os.truncate(p, p.stat().st_size // 2), "damaged"),
        (lambda p: os.truncate(p, 3), "damaged"),
        (lambda p: p.write_bytes(p.read_bytes()[:-9] + b"\x7f" + p.read_bytes()[-8:]), "is damaged"),
        (lambda p: p.unlink(), "no delta at"),
        (lambda p: save_network(build("dcgan"), p, "generator"), "is no delta"),
        (lambda p: rewrite(p, lambda h: h.pop("shared_hash")), "lacks shared_hash"),
        (lambda p: rewrite(p, lambda h: h.update(network=3)), "lacks a network"),
        (lambda p: rewrite(p, lambda h: h.update(version=3)), "format 3"),
        (lambda p: rewrite(p, lambda h: h.update(layout="0")), "damaged or of another version"),
        (lambda p: rewrite(p, lambda h: h["network"].pop("sharing")), "names no sharing"),
        (
            lambda p: rewrite(p, lambda h: h["network"]["sharing"].update(class_path="os.system")),
            "not a sharing",
        ),
        (lambda p: rewrite(p, lambda h: h["network"]["sharing"].update(init_args=[])), "cannot be built"),
    ],
)
def test_a_damaged_file_is_one_line(damage: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_delta(delta_of(trained()), path)
    damage(path)  # type: ignore[operator]
    base = build("stylegan2")
    with pytest.raises(UserError, match=message) as error:
        apply_delta(base, read_delta(path))
    assert "\n" not in str(error.value)
    assert "sharing" not in base.config


def test_numbers_that_do_not_fill_their_places_are_refused() -> None:
    delta = delta_of(trained())
    short = {kind: flat[:-1] for kind, flat in delta.tensors.items()}
    wrong = Delta(delta.config, delta.shared_hash, delta.layout, short)
    with pytest.raises(UserError, match="does not hold what WidthWise divides off"):
        apply_delta(build("stylegan2"), wrong)


def test_export_reads_a_divided_network_of_a_file(tmp_path: Path) -> None:
    net = trained()
    save_network(net, tmp_path / "g.safetensors", "generator")
    delta = export_delta(tmp_path / "g.safetensors", tmp_path / "a.safetensors")
    assert delta.origin["source"] == "g.safetensors"
    base = build("stylegan2")
    apply_delta(base, read_delta(tmp_path / "a.safetensors"))
    assert torch.equal(output(base), output(net))
    save_network(build("stylegan2"), tmp_path / "plain.safetensors", "generator")
    with pytest.raises(UserError, match="is not divided"):
        export_delta(tmp_path / "plain.safetensors", tmp_path / "b.safetensors")
    assert not (tmp_path / "b.safetensors").exists()


def test_the_header_of_the_largest_stylegan2_stays_small(tmp_path: Path) -> None:
    stages = [f"b{2**k}.{layer}" for k in range(3, 11) for layer in ("conv0", "conv1", "torgb")]
    with torch.device("meta"):
        net: Generator = StyleGAN2Generator(1024, channel_base=1024, channel_max=2)
    net.to_empty(device="cpu")
    LayerWise(["fc0", "fc1", "b4.conv1", "b4.torgb", *stages]).apply(net)
    delta = delta_of(net)
    save_delta(delta, tmp_path / "a.safetensors")
    numbers = sum(t.numel() * t.element_size() for t in delta.tensors.values())
    assert (tmp_path / "a.safetensors").stat().st_size - numbers <= 4096


def test_a_swap_copies_the_domain_and_hashes_nothing() -> None:
    # 2.4 M numbers of 24 M: hashing the rest takes 60 ms and more, copying 1.5 ms.
    base = StyleGAN2Generator(64).eval().requires_grad_(False)
    net = copy.deepcopy(base)
    WidthWise(0.1).apply(net)
    delta = delta_of(net)
    apply_delta(base, delta)
    times = []
    for _ in range(7):
        began = time.perf_counter()
        apply_delta(base, delta)
        times.append(time.perf_counter() - began)
    assert min(times) <= 0.005


def saved(folder: Path) -> tuple[Path, list[Network]]:
    """A base and two domains of it on disk."""
    save_network(build("stylegan2"), folder / "base.safetensors", "generator")
    torch.manual_seed(7)
    save_network(NETWORKS["stylegan2"](), folder / "other.safetensors", "generator")
    nets = [trained(seed=seed) for seed in (1, 2)]
    for name, net in zip("ab", nets, strict=True):
        save_network(net, folder / f"{name}-run.safetensors", "generator")
        done = run(
            "export", folder / f"{name}-run.safetensors", "--delta", "--out", folder / f"{name}.safetensors"
        )
        assert done.code == 0 and "delta of a generator" in done.out
    return folder / "base.safetensors", nets


def test_commands_take_deltas_out_and_show_domains_beside_each_other(tmp_path: Path) -> None:
    base, nets = saved(tmp_path)
    deltas = f"{tmp_path / 'a.safetensors'},{tmp_path / 'b.safetensors'}"
    done = run(
        "sample",
        "--base",
        base,
        "--delta",
        deltas,
        "--seeds",
        "3,5,9",
        "--out",
        tmp_path / "o",
        "--batch_size=4",
    )
    assert done.code == 0 and "rows of grid.png: a, b" in done.out
    sheet = np.asarray(Image.open(tmp_path / "o" / "grid.png")).astype(int)
    assert sheet.shape == (2 * 16 + 2, 3 * 16 + 4, 3)
    for row, (name, net) in enumerate(zip("ab", nets, strict=True)):
        for column, seed in enumerate((3, 5, 9)):
            with torch.no_grad():
                (image,) = to_uint8(net(seeded_latents(net, [seed])))  # type: ignore[arg-type]
            expected = image.permute(1, 2, 0).numpy().astype(int)
            alone = np.asarray(Image.open(tmp_path / "o" / name / f"seed{seed:07d}.png")).astype(int)
            tile = sheet[row * 18 : row * 18 + 16, column * 18 : column * 18 + 16]
            assert abs(alone - expected).max() <= 1 and (tile == alone).all()


def test_domains_of_one_file_name_have_folders_of_their_own(tmp_path: Path) -> None:
    base, _ = saved(tmp_path)
    twice = ",".join([str(tmp_path / "a.safetensors")] * 2)
    done = run("sample", "--base", base, "--delta", twice, "--seeds", "1", "--out", tmp_path / "o")
    assert done.code == 0 and "a-0, a-1" in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "a.safetensors"], "is a delta, which needs its base"),
        (["sample", "--delta", "a.safetensors"], "base"),
        (["sample", "--base", "base.safetensors"], "delta"),
        (["sample", "--base", "base.safetensors", "--delta", "base.safetensors"], "is no delta"),
        (["sample", "--base", "base.safetensors", "--delta", ","], "no delta"),
        (["sample", "--base", "other.safetensors", "--delta", "b.safetensors"], "belongs to another base"),
        (
            ["sample", "--base", "base.safetensors", "--delta", "a.safetensors", "--batch_size", "0"],
            "at least 1",
        ),
        (
            ["sample", "--base", "base.safetensors", "--delta", "a.safetensors", "--label", "0"],
            "without classes",
        ),
        (["export", "base.safetensors", "--delta"], "is not divided"),
        (["export", "a-run.safetensors", "--delta", "--format", "rosinality"], "safetensors only"),
    ],
)
def test_commands_refuse_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    done = run(*arguments)
    assert done.code == 2 and message in done.err and len(done.err.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before
