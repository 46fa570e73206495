"""Predictions as people have them: every way to write a table, and what a value may look like."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from clipshift.apps.audit.predictions import Predictions, read_predictions, text
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import write_parquet
from tests.conftest import dump

KEYS = [f"k{i}" for i in range(6)]


def hits(found: Predictions) -> list[bool | None]:
    pairs = zip(found.known.tolist(), found.correct.tolist(), strict=True)
    return [c if k else None for k, c in pairs]


def table(path: Path, **columns: Any) -> Path:
    write_parquet(path, pa.table(columns))
    return path


def test_whole_and_real_numbers_are_one_class(tmp_path: Path) -> None:
    path = table(
        tmp_path / "p.parquet", key=KEYS, label=[0, 1, 2, 3, 4, 5],
        predicted=[0.0, 1.0, 2.0, 3.0, 9.0, 9.0],
    )  # fmt: skip
    assert hits(read_predictions(path, KEYS, None)) == [True] * 4 + [False] * 2
    path = dump(tmp_path / "p.csv", "key,label,predicted\nk0,3,3.0\nk1, 4.00 ,4\nk2,3,3.5e0x\n")
    assert hits(read_predictions(path, KEYS, None))[:3] == [True, True, False]


def test_rows_without_a_value_are_neither_right_nor_wrong(tmp_path: Path) -> None:
    rows = "k0,cat,cat\nk1,dog,cat\nk2,,\nk3,nan,nan\nk4,cat,\nk5,,cat\n,cat,cat\nzz,cat,cat\n"
    found = read_predictions(dump(tmp_path / "p.csv", f"key,label,predicted\n{rows}"), KEYS, None)
    assert hits(found) == [True, False, None, None, None, None]
    assert dict(found.left_out) == {"no value": 4, "no key": 1}
    assert (found.rows, found.unused) == (3, 1)
    path = table(
        tmp_path / "p.parquet", key=[*KEYS[:3], None], label=pa.array([1.0, None, float("nan"), 1]),
        predicted=pa.array([1, None, None, 1]),
    )  # fmt: skip
    found = read_predictions(path, KEYS, None)
    assert hits(found)[:3] == [True, None, None]
    assert dict(found.left_out) == {"no value": 2, "no key": 1}
    correct = dump(tmp_path / "c.csv", "key,correct\nk0,1.0\nk1,\nk2,False\n")
    assert hits(read_predictions(correct, KEYS, None))[:3] == [True, None, False]


def test_text_is_compared_without_blanks_and_forms_but_with_case(tmp_path: Path) -> None:
    nfd = "cafe\u0301"
    lines = f"k0,caf\xe9,{nfd}\nk1,cat , cat\nk2,Cat,cat\nk3,B\xe4r,B\xe4r\n"
    path = tmp_path / "p.csv"
    path.write_bytes(b"\xef\xbb\xbf" + f"key,label,predicted\n{lines}".encode())
    assert hits(read_predictions(path, KEYS, None))[:4] == [True, True, False, True]
    odd = [f"{nfd}/1.jpg", "caf\xe9/2.jpg", "3.0", " k3 "]
    path = dump(tmp_path / "k.csv", "key,correct\ncaf\xe9/1.jpg,1\ncaf\xe9/2.jpg,1\n3,1\nk3,1\n")
    assert hits(read_predictions(path, odd, None)) == [True] * 4
    # Keys that differ in nothing else are told apart to the letter.
    twins = ["caf\xe9", nfd]
    path = dump(tmp_path / "t.csv", "key,correct\ncaf\xe9,1\n")
    assert hits(read_predictions(path, twins, None)) == [True, None]


def test_lists_and_what_numpy_prints(tmp_path: Path) -> None:
    path = table(
        tmp_path / "p.parquet", key=["np.str_('k0')", "b'k1'", "k2"], label=[[3], [4, 5], [6]],
        predicted=[[3, 1], [5, 1], []],
    )  # fmt: skip
    assert hits(read_predictions(path, KEYS, None))[:3] == [True, True, None]
    lines = 'k0,"[3, 5, 1]",3\nk1,[3 5 1],3\nk2,np.int64(3),3\nk3,tensor(3),3\nk4,"[\'cat\']",cat\n'
    path = dump(tmp_path / "p.csv", f"key,top5,target\n{lines}")
    found = read_predictions(path, KEYS, None)
    assert hits(found)[:5] == [True] * 5
    assert found.said == [
        f"{path}: the column 'target' is read as label",
        f"{path}: the column 'top5' is read as predicted",
    ]
    assert text("[a note]") == "a note"
    nested = table(tmp_path / "n.parquet", key=["k0"], label=[{"a": 1}], predicted=[1])
    with pytest.raises(ClipshiftError, match=r"row 0: .*several values"):
        read_predictions(nested, KEYS, None)


ROWS = [{"key": "k0", "label": 1, "predicted": 1}, {"key": "k1", "label": 1, "predicted": None}]
FILES = {
    "a.json": json.dumps(ROWS),
    "b.json": json.dumps({"key": ["k0", "k1"], "label": [1, 1], "predicted": [1, None]}),
    "c.json": json.dumps({c: {str(i): r[c] for i, r in enumerate(ROWS)} for c in ROWS[0]}),
    "d.json": json.dumps({r["key"]: {"label": 1, "predicted": r["predicted"]} for r in ROWS}),
    "e.json": '[{"key": "k0", "label": 1, "predicted": 1.0}, {"key": "k1", "predicted": NaN}]',
    "f.jsonl": "\n".join(map(json.dumps, ROWS)) + "\n\n",
    "g.tsv": "key\tlabel\tpredicted\nk0\t1\t1\nk1\t1\t\n",
    "h.csv": "key;label;predicted\r\nk0;1;1\r\nk1;1;\r\n",
    "i.csv": "Image_Path,Y_True,Pred\nk0,1,1\nk1,1,\n",
    "j.csv": ",key,label,predicted\n0,k0,1,1.0\n1,k1,1,\n",
}


@pytest.mark.parametrize("name", FILES)
def test_every_way_to_write_it(tmp_path: Path, name: str) -> None:
    path = dump(tmp_path / name, FILES[name])
    found = read_predictions(path, KEYS, None)
    assert hits(found)[:2] == [True, None]
    assert found.left_out == {"no value": 1}
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress(FILES[name].encode()))
    assert hits(read_predictions(packed, KEYS, None)) == hits(found)


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = dump(tmp_path / "p.csv", "id,TARGET,best,label,correct\nk0,a,a,b,0\nk1,a,b,b,1\n")
    named = {"key": "id", "label": "TARGET", "predicted": "best"}
    found = read_predictions(path, KEYS, None, named)
    assert hits(found)[:2] == [True, False]
    assert found.labels[:2] == ["a", "a"] and found.said == []
    assert hits(read_predictions(path, KEYS, None))[:2] == [False, True]
    for wrong, message in (({"label": "nothing"}, "no column"), ({"truth": "id"}, "no such field")):
        with pytest.raises(ClipshiftError, match=message):
            read_predictions(path, KEYS, None, wrong)


def test_repeats(tmp_path: Path) -> None:
    same = dump(tmp_path / "p.csv", "key,label,predicted\nk0,1,1\nk0,1.0,1\nk1,1,2\n")
    found = read_predictions(same, KEYS, None)
    assert (hits(found)[:2], found.left_out) == ([True, False], {"the same row again": 1})
    other = dump(tmp_path / "q.csv", "key,label,predicted\nk0,1,1\nk0,1,2\n")
    with pytest.raises(ClipshiftError, match="'k0' occurs twice with other values"):
        read_predictions(other, KEYS, None)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.csv", "key,label,predicted\nk0,1,0.73\n", "a score and no class"),
        ("p.json", "{", "not a readable json file"),
        ("p.json", "3", "expected a list of rows"),
        ("p.json", "[" * 100_000, "not a readable json file"),
        ("p.jsonl", "[1]\n", "a row is no object"),
        ("p.csv", "", "is empty"),
        ("p.parquet", "version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("p.parquet", "<!DOCTYPE html>\n", "web page"),
        ("p.json", "<html></html>", "web page"),
    ],
)
def test_what_is_no_table_of_predictions(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    with pytest.raises(ClipshiftError, match=message):
        read_predictions(dump(tmp_path / name, content), KEYS, None)
