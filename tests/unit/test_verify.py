"""`clipshift verify` as a control: each number is changed, with hashes that fit, and is found."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from clipshift.apps.margins import run as margins_folder
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet
from tests.unit import margins_case
from tests.unit.margins_case import change_record, change_table, contents

NEAR = {"k": 3, "grid": [0.5, 0.9]}
ROWS = 453


@pytest.fixture(scope="module", params=["float16", "float32"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp(request.param)
    case = margins_case.inputs(root, np.dtype(request.param).type)
    margins_folder.margins(**case, **NEAR)
    checked = margins_folder.verify(case["out"], 1000, 0)
    assert checked == {"points": ROWS, "pairs": ROWS * 80 + ROWS * 80}
    assert margins_folder.verify(case["out"], 10, 0)["points"] == 30
    assert isinstance(case["out"], Path)
    return case["out"]


@pytest.fixture
def out(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "out")


def cell(column: str, row: int, change: Callable[[Any], Any]) -> Callable[[pa.Table], pa.Table]:
    """Change one value of a table."""

    def changed(table: pa.Table) -> pa.Table:
        values = table[column].to_pylist()
        values[row] = change(values[row])
        field = table.schema.field(column)
        at = table.column_names.index(column)
        return table.set_column(at, field, pa.array(values, field.type))

    return changed


def up32(value: float) -> float:
    """The next float32s are within what float32 vectors leave open for none of these."""
    return float(np.nextafter(np.nextafter(np.float32(value), np.float32(2)), np.float32(2)))


def other(value: str) -> str:
    """The key of another row."""
    head, number = value[:-4], int(value[-4:])
    return f"{head}{(number + 7) % 40:04d}"


TABLES = [
    ("val/1.parquet", "key", lambda k: k + "x"),
    ("val/1.parquet", "key", lambda k: ""),
    ("val/1.parquet", "max_similarity", up32),
    ("val/1.parquet", "max_similarity", lambda v: float("nan")),
    ("val/1.parquet", "nearest_test_key", other),
    ("val/1.parquet", "nearest_test_key", lambda k: "nonsense"),
    ("r/10.parquet", "margin", up32),
    ("r/10.parquet", "margin", lambda v: -v),
    ("r/10.parquet", "margin_test_key", other),
    ("r/10.parquet", "margin_test_key", lambda k: ""),
    ("thresholds/val.parquet", "test_key", other),
    ("thresholds/val.parquet", "similarity", lambda v: v + 1e-9),
    ("thresholds/val.parquet", "nearest_key", lambda k: "ref-0-0000"),
    ("thresholds/val.parquet", "nearest_key", lambda k: "nonsense"),
    ("val.neighbours.parquet", "test_key", other),
    ("val.neighbours.parquet", "rank", lambda v: v + 1),
    ("val.neighbours.parquet", "key", lambda k: "pool-0-0000"),
    ("val.neighbours.parquet", "key", lambda k: "nonsense"),
    ("val.neighbours.parquet", "similarity", lambda v: v - 1e-9),
    ("r.density.parquet", "test_key", other),
    ("r.density.parquet", "above", lambda v: v + 0.01),
    ("r.density.parquet", "count", lambda v: v + 1),
]


@pytest.mark.parametrize("row", [3, -1])
@pytest.mark.parametrize(("name", "column", "change"), TABLES)
def test_every_column_counts(
    out: Path, name: str, column: str, change: Callable[[Any], Any], row: int
) -> None:
    """Also with a sample of one: of all rows the named pair is compared."""
    change_table(out, name, cell(column, row, change))
    sample = 1000 if name.startswith("r.density") else 1
    with pytest.raises(ClipshiftError, match=f"{name}.*{column}"):
        margins_folder.verify(out, sample, 0)


def rewritten(column: str, key: str) -> Callable[[pa.Table], pa.Table]:
    """All keys nonsense, or all those of one image."""

    def changed(table: pa.Table) -> pa.Table:
        at = table.column_names.index(column)
        return table.set_column(at, column, pa.array([key] * len(table)))

    return changed


@pytest.mark.parametrize("column", ["nearest_test_key", "margin_test_key"])
@pytest.mark.parametrize("key", ["nonsense", "val-0-0001"])
def test_all_keys_wrong(out: Path, column: str, key: str) -> None:
    change_table(out, "val/0.parquet", rewritten(column, key))
    with pytest.raises(ClipshiftError, match=r"val/0\.parquet"):
        margins_folder.verify(out, 1, 0)


@pytest.mark.parametrize("cut", [lambda t: t.slice(1), lambda t: pa.concat_tables([t, t[:1]])])
def test_rows_that_are_too_few_or_too_many(out: Path, cut: Callable[[pa.Table], pa.Table]) -> None:
    for name in ("val/1.parquet", "thresholds/val.parquet", "val.neighbours.parquet",
                 "val.density.parquet"):  # fmt: skip
        copy = shutil.copytree(out, out.with_name(name.replace("/", "-")))
        change_table(copy, name, cut)
        with pytest.raises(ClipshiftError, match=name):
            margins_folder.verify(copy, 10, 0)


def test_columns_of_other_types(out: Path) -> None:
    def typed(table: pa.Table) -> pa.Table:
        return table.set_column(3, "margin", table["margin"].cast(pa.float32()))

    change_table(out, "val/1.parquet", typed)
    with pytest.raises(ClipshiftError, match=r"val/1\.parquet has the columns"):
        margins_folder.verify(out, 10, 0)


def test_a_consistent_lower_maximum_is_found_where_it_is_sampled(out: Path) -> None:
    """Row, pair and margin fit, but another image is nearer."""
    run = read_json(out / "run.json")
    rows = np.load(Path(run["pool"]) / "img_emb/img_emb_0.npy").astype(np.float64)
    tests = np.load(Path(run["test val"]) / "img_emb/img_emb_0.npy").astype(np.float64)
    second = np.argsort(rows[5] @ tests.T)[-2]
    lower = float(np.float32(rows[5] @ tests[second]))
    change_table(out, "val/0.parquet", cell("max_similarity", 5, lambda _: lower))
    change_table(out, "val/0.parquet", cell("nearest_test_key", 5, lambda _: f"val-0-{second:04d}"))
    with pytest.raises(ClipshiftError, match=r"val/0\.parquet .*row 5 .*max_similarity"):
        margins_folder.verify(out, 1000, 0)


def test_a_missing_neighbour_is_found(out: Path) -> None:
    """The nearest is left out, and the fourth taken in: in order, and each pair fits."""
    case = read_json(out / "run.json")
    tests = np.load(Path(case["test val"]) / "img_emb/img_emb_0.npy").astype(np.float64)
    found = []
    for shard in margins_case.SHARDS:
        rows = np.load(Path(case["pool"]) / f"img_emb/img_emb_{shard}.npy").astype(np.float64)
        found += [(s, f"pool-{shard}-{i:04d}") for i, s in enumerate(rows @ tests[0])]
    top = sorted(found, key=lambda pair: (-pair[0], pair[1]))[:4]

    def shifted(table: pa.Table) -> pa.Table:
        assert table["key"].to_pylist()[:3] == [key for _, key in top[:3]]
        data = table.to_pydict()
        data["key"][:3] = [key for _, key in top[1:]]
        data["similarity"][:3] = [s for s, _ in top[1:]]
        return pa.table(data, schema=table.schema)

    change_table(out, "val.neighbours.parquet", shifted)
    with pytest.raises(ClipshiftError, match=r"val\.neighbours\.parquet lacks a nearer point"):
        margins_folder.verify(out, 1000, 0)


RECORDS: list[tuple[str, dict[str, Any]]] = [
    ("certificates/1.json", {"rows": 150}),
    ("certificates/1.json", {"shard": "0"}),
    ("certificates/1.json", {"pairs": {"all": 1}}),
    ("certificates/1.json", {"pairs": {"decided_by_screen": 1}}),
    ("certificates/1.json", {"pairs": {"computed_in_float64": 1}}),
    ("certificates/1.json", {"pairs": []}),
    ("certificates/1.json", {"screen": {"dimension": 7}}),
    ("certificates/1.json", {"float64_rounding": 1e-3}),
    ("certificates/1.json", {"tests": {"val": {"above_threshold": 149}}}),
    ("certificates/1.json", {"tests": {"val": {"images": 41}}}),
    ("certificates/1.json", {"tests": {"val": {"smallest_margin": 0.123}}}),
    ("certificates/1.json", {"tests": {"r": {"undecided": 30}}}),
    ("certificates/1.json", {"tests": {"r": {"undecided_keys": ["pool-1-0001"]}}}),
    ("certificates/1.json", {"tests": {"x": {}}}),
    ("certificates/1.json", {"inputs": {"img_emb_1.npy": {"bytes": 1}}}),
    ("thresholds/val.json", {"rows": 39}),
    ("manifest.json", {"rows": 454}),
    ("manifest.json", {"above_threshold": {"r": 1000}}),
    ("manifest.json", {"kind": "audit"}),
    ("manifest.json", {"neighbours": {"k": 4}}),
    ("manifest.json", {"neighbours": {"grid": [0.5, 0.8]}}),
    ("manifest.json", {"pool": {"1": {"metadata_1.parquet": {"bytes": 1}}}}),
    ("run.json", {"files": {"reference": {"img_emb_0.npy": {"bytes": 1}}}}),
]


@pytest.mark.parametrize(("name", "change"), RECORDS)
def test_every_count_of_a_record_counts(out: Path, name: str, change: dict[str, Any]) -> None:
    change_record(out, name, change)
    with pytest.raises(ClipshiftError, match=r"\.(json|parquet)|other inputs \(files differ\)"):
        margins_folder.verify(out, 10, 0)


def test_every_file_counts(out: Path) -> None:
    """Each file in turn: gone, cut, foreign; and a manifest without it."""
    for name, data in contents(out).items():
        path = out / name
        for damaged in (None, data[:-1], data + b"\n"):
            path.unlink() if damaged is None else path.write_bytes(damaged)
            with pytest.raises(ClipshiftError, match=name.replace(".", r"\.")):
                margins_folder.verify(out, 1, 0)
        path.write_bytes(data)
    margins_folder.verify(out, 1, 0)
    manifest = read_json(out / "manifest.json")
    for name in manifest["files"]:
        files = {n: one for n, one in manifest["files"].items() if n != name}
        change_record(out, "manifest.json", {"files": None})
        change_record(out, "manifest.json", {"files": files})
        with pytest.raises(ClipshiftError, match=name.replace(".", r"\.")):
            margins_folder.verify(out, 1, 0)
    change_record(out, "manifest.json", {"files": None})
    change_record(out, "manifest.json", {"files": manifest["files"]})
    margins_folder.verify(out, 1, 0)
    (out / "val/99.parquet").write_bytes((out / "val/1.parquet").read_bytes())
    with pytest.raises(ClipshiftError, match=r"val/99\.parquet is no file of the run"):
        margins_folder.verify(out, 1, 0)


def test_verify_writes_nothing(out: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    margins_folder.verify(out, 1, 0)
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()} == before


def test_ties_of_float32_may_name_either(tmp_path: Path) -> None:
    """Two test images of one vector: which is named is not decided, that it is one of them is."""
    case = margins_case.inputs(tmp_path, np.float32)
    path = tmp_path / "val/img_emb/img_emb_0.npy"
    vectors = np.load(path)
    vectors[8] = vectors[7]
    np.save(path, vectors)
    margins_folder.margins(**case)
    table = read_parquet(case["out"] / "val/0.parquet")
    row = table["nearest_test_key"].to_pylist().index("val-0-0007")
    change = cell("nearest_test_key", row, lambda _: "val-0-0008")
    change_table(case["out"], "val/0.parquet", change)
    margins_folder.verify(case["out"], 1000, 0)
    change_table(case["out"], "val/0.parquet", cell("nearest_test_key", row, other))
    with pytest.raises(ClipshiftError, match="max_similarity"):
        margins_folder.verify(case["out"], 1000, 0)
