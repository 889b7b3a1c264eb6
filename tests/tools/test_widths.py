"""A slimmable generator in the program: its widths beside each other, what they cost, one cut out."""

import re
import timeit
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, nn

import gansharing
from gansharing.checkpoints import save_network
from gansharing.networks import DCGANGenerator, Network, SNDCGANGenerator, SNGANGenerator
from gansharing.networks.seeded import seeded_latents
from gansharing.slimmable import SlimmableGenerator, at_width
from gansharing.visual import to_uint8
from tests.cli.program import files_in, run
from tests.tools.test_styles import near, ok, read, tiles

WIDTHS = [0.25, 0.5, 0.75, 1.0]


def disturbed(network: Network) -> Network:
    """Statistics of batch norm that tell widths and latents apart."""
    source = torch.Generator().manual_seed(1)
    for name, buffer in network.named_buffers():
        if "running" in name:
            buffer.copy_(0.1 * torch.rand(buffer.shape, generator=source))
    return network.eval()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    networks: dict[str, Network] = {
        "slim": SlimmableGenerator(SNDCGANGenerator(32, 8, channels=64), WIDTHS),
        "classes": SlimmableGenerator(SNGANGenerator(32, 8, 3, channels=16), [0.5, 1]),
        "plain": DCGANGenerator(resolution=32, latent_dim=8, base_channels=2),
    }
    for name, network in networks.items():
        save_network(disturbed(network), folder / f"{name}.safetensors", "generator")
    return folder


def images(model: Path, seeds: list[int], width: float, label: int | None = None) -> Tensor:
    network = gansharing.load(model)
    assert isinstance(network, SlimmableGenerator)
    labels = None if label is None else torch.full((len(seeds),), label)
    with at_width(width):
        return to_uint8(network(seeded_latents(network, seeds), labels))


def test_sample_writes_the_consistency_grid(models: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = ok(
        *("sample", models / "slim.safetensors", "--width", "0.25,0.5,0.75,1.0"),
        *("--seeds", "3-7", "--out", out, "--batch_size", "2"),
    )
    assert "rows of grid.png: 0.25, 0.5, 0.75, 1" in " ".join(said.split())
    sheet = tiles(out / "grid.png")
    assert len(sheet) == 4 and all(len(row) == 5 for row in sheet)
    for row, width in zip(sheet, WIDTHS, strict=True):
        expected = images(models / "slim.safetensors", [3, 4, 5, 6, 7], width)
        for number, tile in enumerate(row):
            assert near(tile, expected[number])
            assert torch.equal(tile, read(out / f"width{width:g}" / f"seed{3 + number:07d}.png"))
    assert not near(sheet[0][0], sheet[3][0]) and not near(sheet[0][0], sheet[0][1])


def test_sample_at_one_width(models: Path, tmp_path: Path) -> None:
    ok(
        *("sample", models / "classes.safetensors", "--width", "0.5", "--label", "2"),
        *("--seeds", "0,9", "--out", tmp_path / "out"),
    )
    assert files_in(tmp_path / "out") == {"grid.png", "seed0000000.png", "seed0000009.png"}
    expected = images(models / "classes.safetensors", [0, 9], 0.5, 2)
    assert near(read(tmp_path / "out" / "seed0000009.png"), expected[1])


@pytest.mark.parametrize("width", [0.25, 1.0])
def test_export_cuts_an_ordinary_network_out(models: Path, tmp_path: Path, width: float) -> None:
    source, out = models / "slim.safetensors", tmp_path / "cut.safetensors"
    ok("export", source, "--width", width, "--out", out)
    cut, slim = gansharing.load(out), gansharing.load(source)
    assert type(cut) is SNDCGANGenerator and cut.config["init_args"]["channels"] == 64 * width
    assert not [m for m in cut.modules() if type(m).__module__.startswith("gansharing.slimmable")]
    latent = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    with at_width(width):
        torch.testing.assert_close(cut(latent), slim(latent), rtol=0, atol=1e-6)


def test_export_cuts_a_graph_out(models: Path, tmp_path: Path) -> None:
    source, out = models / "classes.safetensors", tmp_path / "cut.pt2"
    ok("export", source, "--width", "0.5", "--format", "torch-export", "--out", out)
    latent, labels = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 2, 1])
    found = torch.export.load(out).module()(latent, labels)
    with at_width(0.5):
        torch.testing.assert_close(found, gansharing.load(source)(latent, labels), rtol=0, atol=1e-5)


def config(path: Path, network: dict[str, object], **slimmable: object) -> Path:
    generator = {"class_path": "gansharing.slimmable.SlimmableGenerator"}
    discriminator = {
        "class_path": "gansharing.slimmable.PerWidthDiscriminator",
        "init_args": {
            "network": {"class_path": "gansharing.networks.SNGANDiscriminator", "init_args": network},
            "n_share": 2,
        },
    }
    inside = {"class_path": "gansharing.networks.SNGANGenerator", "init_args": network}
    model = {
        "class_path": "gansharing.setups.Adversarial",
        "init_args": {
            "generator": {**generator, "init_args": {"network": inside, **slimmable}},
            "discriminator": discriminator,
        },
    }
    path.write_text(yaml.safe_dump({"model": model}))
    return path


def rows(said: str) -> dict[str, list[str]]:
    """The numbers of every row of the tables, by the row's first word."""
    found: dict[str, list[str]] = {}
    for line in said.splitlines():
        words = re.findall(r"[\w.,]+", line)
        if len(words) > 1:
            found.setdefault(words[0], words[1:])
    return found


def test_inspect_counts_as_the_original(tmp_path: Path) -> None:
    found = rows(ok("inspect", config(tmp_path / "sngan.yaml", {"resolution": 32})))
    assert found["total"][0] == "4,282,115"
    assert [found[width] for width in ("0.25", "0.5", "0.75", "1")] == [
        ["368,771", "368,771", "106.5"],
        ["1,204,483", "1,204,483", "422.2"],
        ["2,507,139", "2,507,139", "947.1"],
        ["4,276,739", "4,276,739", "1,681.1"],
    ]


@pytest.mark.parametrize(
    ("classes", "conditional", "total", "judge"),
    [
        (10, "sliceable", "4,312,835", "2,830,340"),
        (100, "sliceable", "4,589,315", "2,876,420"),
        (10, "naive", "4,351,235", "2,830,340"),
        (100, "naive", "5,042,435", "2,876,420"),
    ],
)
def test_inspect_counts_networks_with_classes(
    tmp_path: Path, classes: int, conditional: str, total: str, judge: str
) -> None:
    network: dict[str, object] = {"resolution": 32, "num_classes": classes}
    said = ok("inspect", config(tmp_path / "cgan.yaml", network, conditional=conditional))
    totals = re.findall(r"total\W+([\d,]+)", said)
    assert totals == [total, judge]


def test_inspect_measures_every_width(models: Path) -> None:
    said = ok("inspect", models / "classes.safetensors", "--latency")
    times = [[float(ms) for ms in rows(said)[width][-2:]] for width in ("0.5", "1")]
    assert "thread" in said and all(ms > 0 for pair in times for ms in pair)


def test_mistakes_are_told_in_a_line(models: Path, tmp_path: Path) -> None:
    slim, plain, out = models / "slim.safetensors", models / "plain.safetensors", tmp_path / "out"
    mistakes: list[tuple[tuple[object, ...], str]] = [
        (("sample", slim, "--width", "0.3,1"), "no width 0.3"),
        (("sample", slim, "--width", "half"), "no list of numbers"),
        (("sample", slim, "--width", "2"), "not a share"),
        (("sample", plain, "--width", "0.5"), "one width only"),
        (("export", slim, "--width", "0.3"), "no width 0.3"),
        (("export", plain, "--width", "0.5"), "one width only"),
        (("export", slim, "--width", "0.5", "--delta"), "leave --width"),
        (("export", slim, "--width", "half"), "width"),
    ]
    for args, said in mistakes:
        done = run(*args, "--out", out)
        assert done.code == 2 and said in done.err, done.err
        assert done.err.count("\n") == 1
    assert not out.exists()
    done = run("inspect", plain, "--latency")
    assert done.code == 2 and "no widths to time" in done.err


def test_a_switch_of_width_needs_no_memory_and_no_time(models: Path) -> None:
    slim = gansharing.load(models / "slim.safetensors")
    held = {p.untyped_storage().data_ptr() for p in [*slim.parameters(), *slim.buffers()]}
    weights = [m for m in slim.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]
    with torch.profiler.profile(
        profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]
    ) as seen:
        for width in WIDTHS:
            with at_width(width):
                used = [part for module in weights for part in (module.weight, module.bias)]
                assert all(part.untyped_storage().data_ptr() in held for part in used)
    assert not [event for event in seen.events() if event.self_cpu_memory_usage]
    switches = "with at_width(0.25): pass\nwith at_width(1): pass"
    assert min(timeit.repeat(switches, globals={"at_width": at_width}, number=100)) / 200 < 1e-3
