"""Test images in the training data: found by their bytes, left out or kept, counted either way."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet, write_parquet
from clipshift.datasets.tars import read_tar
from clipshift.evaluation.summary import contaminated
from clipshift.evaluation.views import measure, read
from clipshift.splits.guard import left_out, trained_on, write_list
from clipshift.training.local_copy import copy_split
from clipshift.training.tar_filter import prepare
from tests.conftest import row, write_source
from tests.unit.logits_case import said


def table(path: Path, pairs: dict[str, str], **more: Any) -> Path:
    """A sample table, or a split: keys and the bytes that they stand for."""
    columns = {"key": list(pairs), "sha256": list(pairs.values())} | more
    write_parquet(path, pa.table(columns))
    return path


@pytest.fixture
def world(tmp_path: Path) -> tuple[Path, dict[str, Path]]:
    """A split of five samples, one of them not kept; two test sets that share an image."""
    samples = {"p1": "A", "p2": "B", "p3": "C", "p4": "D", "p5": "B"}
    split = table(tmp_path / "s.parquet", samples, kept=[True, True, True, False, True])
    tests = {
        "val": table(tmp_path / "val.parquet", {"v1": "B", "v2": "X", "v3": "D"}),
        "art": table(tmp_path / "art's.parquet", {"a1": "C", "a2": "B", "a3": "B"}),
    }
    return split, tests


def test_samples_that_show_a_test_image(world: Any, tmp_path: Path) -> None:
    split, tests = world
    out = tmp_path / "it's here/guard.parquet"  # a path is no SQL
    write_list(split, tests, out)
    assert read_parquet(out).to_pylist() == [
        {"key": "p2", "sha256": "B", "test_set": "val"},
        {"key": "p2", "sha256": "B", "test_set": "art"},
        {"key": "p3", "sha256": "C", "test_set": "art"},
        {"key": "p5", "sha256": "B", "test_set": "val"},
        {"key": "p5", "sha256": "B", "test_set": "art"},
    ]
    step_counts = read_json(out.with_suffix(".json"))
    assert (step_counts["samples"], step_counts["of_test_sets"]) == (4, {"val": 2, "art": 3})
    assert left_out(out) == {"p2": "val", "p3": "art", "p5": "val"}
    assert left_out(None) == {}
    with pytest.raises(ClipshiftError, match=r"gone\.parquet is not there"):
        write_list(split, {"x": tmp_path / "gone.parquet"}, out)


def test_images_that_runs_were_trained_on(world: Any, tmp_path: Path) -> None:
    split, tests = world
    assert trained_on(split, None, [[]], tests) == {"val": {"v1"}, "art": {"a1", "a2", "a3"}}
    without = ["p2", "p5"]
    assert trained_on(split, None, [without], tests) == {"val": set(), "art": {"a1"}}
    # Of several runs, what any of them read.
    assert trained_on(split, None, [without, ["p2"]], tests)["val"] == {"v1"}
    chosen = tmp_path / "chosen.parquet"
    keys, kept = ["p1", "p2", "p3", "p5"], [True, False, True, False]
    write_parquet(chosen, pa.table({"key": keys, "kept": kept}))
    assert trained_on(split, chosen, [[]], tests) == {"val": set(), "art": {"a1"}}
    # A list of the split says the same of the sets that it knows, as they were.
    guard = tmp_path / "guard.parquet"
    write_list(split, tests, guard)
    for runs in ([[]], [without], [without, ["p2"]]):
        for part in (None, chosen):
            plain = trained_on(split, part, runs, tests)
            assert trained_on(split, part, runs, tests, guard) == plain
    write_list(split, {"val": tests["val"]}, guard)
    assert trained_on(split, None, [[]], tests, guard)["art"] == {"a1", "a2", "a3"}
    table(tests["val"], {"v9": "A"})
    assert trained_on(split, None, [[]], tests, guard)["val"] == {"v9"}
    gone = tmp_path / "gone.parquet"
    assert trained_on(split, None, [[]], tests, gone)["val"] == {"v9"}


def test_an_evaluation_says_the_accuracy_without_them(tmp_path: Path) -> None:
    scores = np.eye(2, dtype=np.float32)[[0, 0, 1, 1]]
    rows = said(tmp_path / "full-m-s0.parquet", scores, np.array([0, 1, 1, 1]))
    seen = read(rows)
    assert measure(seen)["top1"] == 0.75
    found = contaminated("full", {0: seen}, {"k0000", "k0003"})
    assert (found["images"], found["without"]["n"], found["without"]["top1"]) == (2, 2, 0.5)
    assert found["again"] == "snakemake --forcerun guard -- results/eval/full.json"
    assert contaminated("full", {0: seen}, set(seen.keys.tolist()))["without"] is None


def test_both_ways_of_reading_leave_the_same_samples_out(tmp_path: Path) -> None:
    source = write_source(tmp_path / "pool", [row("a", f"{i}") for i in range(6)])
    keys = [f"a-{i}" for i in range(6)]
    split = tmp_path / "split.parquet"
    reasons = ["kept"] * 6
    write_parquet(split, pa.table({"key": keys, "kept": [True] * 6, "reason": reasons}))
    tar = source / "samples.tar"
    assert copy_split(split, [tar], None, 0, tmp_path / "copy", 2, ["a-2", "a-4"]) == 4
    copied = {s.key for f in (tmp_path / "copy").glob("*.tar") for s in read_tar(f)}
    assert copied == {"a-0", "a-1", "a-3", "a-5"}
    named = tmp_path / "samples.json"
    named.write_text('{"shard": {"samples": 6}}')
    shard = tmp_path / "samples.parquet"
    shard.write_bytes((source / "samples.parquet").read_bytes())
    assert prepare(split, [shard], [tar], tmp_path / "keep", ["a-2", "a-4"]) == 4
    assert np.load(tmp_path / "keep/pool/samples.npy").tolist() == sorted(copied)
