"""`clipshift margins` and `clipshift verify` on folders: resume, certificates, hostile input."""

import hashlib
import json
import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from clipshift.apps.cli import main
from clipshift.apps.margins import run as margins_folder
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet, write_parquet
from clipshift.similarity import embeddings, margins
from clipshift.similarity.embeddings import shard_paths
from clipshift.similarity.external_embeddings import _Vectors
from tests.unit.margins_case import SHARDS, change_table, inputs, write
from tests.unit.test_engine import brute, clip_like


@pytest.fixture
def case(tmp_path: Path) -> dict[str, Any]:
    return inputs(tmp_path)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*.parquet"))
    }


@pytest.mark.parametrize("screen", ["int8", "float32", "none"])
def test_margins_equal_brute_force(case: dict[str, Any], screen: str) -> None:
    record = margins_folder.margins(**case, screen=screen)
    limits = {}
    for name, path in case["tests"].items():
        reference = np.load(shard_paths(case["reference"], "0")[0])
        limits[name] = brute(np.load(shard_paths(path, "0")[0]), reference).max(1)
    above = dict.fromkeys(limits, 0)
    for shard in SHARDS:
        vectors = np.load(shard_paths(case["pool"], shard)[0])
        for name, path in case["tests"].items():
            s = brute(vectors, np.load(shard_paths(path, "0")[0]))
            table = read_parquet(case["out"] / name / f"{shard}.parquet")
            assert table.schema.equals(margins.SCHEMA)
            gap = s - limits[name]
            np.testing.assert_array_equal(table["margin"], gap.max(1))
            np.testing.assert_array_equal(table["max_similarity"], s.max(1))
            assert table["margin_test_key"].to_pylist() == [
                f"{name}-0-{i:04d}" for i in gap.argmax(1)
            ]
            above[name] += int((gap.max(1) > 0).sum())
    assert record == {"rows": 453, "above_threshold": above}
    certificate = read_json(case["out"] / "certificates/10.json")
    assert certificate["pairs"]["all"] == 152 * 80
    assert sum(v for k, v in certificate["pairs"].items() if k != "all") == 152 * 80
    assert certificate["screen"]["kind"] == screen
    assert set(certificate["inputs"]) == {"img_emb_10.npy", "metadata_10.parquet"}


def test_every_screen_writes_the_same_bytes(case: dict[str, Any], tmp_path: Path) -> None:
    found = []
    for screen in ("int8", "float32", "none"):
        margins_folder.margins(**(case | {"out": tmp_path / screen}), screen=screen)
        found.append(digests(tmp_path / screen))
    assert found[0] == found[1] == found[2]


def test_a_rerun_computes_what_is_missing_and_what_changed(
    case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    margins_folder.margins(**case)
    before = digests(case["out"])
    done: list[str] = []
    real = margins_folder.write_shard

    def counting(folder: Path, shard: str, *rest: Any, **named: Any) -> Any:
        done.append(shard)
        return real(folder, shard, *rest, **named)

    monkeypatch.setattr(margins_folder, "write_shard", counting)
    margins_folder.margins(**case)
    assert done == []
    (case["out"] / "val/1.parquet").unlink()
    (case["out"] / "certificates/10.json").unlink()  # as a kill before the end of shard 10
    margins_folder.margins(**case)
    assert done == ["1", "10"] and digests(case["out"]) == before
    write(case["pool"], "0", clip_like(150, 77))
    margins_folder.margins(**case)
    assert done == ["1", "10", "0"] and digests(case["out"]) != before


def test_a_folder_of_other_inputs_is_refused(case: dict[str, Any], tmp_path: Path) -> None:
    margins_folder.margins(**case)
    other = shutil.copytree(case["reference"], tmp_path / "other")
    with pytest.raises(ClipshiftError, match="margins of other inputs"):
        margins_folder.margins(**(case | {"reference": other}))


@pytest.mark.parametrize("which", ["reference", "val"])
def test_other_vectors_under_the_same_path_are_refused(case: dict[str, Any], which: str) -> None:
    """Their thresholds would be those of the vectors before."""
    margins_folder.margins(**case)
    folder = case["reference"] if which == "reference" else case["tests"]["val"]
    write(folder, "0", clip_like(40, 79))
    for again in (
        lambda: margins_folder.margins(**case),
        lambda: margins_folder.verify(case["out"], 10, 0),
    ):
        with pytest.raises(ClipshiftError, match=r"margins of other inputs \(files differ\)"):
            again()


def test_verify_finds_a_wrong_value(case: dict[str, Any]) -> None:
    margins_folder.margins(**case)
    assert margins_folder.verify(case["out"], 1000, 0) == {"points": 453, "pairs": 453 * 80}
    assert margins_folder.verify(case["out"], 10, 0)["points"] == 30

    def changed(table: pa.Table) -> pa.Table:
        wrong = table["margin"].to_numpy().copy()
        wrong[17] = np.nextafter(wrong[17], 2)
        return table.set_column(3, "margin", pa.array(wrong))

    change_table(case["out"], "r/1.parquet", changed)
    with pytest.raises(ClipshiftError, match=r"r/1\.parquet disagrees .* row 17 .*margin is"):
        margins_folder.verify(case["out"], 1000, 0)


def test_verify_wants_a_whole_run_of_the_same_input(case: dict[str, Any]) -> None:
    with pytest.raises(ClipshiftError, match="is missing"):
        margins_folder.verify(case["out"], 10, 0)
    margins_folder.margins(**case)
    write(case["pool"], "1", clip_like(151, 78))
    with pytest.raises(ClipshiftError, match="its input "):
        margins_folder.verify(case["out"], 10, 0)


def test_the_command(case: dict[str, Any], monkeypatch: Any, capsys: Any) -> None:
    words = ["clipshift", "margins", "--pool", str(case["pool"]), "--out", str(case["out"]),
             "--reference", str(case["reference"]), "--k", "3", "--grid", "0.5", "0.9"]  # fmt: skip
    words += [f"--test={name}={path}" for name, path in case["tests"].items()]
    monkeypatch.setattr("sys.argv", words)
    main()
    assert "453 points; closer to a test image" in capsys.readouterr().out
    near = read_parquet(case["out"] / "val.neighbours.parquet")
    assert len(near) == 40 * 3
    assert len(read_parquet(case["out"] / "val.density.parquet")) == 40 * 2
    monkeypatch.setattr("sys.argv", ["clipshift", "verify", str(case["out"])])
    main()
    assert "agree with float64" in capsys.readouterr().out


def test_float32_vectors_list_what_rounding_leaves_open(case: dict[str, Any]) -> None:
    """A pool point equal to the reference's nearest has the margin 0: within any rounding."""
    reference = np.load(shard_paths(case["reference"], "0")[0]).astype(np.float32)
    write(case["pool"], "0", reference[:5])
    margins_folder.margins(**case)
    certificate = read_json(case["out"] / "certificates/0.json")
    assert 0 < certificate["float64_rounding"] < 1e-12
    zero = [k for t in certificate["tests"].values() for k in t["undecided_keys"]]
    assert set(zero) <= {f"pool-0-{i:04d}" for i in range(5)}
    assert sum(t["undecided"] for t in certificate["tests"].values()) == len(zero)
    assert read_json(case["out"] / "certificates/1.json")["float64_rounding"] == 0
    margins_folder.verify(case["out"], 1000, 0)


@pytest.mark.parametrize("rows", [0, 1])
def test_empty_and_one_row_shards_are_whole(case: dict[str, Any], rows: int) -> None:
    write(case["pool"], "1", clip_like(5, 40)[:rows])
    record = margins_folder.margins(**case)
    assert record["rows"] == 302 + rows
    assert len(read_parquet(case["out"] / "val/1.parquet")) == rows
    assert read_json(case["out"] / "certificates/1.json")["rows"] == rows
    margins_folder.verify(case["out"], 10, 0)


def spoiled(row: int, value: float) -> np.ndarray:
    vectors = clip_like(50, 41)
    vectors[row] = value
    return vectors


def scaled(factor: float) -> np.ndarray:
    return (clip_like(50, 41).astype(np.float32) * factor).astype(np.float16)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (spoiled(7, np.nan), r"row 7 is NaN or infinite .*key 'pool-1-0007'.*Embed this shard"),
        (spoiled(8, np.inf), "row 8 is NaN or infinite"),
        (spoiled(9, 0), "row 9 is of norm zero"),
        (scaled(1.5), "row 0 is not L2-normalised"),
        (clip_like(50, 41).astype(np.float64) + 1e-9, "float64 values that float32 cannot hold"),
        (clip_like(50, 41, 64), "dimension 64, those of the test set val have 128"),
        (clip_like(50, 41)[0], "expected \\(N, D\\)"),
        (np.array([[None, "x"]], dtype=object), "Python objects"),
    ],
    ids=[
        "nan",
        "inf",
        "zero",
        "norm",
        "float64",
        "dimension",
        "one-dimension",
        "object",
    ],
)
def test_hostile_vectors_are_refused(case: dict[str, Any], vectors: Any, message: str) -> None:
    write(case["pool"], "1", vectors, None)
    with pytest.raises(ClipshiftError, match=message) as error:
        margins_folder.margins(**case)
    assert "img_emb_1.npy" in str(error.value)
    assert not (case["out"] / "certificates/1.json").exists()
    assert not list(case["out"].rglob("*.part"))


@pytest.mark.parametrize("order", ["float64", ">f2", "fortran"])
def test_other_ways_to_store_the_same_vectors(case: dict[str, Any], order: str) -> None:
    same = margins_folder.margins(**case | {"out": case["out"].with_name("plain")})
    image, _ = shard_paths(case["pool"], "1")
    rows = np.load(image)
    np.save(image, np.asfortranarray(rows) if order == "fortran" else rows.astype(order))
    assert margins_folder.margins(**case) == same
    assert (case["out"] / "val/10.parquet").exists()


def test_truncated_files_and_wrong_keys_are_refused(case: dict[str, Any]) -> None:
    image, table = shard_paths(case["pool"], "1")
    whole = image.read_bytes()
    image.write_bytes(whole[:-100])
    with pytest.raises(ClipshiftError, match=r"img_emb_1\.npy is not a readable npy file"):
        margins_folder.margins(**case)
    image.write_bytes(whole)
    for keys, message in (
        (["a"] * 151, r"the key 'a' occurs twice"),
        (["a", "b"], r"151 vectors, but 2 rows"),
    ):
        write_parquet(table, pa.table({"image_path": keys}))
        with pytest.raises(ClipshiftError, match=message):
            margins_folder.margins(**case)
    write_parquet(table, pa.table({"key": ["a"]}))
    with pytest.raises(ClipshiftError, match="151 vectors, but 1 keys"):
        margins_folder.margins(**case)
    table.unlink()
    with pytest.raises(ClipshiftError, match="is missing"):
        margins_folder.margins(**case)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["Val=val"], "expected NAME=DIR"),
        (["val=nowhere"], "no such folder"),
        (["thresholds=val"], "reserved name"),
        (["val=val", "val=val"], "same name"),
    ],
)
def test_wrong_names_of_test_sets(
    case: dict[str, Any], words: list[str], message: str, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(case["pool"].parent)
    given = [w for word in words for w in ("--test", word)]
    start = ["clipshift", "margins", "--pool", "pool", "--reference", "ref", "--out", "o"]
    monkeypatch.setattr("sys.argv", [*start, *given])
    with pytest.raises(SystemExit, match=message):
        main()


def test_certificates_are_plain_json(case: dict[str, Any]) -> None:
    margins_folder.margins(**case)
    text = (case["out"] / "certificates/0.json").read_text()
    assert json.loads(text)["tests"]["val"]["smallest_margin"] >= 0


def test_an_output_inside_an_input_is_refused(case: dict[str, Any]) -> None:
    for out in (case["pool"], case["pool"] / "margins", case["reference"] / "a/../b"):
        with pytest.raises(ClipshiftError, match=r"lies in .*, an input"):
            margins_folder.margins(**case | {"out": out})


def test_no_part_of_a_folder_holds_a_file_open(tmp_path: Path) -> None:
    shards = [str(i) for i in range(100)]
    for shard in shards:
        write(tmp_path / "pool", shard, clip_like(2, 20))
    test = embeddings.read_all(write(tmp_path / "val", "0", clip_like(4, 30)))
    reference = embeddings.read_all(write(tmp_path / "ref", "0", clip_like(4, 31)))
    thresholds = margins.reference_tables(reference, {"val": test}, "cpu")["val"]
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = len(list(Path("/proc/self/fd").iterdir())) + 20
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, limits[1]))
    try:
        side = margins.Tests.of(test, thresholds)
        assert margins.prepare(tmp_path / "pool", shards, {"val": side}, "cpu")
        vectors = _Vectors(tmp_path / "pool", shards)
        found = vectors.gather(np.arange(100), np.ones(100, dtype=int))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    last = np.load(shard_paths(tmp_path / "pool", "99")[0])
    assert np.array_equal(found[99], last[1])
