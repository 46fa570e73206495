"""Where numbers come from, and why two differ: graphs of a few files, written by hand."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from snakemake.persistence import MetadataRecord

from clipshift.apps.runs import lineage as verb
from clipshift.core.errors import ClipshiftError
from clipshift.study import contents, last_run, lineage
from tests.unit.test_contents import Records

TABLE = "results/tables/accuracy.csv"
# Output -> rule, parameters and inputs; the model is an output folder.
JOBS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "results/pool.parquet": ("pool", {"seed": 0, "words": "it's"}, ["data/images.tar"]),
    "results/models/near": ("train", {"epochs": 2}, ["results/pool.parquet"]),
    "results/models/rand": ("train", {"epochs": 2}, ["results/pool.parquet"]),
    "results/eval/near.json": ("evaluate", {}, ["results/models/near"]),
    "results/eval/rand.json": ("evaluate", {}, ["results/models/rand"]),
    TABLE: ("table", {}, ["results/eval/near.json", "results/eval/rand.json"]),
}
TEXTS = {
    "results/pool.parquet": "pool", "results/models/near/weights.pt": "w1",
    "results/models/near/loss.csv": "l1", "results/models/rand/weights.pt": "w2",
    "results/eval/near.json": "e1", "results/eval/rand.json": "e2",
    TABLE: "split,set,top1,n\nnear,val,0.25,8\nrand,val,0.5,8\n",
}  # fmt: skip


def study(folder: Path, monkeypatch: pytest.MonkeyPatch, jobs: Any = JOBS, **texts: str) -> Path:
    """A finished run of some jobs."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name, text in (TEXTS | texts).items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    records = Records()
    for path, (rule, params, inputs) in jobs.items():
        records.of[path] = MetadataRecord(
            rule=rule,
            params=[repr(json.dumps(params))],
            input=inputs,
            starttime=150.0,
            endtime=160.0,
        )
    assert contents.record(records) == ""
    for started, commit in ((100, "one"), (140, "two"), (200, "three")):
        line = {"started": started, "command": "snakemake", "version": "1", "commit": commit}
        with last_run.HISTORY.open("a") as stream:
            stream.write(json.dumps(line | {"configuration": "c.json"}) + "\n")
    monkeypatch.chdir(folder.parent)
    return folder


def test_everything_behind_a_file_to_what_no_job_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = lineage.read(study(tmp_path / "a", monkeypatch))
    behind, outside = known.behind(known.of("results/eval/near.json"))
    model = ["results/models/near/loss.csv", "results/models/near/weights.pt"]
    assert (list(behind), outside) == ([*model, "results/pool.parquet"], ["data/images.tar"])
    assert known.run_of(known.of(TABLE))["commit"] == "two"  # type: ignore[index]
    assert lineage.loaded(known.of("results/pool.parquet")) == {"seed": 0, "words": "it's"}
    with pytest.raises(ClipshiftError, match=r"results/none\.csv is not named by"):
        known.of("results/none.csv")
    with pytest.raises(ClipshiftError, match="no run has ended here"):
        lineage.read(tmp_path)


def test_a_row_leads_to_its_own_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = study(tmp_path / "a", monkeypatch)
    lines = list(verb.lineage(folder, TABLE, ["split=rand"], everything=False))
    made_from = lines[lines.index("made from") + 1 : lines.index("behind it: 6 files")]
    assert [line.split()[0] for line in made_from] == ["results/eval/rand.json"]
    assert "  top1: 0.5" in lines and "  code: clipshift 1 two" in lines
    assert "  2 evaluate, 1 pool, 3 train" in lines and lines[-1] == "not as recorded: 0 files"
    for words, said in ((["set=val"], "2 rows have"), (["mistake=1"], "the columns are split")):
        with pytest.raises(ClipshiftError, match=said):
            list(verb.lineage(folder, TABLE, words, everything=False))


def test_files_that_changed_since_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = study(tmp_path / "a", monkeypatch)
    weights, pool = folder / "results/models/near/weights.pt", folder / "results/pool.parquet"
    date = weights.stat().st_mtime_ns
    weights.write_text("W1")
    os.utime(weights, ns=(date, date))  # only the content says it
    pool.unlink()
    (folder / "results/eval/rand.json").touch()
    ends = {
        every: [line.strip() for line in verb.lineage(folder, TABLE, [], every)][-3:]
        for every in (False, True)
    }
    assert ends[False][-2:] == ["not as recorded: 1 files", "results/pool.parquet is gone"]
    assert ends[True] == [
        "not as recorded: 2 files", "results/models/near/weights.pt has other content",
        "results/pool.parquet is gone",
    ]  # fmt: skip


def test_the_first_jobs_that_differ_are_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = study(tmp_path / "a", monkeypatch)
    jobs = JOBS | {"results/models/rand": ("train", {"epochs": 3}, ["results/pool.parquet"])}
    other = study(tmp_path / "b", monkeypatch, jobs, **{
        "results/models/rand/weights.pt": "w3", "results/eval/rand.json": "e3",
        TABLE: "split,set,top1,n\nnear,val,0.25,8\nrand,val,0.75,8\nfar,val,0.1,8\n",
    })  # fmt: skip
    assert list(verb.diff(one, other, [], everything=False)) == [
        f"{TABLE}: 2 cells differ",
        "  rand val top1: 0.5, and 0.75",
        f"  far val: only in {other / TABLE}",
        "  because of",
        "    results/models/rand/weights.pt: epochs: 2, and 3",
        "0 of 1 files are the same",
    ]
    shutil.rmtree(other)
    other = study(tmp_path / "b", monkeypatch, **{"results/eval/near.json": "e9", TABLE: "x\n1\n"})
    lines = list(verb.diff(one, other, [TABLE], everything=False))
    assert "    results/eval/near.json: other content from the same inputs and parameters" in lines
    assert list(verb.diff(one, one, [], everything=False)) == ["1 of 1 files are the same"]
