"""Parquet files and saved Hugging Face data sets, written with pyarrow as ``datasets`` writes them."""

import builtins
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gansharing.data import open_source
from gansharing.errors import UserError
from tests.data.helpers import png

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def table(seeds: list[int], labels: list[int] | None = None, names: list[str] | None = None) -> pa.Table:
    rows: dict[str, Any] = {"image": pa.array([{"bytes": png(s), "path": f"{s}.png"} for s in seeds], IMAGE)}
    if labels is not None:
        rows["label"] = pa.array(labels, pa.int64())
    whole = pa.table(rows)
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
    return whole.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def write_arrow(folder: Path, content: pa.Table, shards: int = 1) -> None:
    """What ``Dataset.save_to_disk`` leaves: stream files beside state.json and dataset_info.json."""
    folder.mkdir(parents=True)
    files = [f"data-{i:05}-of-{shards:05}.arrow" for i in range(shards)]
    for number, name in enumerate(files):
        part = content.slice(number * len(content) // shards, len(content) // shards)
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, part.schema) as stream:
            stream.write_table(part, max_chunksize=2)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in files]}))
    (folder / "dataset_info.json").write_text("{}")


def content(path: Path, split: str = "train") -> list[tuple[bytes, int]]:
    source = open_source(path).take(split)
    return [(source.read(item), item.label) for item in source.items]


def test_a_parquet_file_with_labels_and_class_names(tmp_path: Path) -> None:
    pq.write_table(table([3, 1, 2], [1, 0, 1], ["cat", "dog"]), tmp_path / "x.parquet", row_group_size=2)
    assert content(tmp_path / "x.parquet") == [(png(3), 1), (png(1), 0), (png(2), 1)]
    assert open_source(tmp_path / "x.parquet").classes == ["cat", "dog"]


def test_plain_bytes_without_labels_under_any_name(tmp_path: Path) -> None:
    pq.write_table(pa.table({"picture": pa.array([png(0), png(1)], pa.binary())}), tmp_path / "x.parquet")
    assert content(tmp_path / "x.parquet") == [(png(0), 0), (png(1), 0)]


def test_a_folder_of_parquet_files_has_the_splits_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name, seeds in {
        "train-00000-of-00002": [0, 1],
        "train-00001-of-00002": [2],
        "validation": [9],
    }.items():
        pq.write_table(table(seeds), tmp_path / "data" / f"{name}.parquet")
    assert content(tmp_path) == [(png(0), 0), (png(1), 0), (png(2), 0)]
    assert content(tmp_path, "val") == [(png(9), 0)]


def test_a_lone_file_is_trained_on_whatever_its_name(tmp_path: Path) -> None:
    pq.write_table(table([4]), tmp_path / "test.parquet")
    assert content(tmp_path / "test.parquet") == [(png(4), 0)]


def test_a_saved_data_set_in_shards(tmp_path: Path) -> None:
    write_arrow(tmp_path / "set", table(list(range(6)), [0, 1, 2, 0, 1, 2], ["a", "b", "c"]), shards=2)
    assert content(tmp_path / "set") == [(png(i), i % 3) for i in range(6)]
    assert open_source(tmp_path / "set").classes == ["a", "b", "c"]


def test_a_saved_dictionary_of_splits(tmp_path: Path) -> None:
    write_arrow(tmp_path / "set" / "train", table([0, 1]))
    write_arrow(tmp_path / "set" / "test", table([2]))
    (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert content(tmp_path / "set") == [(png(0), 0), (png(1), 0)]
    assert content(tmp_path / "set", "test") == [(png(2), 0)]


def test_rows_without_bytes_are_unreadable_not_dropped(tmp_path: Path) -> None:
    rows = pa.array([{"bytes": None, "path": "/etc/passwd"}, {"bytes": png(0), "path": None}], IMAGE)
    pq.write_table(pa.table({"image": rows}), tmp_path / "x.parquet")
    source = open_source(tmp_path / "x.parquet")
    assert len(source.items) == 2
    with pytest.raises(OSError, match="no encoded bytes"):
        source.read(source.items[0])


@pytest.mark.parametrize(
    ("columns", "fault"),
    [
        ({"text": pa.array(["a"])}, "no column 'image'"),
        ({"a": pa.array([b"x"]), "b": pa.array([b"y"])}, "no column 'image'"),
        ({"image": pa.array([b"x"]), "label": pa.array([-1])}, "negative labels"),
        ({"image": pa.array([], pa.binary())}, "no rows"),
    ],
)
def test_tables_without_usable_columns_are_refused(
    tmp_path: Path, columns: dict[str, Any], fault: str
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    with pytest.raises(UserError, match=fault):
        open_source(tmp_path / "x.parquet")


@pytest.mark.parametrize("data", [b"", b"PAR1 but no more", b"PAR1" + bytes(100) + b"PAR1"])
def test_a_broken_parquet_file_is_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.parquet").write_bytes(data)
    with pytest.raises(UserError, match="cannot be read as a table") as error:
        open_source(tmp_path / "x.parquet")
    assert "\n" not in str(error.value)


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(table([0]), tmp_path / "x.parquet")
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r'pip install "gansharing\[parquet\]"'):
        open_source(tmp_path / "x.parquet")
