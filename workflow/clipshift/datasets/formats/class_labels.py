"""Names of classes as Hugging Face keeps them: in a table's schema, in JSON, or in the README."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import parse_json


def class_labels(folder: Path, file: Path, schema: pa.Schema) -> dict[str, list[str]]:
    """Columns of the kind ClassLabel and the names of their classes in order.

    The schema's own come first, then `dataset_info.json` and `dataset_infos.json` (beside the table
    or in the folder), then the head of `README.md`.

    Args:
        folder: of the data set.
        file: the table.

    Raises:
        ClipshiftError: two descriptions of the same column differ, or one is unreadable.
    """
    if found := _of_schema(schema):
        return found
    for place in dict.fromkeys((file.parent, folder)):
        for name in ("dataset_info.json", "dataset_infos.json", "README.md"):
            if (place / name).is_file() and (found := _of_file(place / name)):
                return {c: names for c, names in found.items() if c in schema.names}
    return {}


def _of_schema(schema: pa.Schema) -> dict[str, list[str]]:
    text = (schema.metadata or {}).get(b"huggingface")
    if not text:
        return {}
    try:
        info = parse_json(text).get("info")
    except (ValueError, AttributeError):
        return {}
    return _merged([info["features"]], "the schema of a table") if _has_features(info) else {}


def _of_file(file: Path) -> dict[str, list[str]]:
    text = file.read_text(encoding="utf-8", errors="replace")
    try:
        if file.suffix == ".json":
            value = parse_json(text)
        else:
            head = text.removeprefix("\ufeff").replace("\r\n", "\n").split("---\n", 2)
            value = yaml.safe_load(head[1]) if len(head) == 3 and not head[0].strip() else None
        return _merged((c["features"] for c in _configurations(file, value)), str(file))
    except (ValueError, yaml.YAMLError) as error:
        raise ClipshiftError(
            f"{file}: its description of the data is unreadable: {error}"
        ) from error


def _configurations(file: Path, value: Any) -> list[dict[str, Any]]:
    """What a description says of each configuration of the data that has features."""
    if not isinstance(value, dict):
        return []
    if file.name == "README.md":
        found = value.get("dataset_info")
        found = found if isinstance(found, list) else [found]
    else:
        found = [value] if "features" in value else list(value.values())
    return [each for each in found if _has_features(each)]


def _has_features(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("features"), (dict, list))


def _merged(features: Iterable[Any], where: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in features:
        listed = ((f.get("name"), f) for f in each if isinstance(f, dict))
        items = each.items() if isinstance(each, dict) else listed
        for column, feature in items:
            names = _names(feature)
            if names and found.setdefault(str(column), names) != names:
                raise ClipshiftError(
                    f"{where}: configurations name different classes of {column!r}; keep the "
                    "description of the one that is read"
                )
    return found


def _names(feature: Any) -> list[str] | None:
    """The classes of a feature, of the form of JSON or of the README; None: it has none."""
    if not isinstance(feature, dict):
        return None
    if feature.get("_type") == "ClassLabel":
        names = feature.get("names")
    else:
        dtype = feature.get("dtype")
        inner = dtype.get("class_label") if isinstance(dtype, dict) else None
        names = inner.get("names") if isinstance(inner, dict) else None
    if isinstance(names, dict):
        if sorted(map(str, names)) != sorted(map(str, range(len(names)))):
            raise ValueError(f"its classes are not numbered from 0: {list(names)[:5]}")
        names = [names[key] for key in sorted(names, key=int)]
    return list(map(str, names)) if names and isinstance(names, list) else None
