"""The audit against brute force, after a kill, and on what it must refuse."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from clipshift.apps.audit import accuracy, nearest, run, svg, tables
from clipshift.apps.audit.inputs import open_side
from clipshift.apps.audit.page import choose
from clipshift.apps.audit.predictions import read_predictions
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json
from tests import audit_case
from tests.conftest import dump, tied_vectors


def matrix(train: Path, test: Path) -> np.ndarray:
    """(M, N) similarities in float64."""
    left, right = (open_side("x", f).matrix().astype(np.float64) for f in (test, train))
    product: np.ndarray = left @ right.T
    return product


def brute_top(s: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(-s, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(s, order, 1), order


@given(
    st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 3000), st.integers(1, 40),
    st.booleans(),
)  # fmt: skip
@settings(max_examples=40)
def test_sweep_equals_brute_force(
    tmp_path_factory: Any, seed: int, k: int, block: int, step: int, reference: bool
) -> None:
    root = tmp_path_factory.mktemp("sweep")
    given = audit_case.sides(root, seed, d=5)
    train, tests = open_side("train", given["train"]), open_side("test", given["test"]).matrix()
    s = matrix(given["train"], given["test"])
    limits = matrix(given["reference"], given["test"]).max(1) if reference else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "CHECKPOINT_ROWS", step)
        patch.setattr("clipshift.apps.audit.inputs.PIECE", 7)
        found = nearest.sweep(train, tests, k, tables.GRID, limits, root / "w", "cpu", block)
    value, row = brute_top(s, k)
    np.testing.assert_array_equal(found.similarity, value)
    np.testing.assert_array_equal(found.row, row)
    np.testing.assert_array_equal(found.count, (s[:, :, None] > tables.GRID).sum(1))
    parts = [nearest.load_trains(p) for p in nearest.trains(root / "w")]
    np.testing.assert_array_equal(np.concatenate([p.similarity for p in parts]), s.max(0))
    np.testing.assert_array_equal(np.concatenate([p.test for p in parts]), s.argmax(0))
    margins = s - limits[:, None] if limits is not None else s
    np.testing.assert_array_equal(np.concatenate([p.margin for p in parts]), margins.max(0))
    np.testing.assert_array_equal(np.concatenate([p.margin_test for p in parts]), margins.argmax(0))


def test_fewer_training_items_than_neighbours(tmp_path: Path) -> None:
    train = audit_case.folder(tmp_path / "train", {"0": tied_vectors(0, 2)})
    test = audit_case.folder(tmp_path / "test", {"0": tied_vectors(1, 3)})
    run.audit(audit_case.options(tmp_path / "out", {"train": train, "test": test}), ["x"])
    table = pq.read_table(tmp_path / "out/nearest.parquet")
    assert table["rank"].to_pylist() == [1, 2] * 3
    found = open_side("train", train)
    again = nearest.sweep(
        found, open_side("test", test).matrix(), 4, np.empty(0), None, tmp_path / "w", "cpu", 99
    )
    assert (again.row[:, 2:] == -1).all() and (again.similarity[:, 2:] == -np.inf).all()


def test_outputs_equal_brute_force(tmp_path: Path) -> None:
    given = audit_case.sides(tmp_path)
    run.audit(audit_case.options(tmp_path / "out", given), ["clipshift", "audit"])
    s, r = matrix(given["train"], given["test"]), matrix(given["reference"], given["test"])
    summary = read_json(tmp_path / "out/summary.json")
    assert [row["count"] for row in summary["near_duplicates"]] == [
        int((s.max(1) > t).sum()) for t in (0.5, 0.9)
    ]
    assert summary["reference"]["closer_to_training"]["count"] == int((s.max(1) > r.max(1)).sum())
    assert sum(summary["similarity"]["histogram"]["counts"]) == len(s)
    removed = pq.read_table(tmp_path / "out/remove.parquet").to_pylist()
    margin = (s - r.max(1)[:, None]).max(0)
    train = open_side("train", given["train"]).all_keys()
    for column, expected in (
        ("above_0.5", s.max(0) > 0.5),
        ("above_0.9", s.max(0) > 0.9),
        ("closer_than_reference", margin > 0),
    ):
        keys = [key for key, gone in zip(train, expected, strict=True) if gone]
        assert [row["key"] for row in removed if row[column]] == keys
        name = column.replace("above", "remove").replace("closer", "remove_closer")
        assert (tmp_path / f"out/{name}.txt").read_text().splitlines() == keys
    assert (tmp_path / "out/remove.txt").read_bytes() == (
        tmp_path / "out/remove_0.9.txt"
    ).read_bytes()
    nearest = pq.read_table(tmp_path / "out/nearest.parquet").to_pylist()
    value, row = brute_top(s, 3)
    assert [n["similarity"] for n in nearest] == value.clip(max=1).ravel().tolist()
    assert [n["train_key"] for n in nearest] == [train[i] for i in row.ravel()]
    assert [n["closer_than_reference"] for n in nearest] == (
        (value > r.max(1)[:, None]).ravel().tolist()
    )
    density = pq.read_table(tmp_path / "out/density.parquet").to_pydict()
    assert density["mean"] == pytest.approx((s[:, :, None] > tables.GRID).sum(1).mean(0))


def test_copy_of_the_nearest_reference_item_stays(tmp_path: Path) -> None:
    """The rule is strict: only what is closer than the reference set goes."""
    rows = np.eye(4, dtype=np.float16)
    tilted = np.float16([[0.6, 0.8, 0, 0]])
    given = {
        "train": audit_case.folder(tmp_path / "train", {"0": np.concatenate([tilted, rows])}),
        "test": audit_case.folder(tmp_path / "test", {"0": rows[:1]}),
        "reference": audit_case.folder(tmp_path / "reference", {"0": tilted}),
    }
    run.audit(audit_case.options(tmp_path / "out", given), ["x"])
    removed = pq.read_table(tmp_path / "out/remove.parquet").to_pylist()
    gone = {row["key"]: row["closer_than_reference"] for row in removed}
    assert gone == {"train/0.jpg": False, "train/1.jpg": True}


def test_killed_anywhere_and_run_again_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = audit_case.sides(tmp_path)
    monkeypatch.setattr(nearest, "CHECKPOINT_ROWS", 8)
    monkeypatch.setattr("clipshift.apps.audit.inputs.PIECE", 4)
    run.audit(audit_case.options(tmp_path / "whole", given), ["x"])
    whole = audit_case.outputs(tmp_path / "whole")
    out = audit_case.options(tmp_path / "out", given)
    real, writes = nearest._save, 0

    def dying(path: Path, arrays: Any) -> None:
        nonlocal writes
        writes += 1
        if writes % 3 == 0:
            raise KeyboardInterrupt
        real(path, arrays)

    monkeypatch.setattr(nearest, "_save", dying)
    deaths = 0
    while True:
        try:
            run.audit(out, ["x"])
            break
        except KeyboardInterrupt:
            deaths += 1
    assert deaths > 3
    assert audit_case.outputs(tmp_path / "out") == whole


def test_finished_audit_computes_nothing_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = audit_case.sides(tmp_path)
    asked = audit_case.options(tmp_path / "out", given)
    run.audit(asked, ["x"])
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir() if p.is_file()}
    monkeypatch.setattr(run, "open_side", None)
    run.audit(asked, ["x"])
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert "up to date" in capsys.readouterr().err


def test_changed_input_option_or_damaged_output_is_done_again(tmp_path: Path) -> None:
    given = audit_case.sides(tmp_path)
    run.audit(audit_case.options(tmp_path / "out", given), ["x"])
    first = audit_case.outputs(tmp_path / "out")
    (tmp_path / "out/remove.txt").write_text("something else\n")
    run.audit(audit_case.options(tmp_path / "out", given), ["x"])
    assert audit_case.outputs(tmp_path / "out") == first
    run.audit(audit_case.options(tmp_path / "out", given, thresholds=[0.7, 0.9]), ["x"])
    assert "remove_0.5.txt" not in audit_case.outputs(tmp_path / "out")
    audit_case.folder(given["test"], {"0": tied_vectors(77, 15, 8)})
    run.audit(audit_case.options(tmp_path / "out", given), ["x"])
    run.audit(audit_case.options(tmp_path / "fresh", given), ["x"])
    assert audit_case.outputs(tmp_path / "out") == audit_case.outputs(tmp_path / "fresh")


def test_float32_is_rounded_on_both_sides_and_said_so(tmp_path: Path) -> None:
    exact = np.random.default_rng(0).normal(size=(20, 8))
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    pages = []
    for kind in (np.float16, np.float32):
        root = tmp_path / kind.__name__
        given = {
            "train": audit_case.folder(root / "train", {"0": exact[:12].astype(kind)}),
            "test": audit_case.folder(root / "test", {"0": exact[12:].astype(kind)}),
        }
        run.audit(audit_case.options(root / "out", given), ["x"])
        pages.append((root / "out/nearest.parquet").read_bytes())
        text = read_json(root / "out/summary.json")["precision"]
        assert ("rounded to float16" in text) == (kind is np.float32)
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": {"0": np.ones((3, 8), np.float16)}}, "not L2-normalised.*Embed this shard"),
        ({"train": {"0": tied_vectors(0, 3, 8), "1": tied_vectors(0, 3, 9)}}, r"dimensions \[8, 9"),
        ({"train": {"0": tied_vectors(0, 3, 9)}}, "sides have vectors of different dimensions"),
        ({"test": {"0": np.full((3, 8), np.nan, np.float16)}}, "NaN or infinite"),
        ({"test": {"0": np.zeros((0, 8), np.float16)}}, "holds no vector"),
    ],
)
def test_unfit_inputs_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    given = audit_case.sides(tmp_path / "a")
    for side, shards in change.items():
        given[side] = audit_case.folder(tmp_path / "b" / side, shards)
    with pytest.raises(ClipshiftError, match=message):
        run.audit(audit_case.options(tmp_path / "out", given), ["x"])


def test_key_in_two_shards_and_missing_metadata_are_refused(tmp_path: Path) -> None:
    rows = tied_vectors(0, 4, 8)
    keys = ["a", "b", "c", "a"]
    double = audit_case.folder(tmp_path / "double", {"0": rows[:2], "1": rows[2:]}, keys)
    with pytest.raises(ClipshiftError, match="'a' occurs twice"):
        open_side("train", double)
    (double / "metadata/metadata_1.parquet").unlink()
    with pytest.raises(ClipshiftError, match=r"metadata_1.* is missing"):
        open_side("train", double)


def test_budget_too_small_for_the_test_set_says_what_is_needed(tmp_path: Path) -> None:
    asked = audit_case.options(tmp_path, audit_case.sides(tmp_path), memory=850 / 1024)
    with pytest.raises(ClipshiftError, match="give at least"):
        run._block_bytes(asked, np.zeros((50_000, 512), np.float16), 3)


def test_keys_with_line_breaks_stay_out_of_the_lists_and_are_counted(tmp_path: Path) -> None:
    rows = tied_vectors(0, 3, 8, distinct=1)
    train = audit_case.folder(tmp_path / "train", {"0": rows}, ["a", "b\nevil", "c\r"])
    test = audit_case.folder(tmp_path / "test", {"0": rows[:1]})
    run.audit(audit_case.options(tmp_path / "out", {"train": train, "test": test}), ["x"])
    assert (tmp_path / "out/remove.txt").read_text() == "a\n"
    entry = read_json(tmp_path / "out/summary.json")["remove"][0]
    assert (entry["keys"], entry["not_in_the_list"]) == (3, 2)


def predictions(tmp_path: Path, text: str) -> Path:
    return dump(tmp_path / "predictions.csv", text)


def test_accuracy_of_subsets_and_tests(tmp_path: Path) -> None:
    keys = [f"k{i}" for i in range(40)]
    similarity = np.linspace(0, 1, 40)
    correct = np.arange(40) % 3 == 0
    lines = [f"k{i},{i % 3},0" for i in range(39)] + ["stranger,1,1"]
    path = predictions(tmp_path, "key,label,predicted\n" + "\n".join(lines) + "\n")
    found = read_predictions(path, keys, None)
    assert (found.rows, found.unused, int(found.known.sum())) == (40, 1, 39)
    report = accuracy.by_threshold(found, similarity, (0.25, 0.5, 2.0))
    over = similarity[:39] > 0.5
    row = report["thresholds"][1]
    hits = correct[:39]
    assert row["overlapping"]["correct"] == hits[over].sum()
    assert row["clean"]["n"] == (~over).sum()
    table = [[hits[side].sum(), (~hits[side]).sum()] for side in (~over, over)]
    assert row["p"] == pytest.approx(fisher_exact(table).pvalue)
    assert report["thresholds"][2]["p"] is None  # nothing overlaps: nothing is tested
    assert report["thresholds"][2]["overlapping"]["accuracy"] is None
    assert report["test_items_without"] == 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_the_definition(p: list[float]) -> None:
    order = sorted(range(len(p)), key=p.__getitem__)
    for rank, index in enumerate(order):
        expected = max(min(1.0, (len(p) - j) * p[order[j]]) for j in range(rank + 1))
        assert accuracy.holm(p)[index] == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("key,correct\na,1\na,0\n", "'a' occurs twice"),
        ("name,correct\na,1\n", "neither a column key nor test_key"),
        ("key,label\na,1\n", "correct, or label and predicted"),
        ("key,correct\na,maybe\n", "'maybe', neither true nor false"),
        ("key,correct\nb,1\n", "none of its 1 keys"),
        ("key,correct\na\n", "row 2 has another number of fields"),
        ("key,test_set,correct\na,x,1\na,y,1\n", "--test-set"),
    ],
)
def test_unfit_predictions_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ClipshiftError, match=message):
        read_predictions(predictions(tmp_path, text), ["a"], None)


def test_test_set_chooses_rows(tmp_path: Path) -> None:
    path = predictions(tmp_path, "test_key,test_set,correct\na,x,True\na,y,False\n")
    assert read_predictions(path, ["a"], "x").correct.tolist() == [True]
    assert read_predictions(path, ["a"], "y").correct.tolist() == [False]


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 20), st.integers(0, 9))
def test_items_of_the_page(n: int, items: int, sample: int, seed: int) -> None:
    similarity = np.random.default_rng(seed).integers(0, 5, n) / 5
    rows, drawn = choose(similarity, items, sample, seed)
    assert len(set(rows.tolist())) == len(rows) == min(n, items) + min(sample, max(0, n - items))
    worst = rows[~drawn]
    assert sorted(similarity[worst], reverse=True) == sorted(similarity, reverse=True)[:items]


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.sampled_from([-0.5, 0.3, 0.95]))
def test_charts_are_whole_svg(similarity: list[float], main: float) -> None:
    import xml.etree.ElementTree as ET

    found = tables.histogram(np.array(similarity))
    assert sum(found["counts"]) == len(similarity)
    ET.fromstring(svg.histogram(found["edges"], found["counts"], found["counts"], main))
    count = (np.array(similarity)[:, None] > tables.GRID).astype(float).sum(0)
    ET.fromstring(svg.density(tables.GRID.tolist(), [(count.tolist(), "red", "none")], main))


def test_more_neighbours_than_training_items_are_those_items(tmp_path: Path) -> None:
    """As fast, and in the same bytes."""
    found = []
    for k in (1000, 10**9):
        out = tmp_path / str(k)
        asked = audit_case.options(out, audit_case.sides(tmp_path), neighbours=k)
        run.audit(asked, [])
        found.append((asked.out / "nearest.parquet").read_bytes())
    assert found[0] == found[1]
    assert pq.read_metadata(asked.out / "nearest.parquet").num_rows < 10**6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--train", "{train}"], "give --test EMB_DIR"),
        (["--train", "nowhere", "--test", "{test}"], "nowhere (of --train) is no folder"),
        (["--train", "{train}", "--test-images", "{test}"], "name the encoder"),
        (["--train", "{train}", "--test", "{test}", "--thresholds", "95"], "cosine similarities"),
        (["--train", "{train}", "--test", "{test}", "--neighbours", "0"], "at least 1"),
        (["--train", "{train}", "--test", "{test}", "--memory", "0.1"], "at least 0.9"),
        (["--train", "{train}", "--test", "{test}", "--memory", "nan"], "at least 0.9"),
        (["--train", "{train}", "--test", "{test}", "--memory", "1e300"], "at least 0.9"),
        (["--train", "{train}", "--test", "{test}", "--device", "cuda:99"], "device 'cuda:99': "),
        (["--train", "{train}", "--test", "{test}", "--device", "meta"], "device 'meta': expected"),
        (["--train", "{train}", "--test", "{test}", "--device", ""], "device '': "),
        (["--train", "{train}", "--test", "{test}", "--encoder", "a:b"], "--encoder embeds images"),
        (["--train", "{train}", "--test", "{test}", "--out", "{train}/a"], "lies in {train}"),
    ],
)
def test_command_refuses_with_one_sentence(tmp_path: Path, words: list[str], message: str) -> None:
    given = audit_case.sides(tmp_path)
    done = audit_case.command("--out", tmp_path / "out", *(w.format(**given) for w in words))
    assert done.returncode == 1
    assert message.format(**given) in done.stderr and "Traceback" not in done.stderr
