"""Labels on disk: nothing that was acknowledged is ever lost."""

import fcntl
import json
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pytest

from clipshift.apps.labelling import store as stored
from clipshift.apps.labelling.store import Conflict, Store, journal_path
from clipshift.apps.labelling.table import SCHEMA, consensus, label_table, read_all, read_labels
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import write_parquet


def rows(path: Path) -> list[tuple[str, int, str | None]]:
    return [(r["key"], r["label"], r["annotator"]) for r in read_labels(path).to_pylist()]


def test_labels_survive_without_a_close(tmp_path: Path) -> None:
    out = tmp_path / "labels.parquet"
    store = Store(out)
    store.set("b", "ann", 1, None, "r1", concept="cat", source="photos")
    store.set("a", "ben", 2, None, "r2")
    store.set("b", "ann", 0, 1, "r3", concept="cat", source="photos")
    assert not out.exists()  # only the journal: as after a kill
    Store(out).close()
    assert rows(out) == [("a", 2, "ben"), ("b", 0, "ann")]
    table = read_labels(out)
    assert table.schema.equals(SCHEMA)
    assert table["concept"].to_pylist() == [None, "cat"]


def test_bytes_depend_on_labels_only(tmp_path: Path) -> None:
    labels = [("k2", "ann", 1), ("k1", "ben", 0), ("k1", "ann", 2), ("k10", "ann", 0)]
    paths = []
    for name, order in (("one", labels), ("two", labels[::-1])):
        store = Store(tmp_path / name / "labels.parquet")
        for i, (key, annotator, label) in enumerate(order):
            store.set(key, annotator, label, None, f"{i}")
        if name == "two":  # a detour on the way
            store.set("k3", "ann", 1, None, "more")
            assert store.undo("ann", "back") == ("k3", None)
        store.close()
        paths.append(store.out)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert [r[0] for r in rows(paths[0])] == ["k1", "k1", "k10", "k2"]


def test_undo_goes_back_step_by_step_and_over_restarts(tmp_path: Path) -> None:
    out = tmp_path / "labels.parquet"
    store = Store(out)
    store.set("a", "ann", 0, None, "1")
    store.set("a", "ann", 1, 0, "2")
    store.set("b", "ben", 2, None, "3")
    store.close()
    store = Store(out)
    assert store.undo("ann", "4") == ("a", 0)
    assert store.undo("ann", "5") == ("a", None)
    assert store.undo("ann", "6") is None
    assert store.undo("ben", "7") == ("b", None)  # everybody has their own
    store.close()
    assert rows(out) == []


def test_repeated_request_acts_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "labels.parquet")
    store.set("a", "ann", 0, None, "1")
    store.set("a", "ann", 1, 0, "2")
    store.set("a", "ann", 1, 0, "2")  # its answer was lost, and it was sent again
    assert store.undo("ann", "3") == ("a", 0)
    assert store.undo("ann", "3") == ("a", 0)
    assert store.label_of("a", "ann") == 0


def test_label_of_somebody_else_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "labels.parquet"
    one, two = Store(out), Store(out)  # two processes on one file, as far as the file can tell
    one.set("a", "ann", 0, None, "1")
    with pytest.raises(Conflict) as conflict:
        two.set("a", "ann", 1, None, "2")
    assert conflict.value.now == 0
    two.set("a", "ann", 1, 0, "3")
    two.set("a", "ben", 2, None, "4")
    one.write()
    two.write()
    assert rows(out) == [("a", 1, "ann"), ("a", 2, "ben")]


def _many(out: Path, name: str) -> None:
    store = Store(out)
    for i in range(60):
        store.set(f"k{i:02d}", name, i % 3, None, f"{name}-{i}")
        if i % 20 == 0:
            store.write()
    store.close()


def test_label_waits_for_whoever_holds_the_journal(tmp_path: Path) -> None:
    store = Store(tmp_path / "labels.parquet")
    with journal_path(store.out).open("rb") as other:  # as another process would
        fcntl.flock(other, fcntl.LOCK_EX)
        labelling = threading.Thread(target=store.set, args=("a", "ann", 0, None, "1"))
        labelling.start()
        labelling.join(0.3)
        assert labelling.is_alive() and other.read() == b""
        fcntl.flock(other, fcntl.LOCK_UN)
        labelling.join(10)
    assert store.label_of("a", "ann") == 0


def test_processes_and_threads_at_once_lose_nothing(tmp_path: Path) -> None:
    out = tmp_path / "labels.parquet"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_many, args=(out, f"p{i}")) for i in range(2)]
    store = Store(out)

    def label(part: int) -> None:
        for i in range(part, 60, 3):
            store.set(f"k{i:02d}", "threads", i % 3, None, f"threads-{i}")

    threads = [threading.Thread(target=label, args=(part,)) for part in range(3)]
    for job in (*processes, *threads):
        job.start()
    for job in (*processes, *threads):
        job.join()
    assert [p.exitcode for p in processes] == [0, 0]
    store.close()
    expected = {(f"k{i:02d}", i % 3, name) for i in range(60) for name in ("p0", "p1", "threads")}
    assert set(rows(out)) == expected and len(rows(out)) == 180


KILLED = """
import sys
from pathlib import Path
from clipshift.apps.labelling.store import Store
store = Store(Path(sys.argv[1]))
for i in range(100000):
    store.set(f"k{i:06d}", "ann", i % 3, None, str(i))
    print(i, flush=True)
    if i % 7 == 0:
        store.write()
"""


@pytest.mark.parametrize("after", [1, 8, 30])
def test_kill_loses_no_acknowledged_label(tmp_path: Path, after: int) -> None:
    out = tmp_path / "labels.parquet"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(out)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        last = -1
        for line in process.stdout:
            last = int(line)
            if last >= after:
                process.kill()
                break
        for line in process.stdout:  # what it acknowledged before the kill reached it
            last = int(line) if line.endswith("\n") else last
    Store(out).close()
    found = rows(out)
    assert len(found) >= last + 1
    assert found == [(f"k{i:06d}", i % 3, "ann") for i in range(len(found))]


def test_torn_line_is_dropped_and_a_damaged_one_named(tmp_path: Path) -> None:
    out = tmp_path / "labels.parquet"
    store = Store(out)
    store.set("a", "ann", 0, None, "1")
    store.close()
    journal = journal_path(out)
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op":"label","key":"b","ann')
    Store(out).close()
    assert rows(out) == [("a", 0, "ann")] and journal.read_bytes() == whole
    journal.write_bytes(whole + b"{]\n")
    with pytest.raises(ClipshiftError, match=r"labels.parquet.journal: line 3 is damaged"):
        Store(out)


def test_full_disk_acknowledges_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "labels.parquet"
    store = Store(out)
    store.set("a", "ann", 0, None, "1")
    before = journal_path(out).read_bytes()
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:9]))
    with pytest.raises(OSError, match="No space left"):
        store.set("b", "ann", 1, None, "2")
    assert journal_path(out).read_bytes() == before
    monkeypatch.setattr(os, "write", write)
    store.set("b", "ann", 1, None, "2")
    store.close()
    assert rows(out) == [("a", 0, "ann"), ("b", 1, "ann")]


def test_table_without_journal_is_adopted(tmp_path: Path) -> None:
    out = tmp_path / "labels.parquet"
    blank = {"concept": "cat", "source": None}
    given = [
        {"key": "a", "label": 0, "annotator": None} | blank,
        {"key": "b", "label": 1, "annotator": "ben"} | blank,
    ]
    write_parquet(out, label_table(given))
    store = Store(out)
    store.set("b", "ann", 2, None, "1")
    store.close()
    assert rows(out) == [("a", 0, None), ("b", 2, "ann"), ("b", 1, "ben")]
    out.unlink()  # the journal alone has it all
    Store(out).close()
    assert rows(out) == [("a", 0, None), ("b", 2, "ann"), ("b", 1, "ben")]


def test_foreign_change_of_the_table_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "labels.parquet"
    store = Store(out)
    store.set("a", "ann", 0, None, "1")
    store.write()
    foreign = label_table([dict.fromkeys(SCHEMA.names) | {"key": "z", "label": 1}])
    write_parquet(out, foreign)
    store.set("b", "ann", 0, None, "2")  # still saved, in the journal
    with pytest.raises(ClipshiftError, match="changed by something else"):
        store.write()
    assert rows(out) == [("z", 1, None)]
    with pytest.raises(ClipshiftError, match=r"move .*labels.parquet.journal away"):
        Store(out)
    out.unlink()
    Store(out).close()
    assert rows(out) == [("a", 0, "ann"), ("b", 0, "ann")]


def test_journal_that_is_gone_is_an_error(tmp_path: Path) -> None:
    store = Store(tmp_path / "labels.parquet")
    store.set("a", "ann", 0, None, "1")
    store.journal.unlink()
    with pytest.raises(ClipshiftError, match="no label can be saved"):
        store.set("b", "ann", 0, None, "2")


def test_journal_line_is_plain_json(tmp_path: Path) -> None:
    store = Store(tmp_path / "labels.parquet")
    store.set("ä\n", "ann", 0, None, "1")
    (line,) = journal_path(store.out).read_text().splitlines()
    assert json.loads(line)["key"] == "ä\n"


def test_tables_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    for table, message in (
        ({"name": ["a"]}, r"lacks the columns \['key', 'label'\]"),
        ({"key": ["a"], "label": [3]}, r"row 0 \('a'\) has the label 3"),
        ({"key": ["a"], "label": ["cat"]}, "the column label is not int8"),
        ({"key": [None, "a"], "label": [0, 0]}, "1 rows have no key"),
        ({"key": ["a", "a"], "label": [0, 1]}, "'a' has two labels of the annotator None"),
    ):
        write_parquet(path, pa.table(table))
        with pytest.raises(ClipshiftError, match=message):
            read_labels(path)
    with pytest.raises(ClipshiftError, match="is no file"):
        read_labels(tmp_path / "absent.parquet")


def test_tables_of_sources_and_of_a_person_are_read_as_one(tmp_path: Path) -> None:
    sources, person = tmp_path / "sources.parquet", tmp_path / "person.parquet"
    blank = {"concept": None, "source": "photos"}
    row = {"key": "a", "label": 0, "annotator": None} | blank
    write_parquet(sources, label_table([row, row | {"key": "b"}]))
    write_parquet(person, label_table([row | {"annotator": "ann", "label": 1}]))
    whole = read_all([sources, person])
    assert len(whole) == 3 and consensus(whole).ties == ["a"]
    with pytest.raises(ClipshiftError, match=r"'a' has two labels of the annotator None"):
        read_all([sources, sources])


def test_consensus_of_every_kind() -> None:
    votes = {
        "alone": {"ann": 1},
        "equal": {"ann": 0, "ben": 0},
        "most": {"ann": 0, "ben": 2, "cem": 2},
        "settled": {"ann": 0, "ben": 1, "adjudicated": 0},
        "tie": {"ann": 0, "ben": 1},
        "three": {"ann": 0, "ben": 1, "cem": 2},
    }
    table = label_table(
        {"key": key, "label": label, "annotator": name, "concept": key[:1], "source": None}
        for key, given in votes.items()
        for name, label in given.items()
    )
    made = consensus(table)
    labels = dict(zip(made.table["key"].to_pylist(), made.table["label"].to_pylist(), strict=True))
    assert labels == {"alone": 1, "equal": 0, "most": 2, "settled": 0, "tie": 2, "three": 2}
    assert made.ties == ["three", "tie"]
    assert made.counts == {
        "one annotator": 1, "all agree": 1, "majority": 1, "adjudicated": 1, "tie": 2,
    }  # fmt: skip
    assert made.table.schema.equals(SCHEMA)
    assert set(made.table["annotator"].to_pylist()) == {"consensus"}
    dropped = consensus(table, ties="drop")
    assert dropped.table["key"].to_pylist() == ["alone", "equal", "most", "settled"]
    # What was made before is no vote.
    assert consensus(pa.concat_tables([table, made.table])).table.equals(made.table)


def test_a_table_that_holds_every_label_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither at the start nor at the end: of many labels that takes seconds."""
    store = Store(tmp_path / "labels.parquet")
    store.set("a", "ann", 0, None, "1")
    store.close()
    made: list[int] = []
    real = stored.table_bytes
    monkeypatch.setattr(stored, "table_bytes", lambda table: made.append(len(table)) or real(table))
    Store(store.out).close()
    assert made == []
    store = Store(store.out)
    store.set("b", "ann", 1, None, "2")
    store.write()
    store.write()
    store.close()
    assert made == [2] and rows(store.out) == [("a", 0, "ann"), ("b", 1, "ann")]
    store.out.unlink()
    Store(store.out).close()
    assert made == [2, 2] and len(rows(store.out)) == 2


def test_a_label_given_while_the_table_is_made_is_in_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "labels.parquet")
    store.set("a", "ann", 0, None, "1")
    real = stored.table_bytes

    def slow(table: pa.Table) -> bytes:
        if len(table) == 1:
            store.set("b", "ann", 1, None, "2")  # nobody waits for the table
        return real(table)

    monkeypatch.setattr(stored, "table_bytes", slow)
    store.write()
    assert rows(store.out) == [("a", 0, "ann")]
    Store(store.out).close()  # as after a kill: the journal says what the table lacks
    assert rows(store.out) == [("a", 0, "ann"), ("b", 1, "ann")]


def test_tables_are_those_of_the_plain_way(tmp_path: Path) -> None:
    store = Store(tmp_path / "labels.parquet")
    given = [("b", "ann", 1), ("a", "", 0), ("a", "ben", 2), ("ä", "ann", 0), ("B", "ann", 2)]
    for number, (key, name, label) in enumerate(given):
        store.set(key, name, label, None, str(number), concept=key, source=None)
    plain = label_table(
        {"key": k, "annotator": a or None, "label": i, "concept": k, "source": None}
        for k, a, i in given
    )
    assert store.table().equals(plain)
    store.close()
    assert store.out.read_bytes() == stored.table_bytes(plain)


def test_an_undo_of_nothing_that_is_repeated_takes_nothing_back(tmp_path: Path) -> None:
    store = Store(tmp_path / "labels.parquet")
    assert store.undo("ann", "1") is None
    store.set("a", "ann", 0, None, "2")
    assert store.undo("ann", "1") is None  # its answer was lost, and it was sent again
    assert store.label_of("a", "ann") == 0


@pytest.mark.parametrize(
    "line",
    [b'{"op":"label"}', b"[" * 100_000, b'"op"', b'{"op":"undo","id":"x","key":"a","annotator":"n",'
     b'"label":null,"was":1,"concept":null,"source":null}', b'1,{"op":"write","sha256":"a"}'],
)  # fmt: skip
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes) -> None:
    store = Store(tmp_path / "labels.parquet")
    store.set("a", "ann", 0, None, "1")
    with journal_path(store.out).open("ab") as journal:
        journal.write(line + b"\n")
    with pytest.raises(ClipshiftError, match="line 2 is damaged"):
        Store(store.out)
