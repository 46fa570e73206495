"""Data sets of Hugging Face: parquet files with the images, and folders of `save_to_disk`."""

import io
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NotRequired

import pyarrow as pa
from PIL import Image
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from clipshift.core.errors import ClipshiftError
from clipshift.core.parquet import parquet_file, read_rows, schema_of
from clipshift.core.readable import reading
from clipshift.datasets.formats import tables
from clipshift.datasets.formats.base import FIELDS, KEY_OF_UNIT, Dataset, Unit
from clipshift.datasets.formats.class_labels import class_labels
from clipshift.datasets.formats.json_files import parse
from clipshift.datasets.formats.table import locate
from clipshift.datasets.formats.tar_samples import fields_of
from clipshift.datasets.images import FORMATS
from clipshift.datasets.listing import kind_of, natural, walk
from clipshift.datasets.records import Place, Record, Rejected, printable

SUFFIXES = (".parquet", ".arrow")
IMAGES = 64  # rows of images in memory at a time
HEAD = 20  # rows in which a column of bytes is looked at
# Files that describe the data set.
DESCRIPTIONS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
# Of several columns of one kind, the first of these.
PREFERRED = {
    "image": ("image", "img", "jpg", "webp", "png"),
    "label": ("label", "labels", "fine_label"),
}


class Filed(TypedDict):
    """A file that `state.json` lists."""

    filename: str


class State(TypedDict):
    """The part of `state.json` that is read."""

    _data_files: list[Filed]
    _indices_data_files: NotRequired[list[Any] | None]
    _indices_files: NotRequired[list[Any] | None]


class Splits(TypedDict):
    """`dataset_dict.json`."""

    splits: list[str]


_STATE = TypeAdapter(State)
_SPLITS = TypeAdapter(Splits)


@dataclass(frozen=True)
class Layout:
    """The columns of a field, and the classes of the label's, where its schema names them."""

    columns: dict[str, str]
    names: list[str] | None


class HuggingFace(Dataset):
    """Keys are `FILE-ROW`, FILE without folders where no two are equal, unless `key` is named."""

    name = "huggingface"
    rank = 40
    about = "parquet or save_to_disk's arrow files with the images' bytes (Hugging Face datasets)"
    numbered = True

    @classmethod
    def recognise(cls, path: Path) -> str | None:
        if path.is_file():
            held = path.suffix.lower() in SUFFIXES and _holds_images(path)
            return "a table with the bytes of images" if held else None
        if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
            return "a folder of save_to_disk"
        found = sorted(n for n in walk(path, Counter()) if Path(n).suffix.lower() in SUFFIXES)
        if found and any(_holds_images(path / n) for n in (found[0], found[-1])):
            return f"{len(found):,} tables with the bytes of images"
        return None

    @cached_property
    def _files(self) -> dict[str, Path]:
        """Tables by the name of their unit."""
        if self.path.is_file():
            return {printable(self.path.name): self.path}
        found: dict[str, Path] = {}
        stored = _stored(self.path)
        for name in sorted(walk(self.path, self.left_out), key=natural):
            file = self.path / name
            if stored is not None and file.suffix.lower() in SUFFIXES and name not in stored:
                self.left_out[f"{kind_of(name)} that state.json does not list"] += 1
            elif file.suffix.lower() in SUFFIXES and _holds_images(file):
                found[printable(name)] = file
            elif file.suffix.lower() in SUFFIXES:
                self.left_out[f"{kind_of(name)} without images"] += 1
            elif file.name not in DESCRIPTIONS:
                self.left_out[kind_of(name)] += 1
        if missing := sorted(
            (stored or set()) - {str(f.relative_to(self.path)) for f in found.values()}
        ):
            raise ClipshiftError(
                f"{self.path / missing[0]}: listed in state.json, but not there or without images; "
                "copy the folder whole"
            )
        if not found:
            raise ClipshiftError(f"{self.path} holds no table with a column of images")
        return found

    def units(self) -> list[Unit]:
        return [Unit(name, (file,), _rows(file)) for name, file in self._files.items()]

    def read(self, unit: Unit) -> Iterator[Record | Rejected]:
        (file,) = unit.files
        layout = self._layout(file)
        image = layout.columns["image"]
        fields = {name: column for name, column in layout.columns.items() if name != "image"}
        stem = self._stems[unit.name]
        for number, row in _table_rows(file, list(dict.fromkeys(layout.columns.values()))):
            where = f"{printable(str(file))}#row {number}"
            values = fields_of(row, fields)
            key = f"{stem}-{number}"
            if isinstance(values, str):
                yield Rejected(key, where, values)
                continue
            if "key" in fields:
                key = values["key"] or ""
            label = values.get("label")
            if layout.names and label == "-1":
                label = None  # Hugging Face's mark of a label that is not published
            if isinstance(row.get(fields.get("caption", "")), list):
                self.tell(f"of the captions in {fields['caption']!r} the first")
            if label and layout.names and not _is_class(label, layout.names):
                yield Rejected(key, where, "label is none of the classes")
                continue
            place = self._place(file, number, row[image])
            if isinstance(place, str):
                yield Rejected(key, where, place)
            else:
                yield Record(**{**values, "key": key, "place": place, "label": label})

    def classes(self) -> list[str] | None:
        lists = [self._layout(file).names for file in self._files.values()]
        if any(names != lists[0] for names in lists):
            raise ClipshiftError(
                f"{self.path}: its tables name different classes; read each of them on its own"
            )
        return lists[0]

    @cached_property
    def _stems(self) -> dict[str, str]:
        names = list(self._files)
        short = Counter(Path(n).stem for n in names)
        unique = max(short.values()) == 1
        return {n: Path(n).stem if unique else n[: -len(Path(n).suffix)] for n in names}

    def _place(self, file: Path, number: int, value: Any) -> Place | str:
        """Where an image lies, or why it is none."""
        path = None
        if isinstance(value, dict):
            value, path = value.get("bytes"), value.get("path")
        if isinstance(value, bytes) and value:
            return Place(file, f"row {number}", size=len(value), data=value)
        if path:
            found = locate(str(path), self.path if self.path.is_dir() else self.path.parent)
            return found if isinstance(found, str) else Place(found)
        return "no image in the row"

    def _layout(self, file: Path) -> Layout:
        schema = _schema(file)
        held = [f.name for f in schema if tables.holds_bytes(f.type)]
        labels = class_labels(self.path if self.path.is_dir() else self.path.parent, file, schema)
        found, said = tables.guess(schema.names, self.columns, FIELDS, file)
        for field, candidates in (("image", held), ("label", sorted(labels))):
            if field in self.columns or not candidates:
                continue
            chosen = next((n for n in PREFERRED[field] if n in candidates), None)
            if chosen is None and len(candidates) > 1:
                if field == "image":
                    raise ClipshiftError(
                        f"{file}: which column holds the images? Name it, image=COLUMN; columns "
                        f"of images: {candidates}"
                    )
                self.tell(f"labels are not read: name one of {candidates}, label=COLUMN")
                found.pop(field, None)
                continue
            found[field] = chosen or candidates[0]
            said = [line for line in said if not line.startswith(f"{field} = ")]
            said.append(f"{field} = column {found[field]!r}")
        if found.get("image") not in held:
            raise ClipshiftError(
                f"{file}: no column {found.get('image', 'of images')!r} with bytes"
            )
        if "key" not in self.columns or self.columns["key"] == KEY_OF_UNIT:
            found.pop("key", None)
            said = [line for line in said if not line.startswith("key = ")]
        for line in said:
            self.tell(line)
        return Layout(found, labels.get(found.get("label", "")))


def _is_class(label: str, names: list[str]) -> bool:
    if label.isascii() and label.isdigit():
        return int(label) < len(names)
    return label in names


def _stored(folder: Path) -> set[str] | None:
    """Files of a folder of `save_to_disk`, as its `state.json` lists them; None: no such folder."""
    parts = {folder: ""}
    if (folder / "dataset_dict.json").is_file():
        splits = parse(folder / "dataset_dict.json", _SPLITS)["splits"]
        parts = {folder / split: f"{split}/" for split in splits}
    elif not (folder / "state.json").is_file():
        return None
    names: set[str] = set()
    for part, prefix in parts.items():
        if not (part / "state.json").is_file():
            raise ClipshiftError(f"{part / 'state.json'} is missing; copy the folder whole")
        state = parse(part / "state.json", _STATE)
        if state.get("_indices_data_files") or state.get("_indices_files"):
            raise ClipshiftError(
                f"{part} keeps a selection of its rows as indices; write it again with "
                "`dataset.flatten_indices().save_to_disk(...)`"
            )
        names |= {prefix + entry["filename"] for entry in state["_data_files"]}
    return names


@contextmanager
def _arrow(file: Path) -> Iterator[pa.RecordBatchReader]:
    """An arrow file as `datasets` writes it: a stream, or the format of files."""
    with reading(file, "arrow"), pa.memory_map(str(file)) as source:
        if source.read(6) == b"ARROW1":
            reader = pa.ipc.open_file(source)
            batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
            yield pa.RecordBatchReader.from_batches(reader.schema, batches)
        else:
            source.seek(0)
            yield pa.ipc.open_stream(source)


def _schema(file: Path) -> pa.Schema:
    if file.suffix.lower() == ".arrow":
        with _arrow(file) as reader:
            _ = reader.schema.names  # decoded here: they may be damaged
            return reader.schema
    return schema_of(file)


def _holds_images(file: Path) -> bool:
    """Whether a column is Hugging Face's struct, is called as images are, or holds some."""
    held = [f for f in _schema(file) if tables.holds_bytes(f.type)]
    if any(pa.types.is_struct(f.type) or f.name in PREFERRED["image"] for f in held):
        return True
    names = [f.name for f in held]
    rows = (row for _, row in islice(_table_rows(file, names), HEAD)) if names else ()
    return any(_is_image(cell) for row in rows for cell in row.values())


def _is_image(cell: bytes | None) -> bool:
    try:
        with Image.open(io.BytesIO(cell or b""), formats=FORMATS):
            return True
    except Exception:
        return False


def _rows(file: Path) -> int | None:
    if file.suffix.lower() == ".arrow":
        return None
    with parquet_file(file) as parquet:
        return int(parquet.metadata.num_rows)


def _table_rows(file: Path, columns: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number (from 0) and the cells of each row."""
    if file.suffix.lower() == ".arrow":
        number = 0
        with _arrow(file) as reader:
            for whole in reader:
                batch = whole.select(columns)
                batch.validate(full=True)  # offsets of a damaged file lead out of its memory
                for start in range(0, len(batch), IMAGES):
                    for row in batch.slice(start, IMAGES).to_pylist():
                        yield number, row
                        number += 1
        return
    yield from enumerate(read_rows(file, IMAGES, columns))
