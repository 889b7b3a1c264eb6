"""`make reproduce`: every table names files that exist, and full scale says what it needs or trains."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from subprocess import CalledProcessError
from types import ModuleType

import pytest
import yaml

from gansharing.errors import UserError
from tests.cli.program import run, write_images
from tests.support import experiment

HERE = Path(__file__).parents[1] / "experiments"


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with experiment("reproduce") as module:
        yield module


def test_every_table_is_made_of_files_that_exist(script: ModuleType) -> None:
    for table in script.TABLES.values():
        assert (HERE / table.mini[0]).is_file()
        for files in table.files.values():
            for data in table.data:
                assert all((HERE / f"{file.format(data=data)}.yaml").is_file() for file in files)


@pytest.mark.timeout(400)
def test_every_full_run_fits_the_program(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, tuple[list[Path], list[str]]] = {}

    def note(files: list[Path], seed: int, run: Path, options: list[str], threads: int) -> None:
        asked[run.name] = files, options

    monkeypatch.setattr(script, "train", note)
    monkeypatch.setattr(script, "report", lambda *_: None)
    for name, table in script.TABLES.items():
        # One set of data stands for those that are trained on alike.
        sets = table.data if table.together or "{data}" in str(table.files) else table.data[:1]
        script.full(name, {key: "here" for key in (*sets, *table.needs)}, tmp_path, tmp_path, [], [0])
    parsed = {}
    for name, (files, options) in asked.items():
        words = [word for file in files for word in ("--config", file)]
        done = run("fit", *words, *options, "--print_config")
        assert done.code == 0, f"{name}: {done.err}"
        parsed[name] = yaml.safe_load(done.out)
    channels = {
        name.removesuffix("-cifar10-s0"): [
            parsed[name]["model"]["init_args"][part]["init_args"]["channels"]
            for part in ("generator", "discriminator")
        ]
        for name in parsed
        if name.startswith("individual")
    }
    assert channels == {
        "individual-0.25": [128, 128], "individual-0.5": [256, 256], "individual-0.75": [384, 384],
        "individual-1": [512, 512], "individual_f-0.25": [128, 512], "individual_f-0.5": [256, 512],
        "individual_f-0.75": [384, 512],
    }  # fmt: skip
    table_2 = [config["data"]["init_args"] for name, config in parsed.items() if name.endswith("-all-s0")]
    assert len(table_2) == 5 and {(data["resolution"], data["crop"]) for data in table_2} == {(256, "center")}
    assert "stylegan2-animal_face_dog-s0" in parsed


def test_every_paper_is_reproduced(script: ModuleType) -> None:
    papers = {name.rpartition("-")[0] for name in script.TABLES}
    assert papers == {"width_wise", "adafm", "fastgan", "slimgan", "spectral_style"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"table": "fastgan"}, "fastgan-2"),
        ({"scale": "full"}, "TABLE="),
        ({"table": "fastgan-2", "scale": "full"}, "obama=FOLDER"),
        ({"table": "fastgan-2", "scale": "full", "paths": "dogs=here"}, "animal_face_dog=FOLDER"),
        (
            {"table": "width_wise-2", "scale": "full", "paths": "church=here"},
            "celeba_hq=FOLDER church=FOLDER",
        ),
        ({"table": "width_wise-1", "scale": "full", "paths": "church=here"}, "source=FILE"),
    ],
)
def test_what_is_missing_is_said(script: ModuleType, options: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        script.main(**options)


@pytest.mark.timeout(400)
def test_one_that_fails_does_not_keep_the_others_from_running(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        script.main(options="--no_such_option 1", runs=tmp_path, results=tmp_path, at_once=2)
    assert str(error.value).count("goes on where it did") == len(script.TABLES)


@pytest.mark.timeout(400)
def test_a_run_that_fails_says_why_in_its_log(script: ModuleType, tmp_path: Path) -> None:
    options = ["--trainer.no_such_option", "1"]
    with pytest.raises(CalledProcessError):
        script.train([HERE / "demo.yaml"], 0, tmp_path / "run", options, 1)
    assert "no_such_option" in (tmp_path / "run" / "output.log").read_text()


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A configuration of one step on eight images, and these."""
    sizes = {"resolution": 32, "base_channels": 2}
    config = {
        "trainer": {"max_steps": 1, "max_epochs": None, "val_check_interval": 1, "accelerator": "cpu"},
        "model": {"init_args": {"generator": {"class_path": "DCGANGenerator", "init_args": sizes}}},
        "data": {"init_args": {"path": str(tmp_path / "images"), "resolution": 32, "batch_size": 4}},
        "scores": {"num_samples": 8, "untrained": False},
    }
    config["trainer"] |= {"check_val_every_n_epoch": None, "log_every_n_steps": 1}
    config["model"]["init_args"]["discriminator"] = {"class_path": "DCGANDiscriminator", "init_args": sizes}
    write_images(tmp_path / "images", count=8)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(config))
    return tmp_path / "small.yaml"


@pytest.mark.timeout(400)
def test_a_miniature_is_the_papers_script(script: ModuleType, small: Path, tmp_path: Path) -> None:
    options = ["--configs", f"[{small}]", "--seeds", "[0]", "--options", "--data.crop none"]
    options += ["--scores", "[fid_lite]"]
    script.miniature("spectral_style-1", tmp_path / "runs", tmp_path / "results", options)
    text = (tmp_path / "results/spectral_style.md").read_text()
    assert text.startswith("| configuration | fid_lite") and "| small |" in text
    assert json.loads((tmp_path / "runs/spectral_style/small-s0/results.json").read_text())["steps"] == 1


@pytest.mark.timeout(400)
def test_full_scale_trains_keeps_and_reports(
    script: ModuleType, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = script.Table(["compare.py"], {"small": [str(small.with_suffix(""))]}, ["images", "others"])
    monkeypatch.setitem(script.TABLES, "own-1", table)
    paths = {"images": str(tmp_path / "images")}
    for _ in range(2):  # the second time nothing is left to train
        script.full("own-1", paths, tmp_path / "runs", tmp_path / "results", [], [0])
    run = tmp_path / "runs/own-1-full/small-images-s0"
    assert json.loads((run / "results.json").read_text())["status"] == "finished"
    assert len(list((run / "csv").iterdir())) == 1
    assert "own-1, as published" in (tmp_path / "results/own-1-full.md").read_text()
    with pytest.raises(UserError, match="no option 'model.loss.colour'"):
        script.full("own-1", paths, tmp_path / "runs", tmp_path, ["--model.loss.colour=red"], [1])


def test_make_hands_over_what_is_asked(tmp_path: Path) -> None:
    plan = subprocess.run(
        ["make", "-n", "reproduce", "TABLE=fastgan-2", "SCALE=full", "PATHS=obama=/data/o", "OPTIONS=--x 1"],
        cwd=HERE.parent, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert "experiments/reproduce.py --table 'fastgan-2' --scale 'full'" in plan
    assert "--paths 'obama=/data/o' --options '--x 1'" in plan
