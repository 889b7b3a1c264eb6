"""Each layout and container that users have, and those that somebody prepared to do harm."""

import json
import os
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest

from gansharing.data import Source, open_source
from gansharing.errors import UserError
from tests.data.helpers import fill, pack, png


def labels(source: Source) -> dict[str, int]:
    return {item.name: item.label for item in source.items}


def test_a_flat_folder_is_sorted_and_counts_what_is_no_image(tmp_path: Path) -> None:
    fill(tmp_path, ["b.png", "a.JPG", "c.webp", "d.TIFF"])
    for other in ("notes.txt", ".DS_Store", "._a.png", ".thumbs/x.png", "__MACOSX/y.png"):
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).write_bytes(b"x")
    source = open_source(tmp_path)
    assert [item.name for item in source.items] == ["a.JPG", "b.png", "c.webp", "d.TIFF"]
    assert set(labels(source).values()) == {0} and source.classes == [] and source.ignored == 5
    assert source.read(source.items[1]) == png(0)


def test_sub_folders_are_classes_numbered_in_sorted_order(tmp_path: Path) -> None:
    source = open_source(fill(tmp_path, ["wild/0.png", "cat/b/1.png", "cat/0.png", "dog/0.png"]))
    assert source.classes == ["cat", "dog", "wild"]
    assert labels(source) == {"cat/0.png": 0, "cat/b/1.png": 0, "dog/0.png": 1, "wild/0.png": 2}


@pytest.mark.parametrize("held", ["val", "valid", "validation", "test"])
def test_train_and_held_out_folders_are_splits_with_the_same_labels(tmp_path: Path, held: str) -> None:
    source = open_source(
        fill(tmp_path, ["train/a/0.png", "train/c/0.png", f"{held}/b/0.png", f"{held}/c/1.png"])
    )
    name = "test" if held == "test" else "val"
    assert source.splits == sorted(["train", name]) and source.classes == ["a", "b", "c"]
    assert labels(source.take(name)) == {f"{held}/b/0.png": 1, f"{held}/c/1.png": 2}
    assert open_source(fill(tmp_path / "flat", ["train/0.png", f"{held}/0.png"])).classes == []


def test_images_beside_folders_are_all_taken_without_labels(tmp_path: Path) -> None:
    source = open_source(fill(tmp_path, ["0.png", "more/1.png"]))
    assert labels(source) == {"0.png": 0, "more/1.png": 0} and "beside sub-folders" in source.notes


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", ["0.png"])
    fill(tmp_path / "root", ["dog/0.png"])
    (tmp_path / "root" / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "dog" / "loop").symlink_to(tmp_path / "root")
    assert [item.name for item in open_source(tmp_path / "root").items] == ["cat/0.png", "dog/0.png"]


def test_zips_have_the_same_layouts(tmp_path: Path) -> None:
    names = ["dog/0.png", "cat/0.png", "cat/1.png"]
    inside = pack(tmp_path / "x.zip", {name: png(i) for i, name in enumerate(names)} | {"LICENCE": b"text"})
    source = open_source(inside)
    assert labels(source) == {"cat/0.png": 0, "cat/1.png": 0, "dog/0.png": 1}
    assert source.ignored == 1 and source.read(source.items[2]) == png(0)


@pytest.mark.parametrize("container", ["zip", "folder"])
def test_stylegans_labels_are_read(tmp_path: Path, container: str) -> None:
    names = ["00000/img0.png", "00000/img1.png", "00001/img2.png"]
    listed = {name: number for name, number in zip(names, (7, 0, 3), strict=True)}
    text = json.dumps({"labels": [[name, label] for name, label in listed.items()]}).encode()
    if container == "zip":
        path = pack(tmp_path / "x.zip", {name: png(0) for name in names} | {"dataset.json": text})
    else:
        path = fill(tmp_path, names)
        (path / "dataset.json").write_bytes(text)
    assert labels(open_source(path)) == listed


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ('{"labels": [["0.png", 1]', "no JSON"),
        ("[1, 2]", "must hold"),
        ('{"labels": {"0.png": 1}}', "must hold"),
        ('{"labels": [["0.png", -1]]}', "class number"),
        ('{"labels": [["0.png", [0, 1]]]}', "class number"),
        ('{"labels": [["0.png", true]]}', "class number"),
        ('{"labels": [["0.png", 1e99]]}', "class number"),
        ('{"labels": [["1.png", 1]]}', "no label for 0.png"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_broken_labels_are_refused_in_one_line(tmp_path: Path, content: str, fault: str) -> None:
    path = pack(tmp_path / "x.zip", {"0.png": png(0), "dataset.json": content.encode()})
    with pytest.raises(UserError, match=fault) as error:
        open_source(path)
    assert "\n" not in str(error.value)


def test_null_labels_mean_none(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.zip", {"00000/0.png": png(0), "dataset.json": b'{"labels": null}'})
    assert open_source(path).classes == [] and labels(open_source(path)) == {"00000/0.png": 0}


def _link(path: Path) -> None:
    info = zipfile.ZipInfo("0.png")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, "/etc/passwd")


def _bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.bmp", bytes(5 << 20))


def _many_small_bombs(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(8):
            archive.writestr(f"{number}.bmp", bytes(900_000))


def _encrypted(path: Path) -> None:
    pack(path, {"0.png": png(0)})
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + offset] |= 1
    path.write_bytes(data)


def _twice(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("0.png", png(0))
        archive.writestr("0.png", png(1))


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda path: pack(path, {"../0.png": png(0)}), "climbs out"),
        (lambda path: pack(path, {"a/../../0.png": png(0)}), "climbs out"),
        (lambda path: pack(path, {"..\\0.png": png(0)}), "climbs out"),
        (lambda path: pack(path, {"/etc/0.png": png(0)}), "absolute"),
        (lambda path: pack(path, {"C:/0.png": png(0)}), "absolute"),
        (_link, "is a link"),
        (_bomb, "times its size"),
        (_many_small_bombs, "would unpack to"),
        (_encrypted, "encrypted"),
        (_twice, "twice"),
        (lambda path: pack(path, {"readme.txt": b"x"}), "no images"),
        (lambda path: path.write_bytes(b"PK\x03\x04 and then nothing"), "as a zip"),
        (lambda path: path.write_bytes(b""), "as a zip"),
    ],
)
def test_hostile_zips_are_refused_in_one_line(tmp_path: Path, make: Any, fault: str) -> None:
    path = tmp_path / "x.zip"
    make(path)
    with pytest.raises(UserError, match=fault) as error:
        open_source(path)
    assert "\n" not in str(error.value) and sorted(os.listdir(tmp_path)) == ["x.zip"]


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        ("twemojis", "did you mean twemoji"),
        ("nowhere/at/all", "name a folder"),
        ("file.rar", "put the images"),
    ],
)
def test_a_path_that_is_nothing_is_refused(
    tmp_path: Path, path: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.rar").write_bytes(b"x")
    with pytest.raises(UserError, match=remedy):
        open_source(path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no images"):
        open_source(tmp_path)


def test_a_split_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no 'val' split; it has train"):
        open_source(fill(tmp_path, ["0.png"])).take("val")
