"""Reports of runs, against figures worked out by hand and folders that runs leave."""

import base64
import csv
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from gansharing.errors import UserError
from gansharing.slimmable.costs import macs
from gansharing.tools.named import built
from gansharing.tools.seed_noise import cell, interval, significance
from gansharing.visual import save_png
from gansharing.visual.compared_curves import compared_curves
from tests.cli.program import fit, run, write_images

PROTOCOL = {
    **{"extractor": "lite", "extractor_fingerprint": "e1", "resize": "clean", "input_size": 112},
    **{"n_fake": 2000, "n_real": 1949, "real_fingerprint": "c1", "seed": 2020},
}
DCGAN = {
    "class_path": "gansharing.networks.DCGANGenerator",
    "init_args": {"resolution": 32, "base_channels": 4},
}

SNDCGAN = {
    "class_path": "gansharing.networks.SNDCGANGenerator",
    "init_args": {"resolution": 32, "latent_dim": 8, "channels": 64},
}


def write_run(folder: Path, fids: list[float], **more: Any) -> Path:
    """A folder as a run leaves it: FID at steps 10, 20, ...; options ``lr``, ``path``, ``seed`` and parts."""
    history = [
        {"step": 10 * n, "images": 0, "fid_lite": value, "kid_lite": value / 100}
        for n, value in enumerate(fids, 1)
    ]
    results = {
        **{"status": "finished", "steps": 10 * len(fids), "history": history, "protocol": PROTOCOL},
        **{"parameters": {"generator": 1000, "discriminator": 20}, "wall_seconds": 90, "git": "abc"},
        **{"seed": more.get("seed", 0), "device": "cpu"},
    } | more.get("results", {})
    model = {
        "generator": DCGAN,
        "optimizer_g": {"class_path": "torch.optim.Adam", "init_args": {"lr": more.get("lr", 1)}},
    }
    config = {
        "seed_everything": results["seed"],
        "model": {"class_path": "gansharing.setups.Adversarial", "init_args": model | more.get("model", {})},
        "data": {"init_args": {"path": more.get("path", "cats"), "seed": results["seed"], "batch_size": 4}},
        "trainer": {"max_steps": 20, "default_root_dir": str(folder)},
    }
    (folder / "images").mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    for name in ("real", "step_0000010", "step_0000020"):
        save_png(torch.full((3, 4, 4), len(name), dtype=torch.uint8), folder / "images" / f"{name}.png")
    return folder


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Three seeds of one method, three of a better one, on two data sets."""
    for path, shift in (("cats", 0.0), ("dogs", 50.0)):
        for seed, (a, b) in enumerate([(100.0, 60.0), (104.0, 66.0), (108.0, 60.0)]):
            write_run(tmp_path / f"{path}-slow-s{seed}", [200, a + shift], seed=seed, path=path)
            write_run(tmp_path / f"{path}-fast-s{seed}", [b + shift, 90 + shift], seed=seed, path=path, lr=2)
    return tmp_path


def ok(*args: object) -> str:
    done = run("report", *args)
    assert done.code == 0, done.err
    return done.out


def tables(text: str) -> dict[str, dict[str, dict[str, str]]]:
    """Tables of a Markdown page: by title, row and column."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for part in text.split("\n## ")[1:]:
        title, *lines = part.splitlines()
        header, _, *rows = [[c.strip() for c in line[1:-1].split(" | ")] for line in lines if line[:1] == "|"]
        found[title] = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    return found


def test_the_tables_of_two_methods_on_two_data_sets(two: Path) -> None:
    ok(two, "--out", two / "out.md")
    found = tables((two / "out.md").read_text())
    # sample deviations: of 100, 104, 108 4; of 60, 66, 60 sqrt(12)
    assert found["Best FID"] == {
        "fast": {"method": "fast", "cats": "62 ± 3.46 **best**", "dogs": "112 ± 3.46 **best**"},
        "slow": {"method": "slow", "cats": "104 ± 4", "dogs": "154 ± 4"},
    }
    row = found["cats"]["slow"]
    # Student's t for two degrees of freedom is 4.3027: 104 -+ 4.3027 * 4 / sqrt 3
    assert (row["seeds"], row["at step"], row["95 % over seeds"]) == (
        "0, 1, 2",
        "20, 20, 20",
        "94.06 – 113.9",
    )
    assert (row["KID"], row["parameters G + D"], row["min"]) == ("1.04 ± 0.04", "1,000 + 20", "1.5")
    fast = found["cats"]["fast"]
    assert (fast["at step"], fast["FID at the end"]) == ("10, 10, 10", "90 ± 0")
    network = built(DCGAN)
    assert float(row["MMACs"]) == pytest.approx(macs(network) / 1e6, rel=1e-2) and macs(network) > 0


def test_differences_within_seed_noise_are_marked(tmp_path: Path) -> None:
    for seed, (a, b) in enumerate([(100.0, 101.0), (120.0, 119.0), (110.0, 115.0)]):
        write_run(tmp_path / f"a-s{seed}", [a], seed=seed)
        write_run(tmp_path / f"b-s{seed}", [b], seed=seed, lr=2)
    write_run(tmp_path / "c-s0", [105.0], lr=3)
    write_run(tmp_path / "d-s0", [math.nan], lr=4)
    ok(tmp_path, "--out", tmp_path / "out.md")
    found = {name: row["cats"] for name, row in tables((tmp_path / "out.md").read_text())["Best FID"].items()}
    assert found == {
        "a": "110 ± 10",
        "b": "111.7 ± 9.45",
        "c": "105 (one seed) best?",
        "d": "failed",
    }
    write_run(tmp_path / "c-s1", [135.0], lr=5)  # another method, of one seed beside two with three
    more = tmp_path / "c-s1"
    ok(*(tmp_path / f"{m}-s{n}" for m in "ab" for n in range(3)), more, "--out", tmp_path / "out.md")
    found = {name: row["cats"] for name, row in tables((tmp_path / "out.md").read_text())["Best FID"].items()}
    assert found == {"a": "110 ± 10 **best**", "b": "111.7 ± 9.45 ≈ best", "c": "135 (one seed) best?"}


def test_welch_and_student_against_their_formulas() -> None:
    a, b = [100.0, 104.0, 108.0], [103.0, 111.0, 107.0, 115.0]
    means, variances = (104.0, 109.0), (16.0, 80 / 3)
    error = math.sqrt(variances[0] / 3 + variances[1] / 4)
    freedom = error**4 / ((variances[0] / 3) ** 2 / 2 + (variances[1] / 4) ** 2 / 3)
    t = (means[1] - means[0]) / error
    # The density of Student's t, summed up numerically.
    grid = torch.linspace(-t, t, 200001, dtype=torch.float64)
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
    inside = torch.trapezoid(scale * (1 + grid**2 / freedom) ** (-(freedom + 1) / 2), grid)
    assert significance(a, b) == pytest.approx(1 - float(inside), abs=1e-6)
    ends = interval(a)
    assert ends is not None
    assert ends == pytest.approx((104 - 4.302652729911275 * 4 / 3**0.5, 104 + 4.302652729911275 * 4 / 3**0.5))
    assert interval([1.0]) is None and significance([1.0], a) == 1.0
    assert cell([1.0, 2.0, 6.0]) == "3 ± 2.65"


class Page(HTMLParser):
    """Every tag with its attributes, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_holds_everything_and_asks_for_nothing(two: Path) -> None:
    (two / "cats-fast-s0").rename(two / "cats-<img src=x onerror=alert(1)>&fast-s0")
    ok(two, "--out", two / "out.html", "--title", "A & <b>B</b>")
    text = (two / "out.html").read_text()
    page = Page(text)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "b"})
    addresses = [v or "" for _, attrs in page.tags for k, v in attrs.items() if k in ("src", "href")]
    # per data set: curves, real images, two methods
    assert len(addresses) == 8 and all(a.startswith("data:image/png;base64,") for a in addresses)
    assert not re.search(r"https?:|url\(|@import", text)
    for address in addresses:
        Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).verify()
    assert "A & <b>B</b>" in page.text and "62 ± 3.46 best" in page.text
    captions = [attrs["alt"] or "" for tag, attrs in page.tags if tag == "img"]
    assert any("step 10" in caption for caption in captions)  # the grid of the best step, not of the last


def test_csv_has_a_line_a_run(two: Path) -> None:
    ok(two, "--out", two / "out.csv")
    lines = list(csv.DictReader((two / "out.csv").read_text().splitlines()))
    assert len(lines) == 12
    line = next(line for line in lines if line["run"].endswith("cats-slow-s1"))
    wanted = {
        "method": "slow",
        "data": "cats",
        "seed": "1",
        "fid": "104.0",
        "best_step": "20",
        "n_fake": "2000",
    }
    assert {key: line[key] for key in wanted} == wanted


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("extractor", "inception", "extractors differ"),
        ("resize", "legacy", "resizing differ"),
        ("n_fake", 5000, "numbers of generated images differ"),
        ("n_real", 100, "numbers of real images differ"),
        ("real_fingerprint", "c2", "real images differ"),
        ("extractor_fingerprint", "e2", "extractors' weights differ"),
    ],
)
@pytest.mark.parametrize("kind", ["html", "md", "csv"])
def test_protocols_are_not_mixed(tmp_path: Path, key: str, value: object, said: str, kind: str) -> None:
    write_run(tmp_path / "a-s0", [5.0])
    other = write_run(tmp_path / "b-s0", [4.0], results={"protocol": PROTOCOL | {key: value}})
    if key == "extractor":
        text = (other / "results.json").read_text()
        (other / "results.json").write_text(text.replace("fid_lite", "fid").replace("kid_lite", "kid"))
    done = run("report", tmp_path / "a-s0", other, "--out", tmp_path / f"out.{kind}")
    assert done.code == 2 and said in done.err and done.err.count("\n") == 1
    assert "a-s0" in done.err and "b-s0" in done.err
    assert not list(tmp_path.glob("out*"))


def test_other_data_may_have_other_counts(tmp_path: Path) -> None:
    write_run(tmp_path / "a-s0", [5.0])
    more = {"protocol": PROTOCOL | {"n_real": 7, "real_fingerprint": "c2"}}
    write_run(tmp_path / "b-s0", [4.0], path="dogs", results=more)
    ok(tmp_path, "--out", tmp_path / "out.md")
    text = (tmp_path / "out.md").read_text()
    assert tables(text).keys() == {"Best FID", "cats", "dogs"} and "against 7 or 1,949 real ones" in text


def test_widths_and_domains_are_columns(tmp_path: Path) -> None:
    history = [{"step": 10, "fid_lite": 9.0, "fid_lite/0.5": 12.0, "mic_lite": 3.0}]
    history.append({"step": 20, "fid_lite": 10.0, "fid_lite/0.5": 11.0, "mic_lite": 2.0})
    slim = {
        "class_path": "gansharing.slimmable.SlimmableGenerator",
        "init_args": {"network": SNDCGAN, "widths": [0.5, 1]},
    }
    write_run(tmp_path / "slim-s0", [], results={"history": history}, model={"generator": slim})
    history = [{"step": 10, "fid_lite": 6.0, "fid_lite/cat": 5.0, "fid_lite/dog": 7.0}]
    split = {"domain": 10, "shared": 100, "learn_ratio": 1 / 11, "delta_bytes": 44}
    more = {"history": history, "domains": ["cat", "dog"], "sharing": {"generator": split}}
    write_run(tmp_path / "many-s0", [], results=more, lr=5)
    ok(tmp_path, "--out", tmp_path / "out.md")
    found = tables((tmp_path / "out.md").read_text())
    assert found["Best FID"]["slim"] == {
        **{"method": "slim", "cats 0.5×": "11 (one seed)", "cats 1×": "9 (one seed)"},
        **{"cat": "–", "dog": "–", "mean of domains": "–"},
    }
    narrow, wide = found["cats 0.5×"]["slim"], found["cats 1×"]["slim"]
    assert (narrow["at step"], wide["at step"], wide["mIC"]) == ("20", "10", "3 (one seed)")
    assert float(narrow["MMACs"]) < float(wide["MMACs"])
    dog = found["dog"]["many"]
    assert (dog["best FID"], dog["λ_D"], dog["delta, bytes"]) == ("7 (one seed)", "9.09%", "44")
    assert dog["parameters G + D"] == "120 + 0"  # 100 shared, 10 for each of two domains


def test_methods_of_one_name_are_told_apart(tmp_path: Path) -> None:
    write_run(tmp_path / "x" / "demo-001", [5.0])
    write_run(tmp_path / "y" / "demo-001", [4.0], lr=2)
    ok(tmp_path / "x", tmp_path / "y", "--out", tmp_path / "out.md")
    assert tables((tmp_path / "out.md").read_text())["Best FID"].keys() == {"demo (lr=1)", "demo (lr=2)"}


def test_a_run_named_twice_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_run(tmp_path / "runs" / "demo-001", [5.0])
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    out = ok("runs/demo-001", folder, "runs/../runs/demo-001/", "runs", "link", "--out", "out.md")
    assert out.startswith("1 runs, 1 methods")
    row = tables(Path("out.md").read_text())["cats"]["demo"]
    assert (row["seeds"], row["best FID"]) == ("0", "5 (one seed)")


def test_the_same_seed_twice_is_no_second_seed(tmp_path: Path) -> None:
    for number, seed in enumerate((0, 1, 0), 1):
        write_run(tmp_path / f"demo-00{number}", [5.0 + number / 100], seed=seed)
    done = run("report", tmp_path, "--out", tmp_path / "out.html")
    assert done.code == 2 and done.err.count("\n") == 1 and not list(tmp_path.glob("out*"))
    for said in ("demo-001 and", "demo-003 have", "seed 0", "name one of them", "--seed_everything"):
        assert said in done.err
    ok(tmp_path / "demo-001", tmp_path / "demo-002", "--out", tmp_path / "out.md")
    assert tables((tmp_path / "out.md").read_text())["cats"]["demo"]["seeds"] == "0, 1"
    # The same seed on other data, or with other options, is another cell.
    write_run(tmp_path / "dogs-001", [5.0], path="dogs")
    write_run(tmp_path / "fast-001", [5.0], lr=2)
    ok(*(tmp_path / f"{name}-001" for name in ("demo", "dogs", "fast")), "--out", tmp_path / "out.md")


def test_a_real_run_is_read(tmp_path: Path) -> None:
    images = write_images(tmp_path / "photos", count=16)
    folder = tmp_path / "runs" / "tiny-s0"
    fit(images, "--trainer.default_root_dir", folder)
    ok(folder, "--out", tmp_path / "out.md")
    (row,) = tables((tmp_path / "out.md").read_text())["photos"].values()
    results = json.loads((folder / "results.json").read_text())
    assert row["best FID"].startswith(f"{results['best']['fid_lite']:.4g}")
    assert row["at step"] == f"{results['best']['step']:,}" and float(row["MMACs"].replace(",", "")) > 0


def test_mistakes_are_told_in_a_line(tmp_path: Path) -> None:
    good = write_run(tmp_path / "good-s0", [5.0])
    (tmp_path / "empty").mkdir()
    for name, text in (("broken", "{"), ("list", "[]"), ("foreign", "{}")):
        write_run(tmp_path / name, [5.0])
        (tmp_path / name / "results.json").write_text(text)
    (write_run(tmp_path / "bare", [5.0]) / "config.yaml").unlink()
    write_run(tmp_path / "early", [])
    torn = write_run(tmp_path / "torn-s0", [5.0]) / "images" / "step_0000010.png"
    torn.write_bytes(b"no picture")
    mistakes: list[tuple[list[object], str]] = [
        ([tmp_path / "none"], "there is no folder"),
        ([tmp_path / "empty"], "holds no results.json"),
        ([tmp_path / "broken"], "is damaged"),
        ([tmp_path / "list"], "holds no mapping"),
        ([tmp_path / "foreign"], "has no status"),
        ([tmp_path / "bare"], "config.yaml"),
        ([tmp_path / "early"], "has an FID yet"),
        ([tmp_path / "torn-s0"], "no whole PNG"),
        ([good, "--out", tmp_path / "out.pdf"], "name a file ending in .html, .md, .csv"),
    ]
    for args, said in mistakes:
        done = run("report", *args, *([] if "--out" in args else ["--out", tmp_path / "out.html"]))
        assert done.code == 2 and said in done.err and done.err.count("\n") == 1, (args, done.err)
    assert not list(tmp_path.glob("out*"))


def test_only_classes_of_the_package_are_built() -> None:
    for path in ("os.system", "gansharing.networks.base.importlib", "gansharing.files.write_atomically", "x"):
        with pytest.raises(UserError, match="no network and no sharing"):
            built({"class_path": path, "init_args": {}})
    with pytest.raises(UserError, match="cannot be built"):
        built({"class_path": "gansharing.networks.DCGANGenerator", "init_args": {"nonsense": 1}})
    assert all(p.is_meta for p in built(DCGAN).parameters())


def test_curves_are_drawn_for_any_number_of_methods() -> None:
    methods = {f"m{n}": [{0: 9.0 + n, 10: 5.0 + n}, {0: 8.0 + n}] for n in range(9)} | {"none": [{}]}
    with Image.open(io.BytesIO(compared_curves(methods, "FID"))) as picture:
        colours = picture.convert("RGB").getcolors(1 << 20)
    assert colours is not None
    assert {(0, 114, 178), (213, 94, 0)} <= {colour for _, colour in colours}
    with pytest.raises(UserError, match="nothing to draw"):
        compared_curves({"none": [{}]}, "FID")
