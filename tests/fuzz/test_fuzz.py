"""A tenth of the fuzzing, the corpus of what failed once, and controls of every verdict."""

import json
import os
import random
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import photo
from tests.formats_case import tar
from tests.fuzz import corpus
from tests.fuzz.broken import Changed, Good
from tests.fuzz.isolated import GIB, Limits, isolated
from tests.fuzz.mutants import KINDS, Unsuitable, fitting, mutate
from tests.fuzz.mutants.tars import members, write
from tests.fuzz.reader import Reader
from tests.fuzz.readers import READERS
from tests.fuzz.runs import chosen, run_all
from tests.fuzz.table import table
from tests.fuzz.verdicts import VERDICTS, Verdict, judge, one, prepare

MUTANTS = int(os.environ.get("CLIPSHIFT_MUTANTS", "200"))
QUICK = Limits(seconds=1)


@pytest.mark.timeout(1200)
def test_a_tenth_of_the_mutants_and_the_corpus(tmp_path: Path) -> None:
    found = run_all(chosen(None), MUTANTS, 1, tmp_path)
    assert len(found) >= MUTANTS
    assert not any(f.is_fault for f in found), table(found)


def verdict(reader: Reader, folder: Path, text: str, limits: Limits = QUICK) -> Verdict:
    """The verdict where the input's only file holds `text`."""
    base = prepare(reader, folder / "base", limits)
    (folder / "input").mkdir()
    (folder / "input/a.json").write_text(text)
    return judge(reader, base, folder / "input", folder / "out", "a.json", limits)


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("right", "right"), ("clean", "clean"), ("usage", "usage"), ("unnamed", "unnamed"),
        ("traceback", "traceback"), ("WRONG", "WRONG"), ("oracle", "oracle"), ("hang", "hang"),
        ("blocked", "hang"), ("memory", "memory"), ("address", "memory"), ("signal", "signal"),
        ("exit", "traceback"),
    ],
)  # fmt: skip
def test_every_verdict_is_given_to_a_reader_that_earns_it(
    tmp_path: Path, way: str, expected: str
) -> None:
    limits = replace(QUICK, seconds=60) if way in ("memory", "address") else QUICK
    found = verdict(Changed(way), tmp_path, "[7, 8]", limits)
    assert found.verdict == expected, found
    assert found.verdict in VERDICTS
    assert found.is_fault == (expected not in ("clean", "right", "usage"))


def test_what_must_be_refused_is_wrong_where_it_is_read(tmp_path: Path) -> None:
    assert verdict(Changed("right"), tmp_path, '"must refuse"').verdict == "WRONG"


def test_a_reader_that_cannot_read_its_own_input_is_none(tmp_path: Path) -> None:
    class Never(Good):
        name = "broken.never"

        def build(self, folder: Path) -> None:
            (folder / "a.json").write_text("[0]")

    with pytest.raises(AssertionError, match=r"broken\.never cannot read its own input"):
        prepare(Never(), tmp_path)


def test_a_good_reader_has_no_fault(tmp_path: Path) -> None:
    reader = Good()
    base = prepare(reader, tmp_path / "base")
    found = [one(reader, base, tmp_path / "work", f"0.{i}", QUICK) for i in range(40)]
    assert {f.verdict for f in found} <= {"clean", "right", "hang"}
    # It opens what it is given: a FIFO and an endless file are what it cannot refuse.
    assert all(f.mutant in ("node-fifo", "node-endless") for f in found if f.is_fault)
    assert sum(f.verdict == "clean" for f in found) > 10


def lied(value: Any) -> tuple[Any, bool]:
    """`value` with its first leaf changed, and whether there was one."""
    if isinstance(value, dict):
        for key in value:
            changed, done = lied(value[key])
            if done:
                return {**value, key: changed}, True
        return value, False
    if isinstance(value, list):
        for i, item in enumerate(value):
            changed, done = lied(item)
            if done:
                return [*value[:i], changed, *value[i + 1 :]], True
        return value, False
    if isinstance(value, bool):
        return not value, True
    if hasattr(value, "shape"):
        return (value.astype(int) + 100) % 256, True
    if isinstance(value, int | float):
        return value + max(0.5, abs(value) / 2), True
    return (f"{value}-other", True) if isinstance(value, str) else (value, False)


@pytest.mark.parametrize("name", sorted(READERS))
def test_every_oracle_sees_a_value_that_is_another_one(name: str, tmp_path: Path) -> None:
    """The reader reads rightly and tells one wrong value: the oracle must disagree."""
    reader = READERS[name]
    base = prepare(reader, tmp_path / "base", Limits(seconds=120))
    if name in ("svg.render", "args.words"):
        pytest.skip("it has no values: what counts is how it ends")
    wrong, changed = lied(base.value)
    assert changed
    truth = isolated(lambda: reader.truth(base.folder), Limits(seconds=120))
    assert truth.how == "value", truth.said
    assert reader.agrees(base.value, truth.value)
    assert not reader.agrees(wrong, truth.value)
    assert not reader.agrees(wrong, base.value)


def test_a_mutant_is_the_same_wherever_and_whenever(tmp_path: Path) -> None:
    reader = READERS["tar.read_tar"]
    base = prepare(reader, tmp_path / "base")
    for seed in ("3.1", "3.2", "3.3"):
        found = []
        for place in ("a", "b"):
            made = one(reader, base, tmp_path / place, seed)
            found.append((made.mutant, made.file, corpus.contents(tmp_path / place / "input")))
        assert found[0] == found[1]


def test_every_kind_of_mutant_changes_a_file_of_some_reader(tmp_path: Path) -> None:
    """A kind that fits nowhere would never be drawn."""
    samples: dict[str, Path] = {}
    for reader in READERS.values():
        folder = tmp_path / reader.name
        folder.mkdir()
        assert isolated(lambda r=reader, f=folder: r.build(f), Limits(seconds=120)).how == "value"
        for path in reader.targets(folder):
            samples.setdefault("args" if path.name == "args.json" else path.suffix, path)
    drawn = {k for path in samples.values() for kinds in fitting(path).values() for k in kinds}
    assert drawn == set(KINDS)
    for name, (_, change) in KINDS.items():
        assert any(_changes(path, name, change) for path in samples.values()), name


def _changes(path: Path, name: str, change: Any) -> bool:
    if name not in [k for kinds in fitting(path).values() for k in kinds]:
        return False
    folder = path.parent
    for seed in range(8):
        before = corpus.contents(folder)
        saved = {p: p.read_bytes() for p in folder.iterdir() if p.is_file()}
        try:
            change(path, random.Random(seed))
        except Unsuitable:
            continue
        finally:
            after = corpus.contents(folder)
            for p in folder.iterdir():
                if p not in saved and (p.is_symlink() or not p.is_dir()):
                    p.unlink()
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            for p, data in saved.items():
                p.unlink(missing_ok=True)
                p.write_bytes(data)
        if before != after:
            return True
    return False


def test_tars_are_rebuilt_as_they_were(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", [("a.jpg", photo(1)), ("a.cls", b"0"), ("b.jpg", photo(2))])
    with tarfile.open(path) as before:
        wanted = [(m.name, m.size) for m in before]
    write(path, members(path))
    with tarfile.open(path) as after:
        assert [(m.name, m.size) for m in after] == wanted


def test_the_corpus_restores_what_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "FOLDER", tmp_path / "corpus")
    corpus.FOLDER.mkdir()
    base, other = tmp_path / "base", tmp_path / "other"
    for folder in (base, other):
        folder.mkdir()
        for name in "abcd":
            (folder / name).write_text(name)
    (other / "a").write_bytes(b"\xff")
    (other / "b").unlink()
    (other / "c").unlink()
    os.mkfifo(other / "c")
    (other / "d").unlink()
    (other / "d").symlink_to("d")
    entry = corpus.keep(base, other, "x.y~bytes-flip~0.1")
    assert entry
    corpus.restore(entry, base, tmp_path / "restored")
    assert corpus.contents(tmp_path / "restored") == corpus.contents(other)
    (other / "a").write_bytes(bytes(corpus.MAX_BYTES))
    assert corpus.keep(base, other, "x.y~bytes-flip~0.2") is None


def test_entries_of_the_corpus_are_small_and_of_readers_that_are_there() -> None:
    for entry in corpus.entries():
        assert corpus.reader_of(entry) in READERS, entry.name
        assert entry.stat().st_size <= corpus.MAX_BYTES
        assert json.loads(entry.read_text()), entry.name


def test_the_table_counts_and_names_each_fault_once() -> None:
    found = [
        Verdict("tar.a", "clean"), Verdict("tar.b", "right"),
        Verdict("tar.b", "traceback", "tar-name", "0.7", said="x\nKeyError: 'k1' in /tmp/a"),
        Verdict("tar.b", "traceback", "tar-type", "0.9", said="x\nKeyError: 'k2' in /tmp/b"),
        Verdict("csv.a", "hang", "node-fifo", "0.8"),
    ]  # fmt: skip
    lines = table(found).splitlines()
    assert lines[1].split() == ["csv", *["0", "0", "0", "0", "0", "0", "0", "1", "0", "0", "1"]]
    assert lines[2].split() == ["tar", *["1", "1", "0", "0", "2", "0", "0", "0", "0", "0", "4"]]
    assert lines[3].split() == ["all", *["1", "1", "0", "0", "2", "0", "0", "1", "0", "0", "5"]]
    assert lines[5:] == [
        "csv.a hang 1 |  | node-fifo | python -m tests.fuzz --reader csv.a --only 0.8",
        "tar.b traceback 2 | KeyError: 'kN' in PATH | tar-name, tar-type | "
        "python -m tests.fuzz --reader tar.b --only 0.7",
    ]


def test_mutants_are_of_the_form_of_their_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    names = set()
    for seed in range(60):
        path.write_text("a,b\n1,2\n")
        (tmp_path / "b.csv").write_text("a,b\n3,4\n")
        names.add(mutate(path, random.Random(seed)).partition("-")[0])
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        for other in tmp_path.iterdir():
            other.unlink()
    assert names == {"bytes", "node", "folder", "text", "csv"}


def test_limits_are_those_of_the_measure() -> None:
    assert (Limits().seconds, Limits().resident) == (10, 2 * GIB)
