"""Images in tables: parquet files, and folders that Hugging Face ``datasets`` wrote with ``save_to_disk``."""

import json
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gansharing.data.sources.base import SPLITS, Item, Source
from gansharing.errors import UserError

_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "labels")
_ROW_GROUPS_KEPT = 4  # decoding runs in order, so a few per pool are enough


def is_table(path: Path) -> bool:
    """Whether a path is a parquet file, a folder with parquet files, or a saved ``datasets`` folder."""
    if path.is_file():
        return path.suffix.lower() == ".parquet"
    return bool(_parquet_files(path) or _arrow_files(path))


def table_source(path: Path) -> Source:
    """List the rows of parquet or Arrow files.

    The image column is ``image`` or ``img``, or the only one that holds images: encoded bytes, or a struct
    with ``bytes``. The label column is ``label`` or ``labels`` and holds integers. The split is the beginning
    of a file's name (``train-00000-of-00002.parquet``) or its folder (``train/data-00000-of-00001.arrow``).

    Raises:
        UserError: pyarrow is missing, a file cannot be read, or there is no image column.
    """
    root = path.parent if path.is_file() else path
    files = [path] if path.is_file() else _parquet_files(path) or _arrow_files(path)
    tables = {file: _open(file) for file in files}
    known = {_split_of(file, root) for file in files}
    # A lone test.parquet that the user names is what to train on.
    split_of = {file: _split_of(file, root) if "train" in known else "train" for file in files}
    items: list[Item] = []
    for file, table in tables.items():
        name = file.relative_to(root).as_posix()
        labels = table.labels()
        items += [
            Item(f"{name}/{row:09d}", labels[row] if labels else 0, split_of[file], file, row)
            for row in range(table.rows)
        ]
    if not items:
        raise UserError(f"{path} has no rows; name another file or folder")
    return Source(
        str(path),
        sorted(items, key=lambda item: item.name),
        lambda item: tables[item.container].image(item.row),
        next(iter(tables.values())).classes,
        notes=f"{len(files)} table file(s)",
    )


def _parquet_files(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")])


def _arrow_files(folder: Path) -> list[Path]:
    inside = [folder, *(folder / name for name in SPLITS)]
    return sorted(
        file for where in inside if (where / "state.json").is_file() for file in where.glob("*.arrow")
    )


def _split_of(file: Path, root: Path) -> str:
    stem = file.stem.split("-")[0] if file.suffix == ".parquet" else file.parent.name
    return SPLITS.get(stem, "train") if file.suffix == ".parquet" or file.parent != root else "train"


def _arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise UserError('tables of images need pyarrow: pip install "gansharing[parquet]"') from error
    return pyarrow


class _Table:
    """Rows of one file; groups of rows are fetched when asked for and the latest few are kept."""

    def __init__(self, file: Path, schema: Any, counts: list[int], fetch: Callable[[int, str], Any]) -> None:
        self.file, self.rows = file, sum(counts)
        self._starts = [sum(counts[:i]) for i in range(len(counts))]
        self._fetch = fetch
        self._image = _image_column(file, schema)
        self._label = next(
            (c for c in _LABEL_COLUMNS if c in schema.names and _is_integer(schema.field(c))), ""
        )
        self.classes = _class_names(schema, self._label)
        self._groups: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()

    def labels(self) -> list[int]:
        if not self._label:
            return []
        labels = [v for g in range(len(self._starts)) for v in self._fetch(g, self._label).to_pylist()]
        if any(label is None or label < 0 for label in labels):
            raise UserError(
                f"{self.file}: column {self._label} holds empty or negative labels; number classes from 0"
            )
        return labels

    def image(self, row: int) -> bytes:
        group = max(i for i, start in enumerate(self._starts) if start <= row)
        value = self._group(group)[row - self._starts[group]].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes) or not data:
            raise OSError("the row holds no encoded bytes (only a path, or nothing)")
        return data

    def _group(self, group: int) -> Any:
        with self._lock:
            if group not in self._groups:
                self._groups[group] = self._fetch(group, self._image)
                while len(self._groups) > _ROW_GROUPS_KEPT:
                    self._groups.popitem(last=False)
            return self._groups[group]


def _open(file: Path) -> _Table:
    arrow = _arrow()
    try:
        if file.suffix == ".parquet":
            reader = arrow.parquet.ParquetFile(file)
            counts = [reader.metadata.row_group(g).num_rows for g in range(reader.metadata.num_row_groups)]
            return _Table(
                file,
                reader.schema_arrow,
                counts,
                lambda g, c: reader.read_row_group(g, columns=[c]).column(c),
            )
        stream = arrow.ipc.open_stream(arrow.memory_map(str(file)))
        batches = list(stream)
        return _Table(file, stream.schema, [b.num_rows for b in batches], lambda g, c: batches[g].column(c))
    except (arrow.ArrowException, OSError) as error:
        raise UserError(
            f"{file} cannot be read as a table ({str(error).splitlines()[0]}); write it again"
        ) from error


def _image_column(file: Path, schema: Any) -> str:
    arrow = _arrow()

    def holds_images(field: Any) -> bool:
        kind = field.type
        if arrow.types.is_struct(kind):
            return kind.get_field_index("bytes") >= 0
        return bool(arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind))

    columns = [field.name for field in schema if holds_images(field)]
    for name in _IMAGE_COLUMNS:
        if name in columns:
            return name
    if len(columns) == 1:
        return str(columns[0])
    raise UserError(
        f"{file} has no column 'image' of encoded images; its columns are {', '.join(schema.names)}"
    )


def _is_integer(field: Any) -> bool:
    return bool(_arrow().types.is_integer(field.type))


def _class_names(schema: Any, label: str) -> list[str]:
    """Names that ``datasets`` keeps in the schema's metadata, [] where there are none."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
    except (KeyError, ValueError, TypeError):
        return []
    return [str(name) for name in names] if isinstance(names, list) else []
