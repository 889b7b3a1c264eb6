"""Bad input: status 2, one line that says what and where; nothing half-written, nothing executed."""

import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from PIL import Image

from tests.cli.program import TINY, Outcome, files_in, fit, run, write_images


@dataclass
class Place:
    """Where a case makes its files: ``here`` is the working directory."""

    here: Path
    images: Path
    trained: Path

    @property
    def ckpt(self) -> Path:
        return self.trained / "checkpoints" / "last.ckpt"

    def write(self, name: str, text: str) -> str:
        (self.here / name).write_text(text)
        return name

    def folder(self, **files: bytes) -> Path:
        folder = self.here / "data"
        folder.mkdir()
        for name, content in files.items():
            (folder / name.replace("_", ".")).write_bytes(content)
        return folder

    def fit(self, *more: object) -> list[object]:
        return ["fit", "--config", TINY, "--data.path", self.images, *more]

    def fit_with(self, yaml: str) -> list[object]:
        return self.fit("--config", self.write("over.yaml", yaml))


class Bomb:
    """Unpickled, it leaves a folder where the program runs."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("EXECUTED",)


def bomb(place: Place, legacy: bool = False) -> str:
    content = {"state_dict": {}, "networks": {}, "config": "{}", "callback": Bomb()}
    if legacy:
        (place.here / "bomb.ckpt").write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, place.here / "bomb.ckpt")
    return "bomb.ckpt"


def torn(place: Place) -> str:
    content = place.ckpt.read_bytes()
    (place.here / "torn.ckpt").write_bytes(content[: len(content) // 2])
    return "torn.ckpt"


def zipped(place: Place, extra: str | None = None) -> str:
    with zipfile.ZipFile(place.here / "images.zip", "w") as archive:
        for file in place.images.iterdir():
            archive.write(file, file.name)
        if extra is not None:
            archive.writestr(extra, small_image(place))
    return "images.zip"


def corrupt_zip(place: Place) -> str:
    path = place.here / zipped(place)
    path.write_bytes(path.read_bytes()[:2000])
    return path.name


def safetensors_without_header(place: Place) -> str:
    safetensors.torch.save_file({"weight": torch.zeros(2)}, place.here / "plain.safetensors")
    return "plain.safetensors"


def exported_generator(place: Place) -> str:
    assert run("export", place.ckpt, "--out", "g.safetensors").code == 0
    return "g.safetensors"


def small_image(place: Place) -> bytes:
    return (place.images / "000.png").read_bytes()


Case = tuple[Callable[[Place], list[object]], tuple[str, ...]]

CONFIG: dict[str, Case] = {
    "unknown command": (lambda p: ["fits"], ("'fits'", "'fit'")),
    "unknown option": (lambda p: p.fit("--seed_everthing=3"), ("'seed_everthing'", "'seed_everything'")),
    "unknown trainer option": (lambda p: p.fit("--trainer.max_step=3"), ("'trainer.max_steps'",)),
    "unknown section": (lambda p: p.fit("--score.num_samples=8"), ("'scores.num_samples'",)),
    "unknown model option": (
        lambda p: p.fit("--model.discriminator_step=2"),
        ("'model.discriminator_step'", "'discriminator_steps'"),
    ),
    "unknown nested option": (
        lambda p: p.fit("--model.generator.base_chanels=2"),
        ("'model.generator.base_chanels'", "'base_channels'"),
    ),
    "unknown data option": (lambda p: p.fit("--data.resolutio=32"), ("'data.resolutio'", "'resolution'")),
    "unknown callback option": (lambda p: p.fit("--scores.num_sample=8"), ("'scores.num_samples'",)),
    "shortened option": (lambda p: p.fit("--trainer.max_st=3"), ("'trainer.max_st'", "max_steps")),
    "unknown key in a file": (
        lambda p: p.fit_with("trainer: {max_step: 3}"),
        ("'trainer.max_step'", "'trainer.max_steps'", "in over.yaml"),
    ),
    "unknown section in a file": (
        lambda p: p.fit_with("trainr: {max_steps: 3}"),
        ("'trainr.max_steps'", "'trainer.max_steps'", "in over.yaml"),
    ),
    "unknown nested key in a file": (
        lambda p: p.fit_with("model: {init_args: {generator: {init_args: {base_chanels: 3}}}}"),
        ("'model.generator.base_chanels'", "'base_channels'", "in over.yaml"),
    ),
    "unknown data key in a file": (
        lambda p: p.fit_with("data: {init_args: {resolutin: 3}}"),
        ("'data.resolutin'", "'resolution'", "in over.yaml"),
    ),
    "unknown callback key in a file": (
        lambda p: p.fit_with("ema: {decays: 0.5}"),
        ("'ema.decays'", "'ema.decay'", "in over.yaml"),
    ),
    "word for a number": (
        lambda p: p.fit("--trainer.max_steps=many"),
        ("trainer.max_steps", "int", "'many'"),
    ),
    "word for a nested number": (
        lambda p: p.fit("--model.generator.resolution=big"),
        ("'model.generator.resolution'", "int", "'big'"),
    ),
    "no such choice": (lambda p: p.fit("--model.order=gg"), ("'model.order'", "'dg', 'gd'", "'gg'")),
    "no such choice of a callback": (
        lambda p: p.fit("--scores.extractor=inceptio"),
        ("scores.extractor", "'inception'", "'inceptio'"),
    ),
    "no such precision": (lambda p: p.fit("--trainer.precision=8"), ("trainer.precision", "'bf16-mixed'")),
    "option without a value": (lambda p: p.fit("--trainer.max_steps"), ("--trainer.max_steps", "argument")),
    "word without an option": (lambda p: p.fit("more"), ("more",)),
    "number for a section": (lambda p: p.fit_with("trainer: 3"), ("'trainer' is 3", "section")),
    "null for a section": (lambda p: p.fit_with("scores: null"), ("'scores' is None", "section")),
    "missing configuration": (lambda p: ["fit", "--config", "no.yaml"], ("no.yaml", "check the path")),
    "broken YAML": (lambda p: p.fit_with("model: {a: [1\n"), ("over.yaml", "line 2", "','")),
    "YAML that is a list": (lambda p: p.fit_with("- a\n- b\n"), ("over.yaml", "a list", "key: value")),
    "empty YAML": (lambda p: p.fit_with(""), ("over.yaml", "nothing")),
    "YAML that is no text": (
        lambda p: p.fit("--config", shutil.copy(p.images / "000.png", p.here / "picture.yaml")),
        ("picture.yaml", "no YAML"),
    ),
    "YAML that names code": (
        lambda p: p.fit_with("trainer: !!python/object/apply:os.mkdir [EXECUTED]"),
        ("over.yaml", "line 1", "could not determine a constructor"),
    ),
    "unknown network": (
        lambda p: p.fit("--model.generator=DCGANGenerato"),
        ("'model.generator'", "'DCGANGenerato'", "'DCGANGenerator'", "SpectralStyleGenerator"),
    ),
    "unknown network in a file": (
        lambda p: p.fit_with("model: {init_args: {generator: {class_path: DCGANGenerato}}}"),
        ("'model.generator'", "'DCGANGenerator'"),
    ),
    "network of the wrong kind": (
        lambda p: p.fit("--model.generator=DCGANDiscriminator"),
        ("'DCGANDiscriminator' is no Generator", "DCGANGenerator"),
    ),
    "class of the wrong kind": (
        lambda p: p.fit("--model.generator=torch.nn.Linear"),
        ("'torch.nn.Linear' is no Generator", "DCGANGenerator"),
    ),
    "class that is code": (
        lambda p: p.fit("--model.generator=os.mkdir", "--model.generator.path=EXECUTED"),
        ("'model.generator'", "no Generator"),
    ),
    "unknown loss": (lambda p: p.fit("--model.loss=Hing"), ("'model.loss'", "'Hinge'")),
    "unknown regulariser": (lambda p: p.fit("--model.regularizers=[R3]"), ("'model.regularizers'", "R1")),
    "unknown setup": (lambda p: p.fit("--model=Adversaria"), ("'model'", "'Adversarial'")),
    "unknown augmentation": (lambda p: p.fit("--model.augment.policy=colour"), ("'colour'", "'color'")),
    "unsupported resolution": (
        lambda p: p.fit("--model.generator.resolution=48"),
        ("resolution 48", "32, 64, 128"),
    ),
    "generator of another size": (
        lambda p: p.fit("--model.generator.resolution=64"),
        ("data.resolution is 32", "64 px", "--model.generator.resolution=32"),
    ),
    "data of another size": (
        lambda p: p.fit("--data.resolution=64"),
        ("data.resolution is 64", "32 px", "--data.resolution=32"),
    ),
    "no discriminator step": (lambda p: p.fit("--model.discriminator_steps=0"), ("discriminator_steps", "1")),
    "decay of one": (lambda p: p.fit("--ema.decay=1"), ("ema.decay", "[0, 1)")),
    "no steps between checkpoints": (
        lambda p: p.fit("--resume.every_n_steps=0"),
        ("resume.every_n_steps", "at least 1"),
    ),
    "grid without columns": (lambda p: p.fit("--grids.columns=0"), ("grids.columns", "at least 1")),
    "one sample scored": (lambda p: p.fit("--scores.num_samples=1"), ("scores.num_samples", "at least 2")),
    "no metric": (lambda p: p.fit("--scores.metrics=[]"), ("metrics", "fid, kid, is, prdc")),
    "best by a score that is not taken": (
        lambda p: p.fit("--scores.metrics=[kid]"),
        ("scores.metrics", "best.monitor"),
    ),
    "missing extractor weights": (
        lambda p: p.fit("--scores.extractor=inception", "--scores.weights=no.pth"),
        ("weights", "no.pth"),
    ),
    "extractor weights that are something else": (
        lambda p: p.fit("--scores.extractor=inception", f"--scores.weights={p.images / '000.png'}"),
        ("weights", "000.png"),
    ),
    "extractor weights that are a bomb": (
        lambda p: p.fit("--scores.extractor=inception", f"--scores.weights={bomb(p)}"),
        ("weights", "bomb.ckpt"),
    ),
    "bad seeds to predict": (lambda p: p.fit("--predictions.seeds=a-b"), ("'a-b'", "0-15")),
    "negative seed": (lambda p: p.fit("--seed_everything=-4"), ("seed_everything", "-4", "4294967295")),
    "unknown accelerator": (lambda p: p.fit("--trainer.accelerator=abacus"), ("abacus",)),
    "unknown strategy": (lambda p: p.fit("--trainer.strategy=ddpp"), ("ddpp", "ddp")),
}

DATA: dict[str, Case] = {
    "missing folder": (lambda p: p.fit("--data.path=nowhere"), ("'nowhere'", "folder", ".zip")),
    "empty folder": (lambda p: p.fit("--data.path", p.folder()), ("data", "image")),
    "folder without images": (
        lambda p: p.fit("--data.path", p.folder(notes_txt=b"hello")),
        ("data", "image"),
    ),
    "corrupt images only": (
        lambda p: p.fit("--data.path", p.folder(a_png=b"no", b_png=b"images", c_jpg=b"at all")),
        ("3 of 3", "data"),
    ),
    "too few images": (
        lambda p: p.fit("--data.batch_size=41"),
        ("40 images", "batch of 41", "batch_size to 40"),
    ),
    "one image": (
        lambda p: p.fit("--data.path", p.folder(a_png=small_image(p)), "--data.drop_last=false"),
        ("1 image", "at least 2"),
    ),
    "corrupt zip": (lambda p: p.fit("--data.path", corrupt_zip(p)), ("images.zip",)),
    "zip that climbs out": (
        lambda p: p.fit("--data.path", zipped(p, "../../evil.png")),
        ("images.zip", "../../evil.png"),
    ),
    "zip from the root": (
        lambda p: p.fit("--data.path", zipped(p, "/evil.png")),
        ("images.zip", "/evil.png"),
    ),
    "share of nothing": (lambda p: p.fit("--data.fraction=0"), ("fraction", "(0, 1]")),
    "unknown colour": (lambda p: p.fit("--data.background=blurple"), ("blurple",)),
    "data tool without data": (lambda p: ["data", "prepare", "nowhere"], ("'nowhere'",)),
}

CHECKPOINT: dict[str, Case] = {
    "missing": (lambda p: p.fit("--ckpt_path=no.ckpt"), ("no.ckpt", "RUN/checkpoints")),
    "missing to validate": (lambda p: ["validate", "--ckpt_path=no.ckpt"], ("no.ckpt",)),
    "last of no run": (
        lambda p: ["validate", "--ckpt_path=last"],
        ("--ckpt_path last", "--trainer.default_root_dir"),
    ),
    "best of a run without one": (
        lambda p: p.fit("--ckpt_path=best", "--trainer.default_root_dir=new"),
        ("new/checkpoints/best.ckpt",),
    ),
    "torn": (lambda p: p.fit("--ckpt_path", torn(p)), ("torn.ckpt", "damaged")),
    "torn to sample": (lambda p: ["sample", torn(p)], ("torn.ckpt", "damaged")),
    "empty": (lambda p: ["sample", p.write("empty.ckpt", "")], ("empty.ckpt", "damaged")),
    "text": (lambda p: ["sample", p.write("text.ckpt", "hello")], ("text.ckpt", "damaged")),
    "bomb to resume": (lambda p: p.fit("--ckpt_path", bomb(p)), ("bomb.ckpt", "never executed")),
    "bomb to validate": (lambda p: ["validate", "--ckpt_path", bomb(p)], ("bomb.ckpt", "never executed")),
    "bomb to predict": (lambda p: ["predict", "--ckpt_path", bomb(p)], ("bomb.ckpt", "never executed")),
    "bomb to sample": (lambda p: ["sample", bomb(p)], ("bomb.ckpt", "never executed")),
    "bomb to inspect": (lambda p: ["inspect", bomb(p)], ("bomb.ckpt", "never executed")),
    "bomb to export": (lambda p: ["export", bomb(p)], ("bomb.ckpt", "never executed")),
    "bomb to score": (lambda p: ["score", bomb(p), p.images], ("bomb.ckpt", "never executed")),
    "bomb to import": (lambda p: ["import", bomb(p)], ("names 'posix.mkdir'",)),
    "bare pickle to sample": (lambda p: ["sample", bomb(p, legacy=True)], ("bomb.ckpt",)),
    "bare pickle to import": (lambda p: ["import", bomb(p, legacy=True)], ("bomb.ckpt",)),
    "of another width": (
        lambda p: p.fit("--ckpt_path", p.ckpt, "--model.generator.base_channels=4"),
        ("generator", "base_channels=2 in the file", "4 here"),
    ),
    "of another class": (
        lambda p: p.fit("--ckpt_path", p.ckpt, "--model.generator=SpectralStyleGenerator"),
        ("generator", "DCGANGenerator in the file", "SpectralStyleGenerator here"),
    ),
    "of other data": (
        lambda p: p.fit("--ckpt_path", p.ckpt, "--data.fraction=0.5", "--trainer.max_steps=6"),
        ("num_images=40", "num_images=20"),
    ),
    "folder without checkpoints": (lambda p: ["sample", "."], ("no checkpoint in .", "last.ckpt")),
    "safetensors without a header": (
        lambda p: ["sample", safetensors_without_header(p)],
        ("plain.safetensors", "gansharing export"),
    ),
    "safetensors that are text": (
        lambda p: ["sample", p.write("text.safetensors", "hello")],
        ("text.safetensors", "damaged"),
    ),
    "part that the file has not": (
        lambda p: ["export", exported_generator(p), "--part=discriminator", "--out=d.safetensors"],
        ("g.safetensors", "holds a generator"),
    ),
}

TOOLS: dict[str, Case] = {
    "misspelt option": (lambda p: ["sample", p.ckpt, "--seedz=1"], ("'seedz'", "'seeds'", "--help")),
    "shortened option": (lambda p: ["sample", p.ckpt, "--see=1"], ("'see'", "'seeds'")),
    "missing argument": (lambda p: ["sample"], ("model",)),
    "one argument too many": (lambda p: ["sample", p.ckpt, "more"], ("more",)),
    "bad type": (lambda p: ["sample", p.ckpt, "--columns=wide"], ("'columns'", "int", "'wide'")),
    "bad seeds": (lambda p: ["sample", p.ckpt, "--seeds=1,b"], ("'b'", "0-15")),
    "seeds backwards": (lambda p: ["sample", p.ckpt, "--seeds=9-3"], ("9-3", "backwards")),
    "no columns": (lambda p: ["sample", p.ckpt, "--columns=0"], ("columns", "at least 1")),
    "empty batches": (lambda p: ["sample", p.ckpt, "--batch_size=0"], ("batch_size", "at least 1")),
    "file for a folder": (
        lambda p: ["sample", p.ckpt, "--out", p.write("taken", "")],
        ("cannot write taken/seed0000000.png",),
    ),
    "export below a file": (
        lambda p: ["export", p.ckpt, "--out", p.write("taken", "") + "/g.safetensors"],
        ("cannot write taken/g.safetensors",),
    ),
    "no such part": (lambda p: ["export", p.ckpt, "--part=encoder"], ("'part'", "'generator'", "'encoder'")),
    "walk from one seed": (lambda p: ["interpolate", p.ckpt, "--seeds=1"], ("two seeds", "1,7")),
    "walk without steps": (lambda p: ["interpolate", p.ckpt, "--steps=0"], ("steps", "at least 1")),
    "too many frames a second": (lambda p: ["interpolate", p.ckpt, "--fps=500"], ("fps", "1 to 50")),
    "no such format": (lambda p: ["import", p.ckpt, "--format=ssdd"], ("'format'", "'ssd'")),
    "checkpoint of the wrong project": (lambda p: ["import", p.ckpt], ("Spectral Style-DCGAN",)),
    "inspect a missing file": (lambda p: ["inspect", "no.yaml"], ("no.yaml",)),
    "inspect a broken file": (lambda p: ["inspect", p.write("b.yaml", "a: [1")], ("b.yaml", "line 1")),
    "inspect without a model": (lambda p: ["inspect", p.write("b.yaml", "a: 1")], ("b.yaml", "no model")),
    "inspect a misspelt option": (
        lambda p: ["inspect", TINY, "--over", p.write("b.yaml", "model: {init_args: {ordr: dg}}")],
        ("b.yaml", "'model.ordr'", "'order'"),
    ),
    "score nothing": (lambda p: ["score", "nowhere", p.images], ("'nowhere'",)),
    "score against nothing": (lambda p: ["score", p.images, "nowhere"], ("'nowhere'",)),
    "score one image": (
        lambda p: ["score", p.ckpt, p.images, "--num_images=1"],
        ("num_images", "at least 2"),
    ),
    "score more images than there are": (
        lambda p: ["score", p.images, p.images, "--num_images=41"],
        ("num_images is 41", "40 images"),
    ),
    "no such metric": (lambda p: ["score", p.images, p.images, "--metrics=[fidd]"], ("'fid'", "'fidd'")),
    "unknown data command": (lambda p: ["data", "lst"], ("lst", "list")),
}

ALL = {
    f"{kind}: {name}": case
    for kind, cases in {"config": CONFIG, "data": DATA, "checkpoint": CHECKPOINT, "tool": TOOLS}.items()
    for name, case in cases.items()
}


def assert_one_line(outcome: Outcome, *says: str) -> None:
    assert outcome.code == 2, outcome
    lines = outcome.err.strip().splitlines()
    assert [line for line in lines if line.startswith("gansharing: error:")] == lines[-1:], outcome.err
    assert "Traceback" not in outcome.err
    assert all(text in lines[-1] for text in says), lines[-1]


@pytest.mark.parametrize("name", ALL)
def test_bad_input(name: str, here: Path, images: Path, trained: Path) -> None:
    make, says = ALL[name]
    args = make(Place(here, images, trained))
    before = files_in(here.parent)
    outcome = run(*args)
    assert_one_line(outcome, *says)
    assert files_in(here.parent) == before


@pytest.mark.parametrize(
    "name",
    [
        "config: unknown trainer option",
        "checkpoint: bomb to sample",
    ],
)
def test_the_program_itself_prints_one_line(name: str, here: Path, images: Path, trained: Path) -> None:
    make, says = ALL[name]
    args = [str(arg) for arg in make(Place(here, images, trained))]
    done = subprocess.run([sys.executable, "-m", "gansharing", *args], capture_output=True, text=True)
    assert_one_line(Outcome(done.returncode, done.stdout, done.stderr), *says)
    assert len(done.stderr.splitlines()) == 1
    assert not (here / "EXECUTED").exists()


def test_a_run_is_not_overwritten(here: Path, images: Path) -> None:
    fit(images, "--trainer.default_root_dir=run")
    before = {path: path.read_bytes() for path in (here / "run").rglob("*") if path.is_file()}
    outcome = run("fit", "--config", TINY, "--data.path", images, "--trainer.default_root_dir=run")
    assert_one_line(outcome, "run already holds a run", "--ckpt_path last", "--trainer.default_root_dir")
    assert {path: path.read_bytes() for path in (here / "run").rglob("*") if path.is_file()} == before


def test_a_file_where_the_run_should_be(here: Path, images: Path) -> None:
    (here / "taken").write_text("mine")
    outcome = run("fit", "--config", TINY, "--data.path", images, "--trainer.default_root_dir=taken/run")
    assert_one_line(outcome, "taken/run", "--trainer.default_root_dir")
    assert (here / "taken").read_text() == "mine"


def test_the_users_folder_stays(here: Path, images: Path) -> None:
    (here / "mine").mkdir()
    (here / "mine" / "notes").write_text("keep")
    outcome = run("fit", "--config", TINY, "--data.path=nowhere", "--trainer.default_root_dir=mine")
    assert_one_line(outcome, "nowhere")
    assert (here / "mine" / "notes").read_text() == "keep"


def test_divergence_keeps_the_last_good_checkpoint(here: Path, images: Path) -> None:
    fit(images, "--trainer.default_root_dir=run", "--resume.every_n_steps=1")
    good = (here / "run/checkpoints/last.ckpt").read_bytes()
    rates = ["--model.optimizer_g.lr=1e30", "--model.optimizer_d.lr=1e30"]
    saved = torch.load(here / "run/checkpoints/last.ckpt", weights_only=True)
    for group in (group for optimizer in saved["optimizer_states"] for group in optimizer["param_groups"]):
        group["lr"] = 1e30
    torch.save(saved, here / "hot.ckpt")
    outcome = run(
        *("fit", "--config", TINY, "--data.path", images, "--trainer.default_root_dir=run", *rates),
        *("--ckpt_path=hot.ckpt", "--trainer.max_steps=9", "--resume.every_n_steps=5"),
    )
    assert_one_line(outcome, "nan", "diverged", "lower learning rate")
    assert (here / "run/checkpoints/last.ckpt").read_bytes() == good
    assert '"status": "stopped: UserError"' in (here / "run/results.json").read_text()


def test_what_is_no_users_mistake_is_raised(
    here: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A fault of the program must not be dressed up as the user's: status 1 with a traceback, as Python does.
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr("gansharing.callbacks.Grids.on_train_start", broken)
    with pytest.raises(ZeroDivisionError, match="a fault"):
        run("fit", "--config", TINY, "--data.path", images)


def test_tracebacks_on_request(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gansharing.errors import UserError

    monkeypatch.setenv("GANSHARING_TRACEBACK", "1")
    with pytest.raises(UserError, match="'fit'"):
        run("fits")


def test_unusable_files_among_good_ones_are_reported(here: Path, images: Path) -> None:
    folder = write_images(here / "mixed", 30)
    for number in range(10):
        (folder / f"bad{number}.png").write_bytes(b"not a picture")
    outcome = run("fit", "--config", TINY, "--data.path", folder)
    assert_one_line(outcome, "10 of 40")
    Image.open(folder / "000.png").close()
