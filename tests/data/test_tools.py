"""``gansharing data`` through the real program."""

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from gansharing.cli import main
from gansharing.data import emoji
from gansharing.data.known import KNOWN
from gansharing.errors import UserError
from tests.data.helpers import encoded, fill, noise


def test_list_names_each_set_with_licence_and_source(capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "list"])
    printed = capsys.readouterr().out
    assert all(part in printed for data in KNOWN for part in (data.name, data.licence, data.get))


def test_prepare_prints_the_report_of_each_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = fill(tmp_path, ["train/0.png", "train/1.png", "val/2.png"])
    main(["data", "prepare", str(root), "--resolution", "8", "--crop", "center"])
    printed = capsys.readouterr().out
    for line in ("split: train", "images used: 2 of 2", "split: val", "images used: 1 of 1", "crop center"):
        assert line in printed
    reports = [line.removeprefix("report: ") for line in printed.splitlines() if line.startswith("report: ")]
    assert len(reports) == 2 and all(Path(report).is_file() for report in reports)


@pytest.mark.parametrize(
    "arguments", [["prepare", "nowhere"], ["emoji4", "--packages", "nowhere"], ["prepare"]]
)
def test_bad_input_is_one_line_and_leaves_nothing(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["data", *arguments])
    assert stop.value.code not in (0, None)
    errors = capsys.readouterr().err
    assert "Traceback" not in errors and "error: " in errors and os.listdir(tmp_path) == []


STEMS = ["1f600", "1f44d-1f3fd", "2764-fe0f", "0023-fe0f-20e3", "not-an-emoji"]


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Packages of the same layout with a few pictures, and members that must not be touched."""
    folder = tmp_path / "packages"
    folder.mkdir()
    for domain, where, kind in (
        ("noto", "img/google/64/{}.png", "PNG"),
        ("fluent", "assets/{}.webp", "WEBP"),
    ):
        file = folder / emoji.PACKAGES[domain].file
        with tarfile.open(file, "w:gz") as archive:
            for number, stem in enumerate([*STEMS, "../../../1f601"]):
                data = encoded(noise(number, 64), kind)
                info = tarfile.TarInfo("package/" + where.format(stem))
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            link = tarfile.TarInfo("package/" + where.format("1f602"))
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
        fields = vars(emoji.PACKAGES[domain]) | {"sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        monkeypatch.setitem(emoji.PACKAGES, domain, emoji.Package(**fields))
    return folder


def test_emoji4_writes_the_shared_emoji_of_four_styles(tmp_path: Path, packages: Path) -> None:
    out = tmp_path / "out"
    main(["data", "emoji4", "--out", str(out), "--resolution", "32", "--packages", str(packages)])
    for style in ("noto", "twemoji", "fluent", "openmoji"):
        assert sorted(os.listdir(out / style)) == ["1f44d-1f3fd.png", "1f600.png", "23-20e3.png", "2764.png"]
        with Image.open(out / style / "1f600.png") as image:
            assert image.size == (32, 32)
    licences = (out / "LICENSES.txt").read_text()
    assert all(
        word in licences for word in ("Apache-2.0", "CC-BY 4.0", "MIT", "CC BY-SA 4.0", "resized to 32 px")
    )
    assert sorted(os.listdir(tmp_path)) == ["out", "packages"]
    with pytest.raises(UserError, match="there already"):
        emoji.write_emoji4(out, 32, packages, skin_tones=True)
    assert emoji.write_emoji4(tmp_path / "plain", 32, packages, skin_tones=False) == 3


def test_emoji4_refuses_a_package_that_is_not_the_known_one(tmp_path: Path, packages: Path) -> None:
    file = packages / emoji.PACKAGES["noto"].file
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(UserError, match="is not emoji-datasource-google 16.0.0"):
        emoji.write_emoji4(tmp_path / "out", 32, packages, skin_tones=True)
    assert sorted(os.listdir(tmp_path)) == ["packages"]


def test_without_npm_the_way_round_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="npm pack .* --packages"):
        emoji.write_emoji4(tmp_path / "out", 32, None, skin_tones=True)
    assert os.listdir(tmp_path) == []
