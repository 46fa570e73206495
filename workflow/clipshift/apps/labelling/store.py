"""Labels on disk: a journal that is only appended to, and the table that is made of it.

Every label is one line of `{out}.journal`, on the disk (fsync) before the page is told so. The
table is derived: it is written beside and renamed, a moment after the last label and at the end,
and can be made again from the journal at any time. A kill therefore loses nothing that was
acknowledged: at most the table is a second old, and the next start brings it up to date.

Several threads and several processes may share a store. Each change takes an exclusive lock on the
journal and first reads what the others have appended. The lock is `flock`, which works on local
file systems and on NFS of Linux; where two machines write, one of them may not see it.
"""

import errno
import fcntl
import json
import os
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from clipshift.apps.labelling.table import LABELS, SCHEMA, read_labels, table_bytes
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import atomic, sha256_bytes, sha256_file


class Entry(NamedTuple):
    """A label with what the table says of its image."""

    label: int
    concept: str | None
    source: str | None


class Conflict(Exception):
    """A label is not what its sender believed: somebody else changed it. `now` is what it is."""

    def __init__(self, now: int | None) -> None:
        super().__init__(f"the label is {now}")
        self.now = now


class Store:
    """The labels of one output file. `labels` is {annotator: {key: Entry}}; read it in `locked`."""

    def __init__(self, out: Path) -> None:
        """Open or create the journal, and read it.

        Raises:
            ClipshiftError: the journal is damaged, or the table was changed by something else.
        """
        self.out = out
        self.journal = journal_path(out)
        self.labels: dict[str, dict[str, Entry]] = defaultdict(dict)
        self._stacks: dict[str, list[dict[str, Any]]] = defaultdict(list)  # what undo takes back
        self._done: dict[str, tuple[str, ...]] = {}  # requests, so that a repeated one acts once
        self._undone: dict[str, tuple[str, int | None] | None] = {}  # what they took back
        self._written: list[str] = []  # sha256 of the tables that were made of this journal
        self._covered = 0  # lines that the last of them holds
        self._offset = 0
        self._lines = 0
        self.changed = 0  # the last line that changed a label
        self._mutex = threading.RLock()
        out.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.journal, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        _sync_folder(out.parent)
        with self.locked():
            self._adopt()
        self.write()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone with the journal, and up to date with it."""
        with self._mutex:
            if self._file < 0:
                raise ClipshiftError("the page was ended; start it again to go on")
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                self._require_journal()
                self._read()
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def label_of(self, key: str, annotator: str) -> int | None:
        entry = self.labels[annotator].get(key)
        return entry.label if entry else None

    def annotators(self) -> list[str]:
        """Those who have labels, by name."""
        return sorted(name for name, given in self.labels.items() if given)

    def set(
        self, key: str, annotator: str, label: int | None, expected: int | None, request: str,
        concept: str | None = None, source: str | None = None,
    ) -> None:  # fmt: skip
        """Give an image a label, or take it away (None).

        Args:
            expected: what the sender believes the label to be now.
            request: identifies the request; one that was done before changes nothing.

        Raises:
            Conflict: the label is not the expected one.
            ValueError: no label, or the name of another request.
        """
        if label is not None and label not in range(len(LABELS)):
            raise ValueError(f"{label} is no label")
        with self.locked():
            if self._is_done(request, ("label", annotator, key, str(label))):
                return
            now = self.label_of(key, annotator)
            if now != expected:
                raise Conflict(now)
            event = {"op": "label", "id": request, "key": key, "annotator": annotator}
            self._append(event | {"label": label, "was": now, "concept": concept, "source": source})

    def undo(self, annotator: str, request: str) -> tuple[str, int | None] | None:
        """Take the annotator's last label back that was not taken back yet.

        Returns:
            the key and the label that it has again, or None where there is nothing to undo.
        """
        with self.locked():
            if self._is_done(request, ("undo", annotator)):
                return self._undone[request]
            if not self._stacks[annotator]:
                self._done[request], self._undone[request] = ("undo", annotator), None
                return None
            last = self._stacks[annotator][-1]
            event = {"op": "undo", "id": request, "key": last["key"], "annotator": annotator}
            about = {c: last[c] for c in ("concept", "source")}
            self._append(event | {"label": last["was"], "was": last["label"]} | about)
            return last["key"], last["was"]

    def _is_done(self, request: str, what: tuple[str, ...]) -> bool:
        """Whether a request was done before; one that asks for something else must not have its
        name."""
        if self._done.get(request, what) != what:
            raise ValueError(f"the id {request!r} was used for another request")
        return request in self._done

    def __len__(self) -> int:
        return sum(map(len, self.labels.values()))

    def table(self) -> pa.Table:
        """The labels as they are now (see `table.SCHEMA`)."""
        with self.locked():
            given = {name: dict(labels) for name, labels in self.labels.items()}
        return _table(given)

    def write(self) -> None:
        """Bring the table up to date. Its hash enters the journal first: so a table that was
        changed by anything else is known for it. Labels are given while it is made.

        Raises:
            ClipshiftError: the table was changed by something else; it is left as it is.
        """
        with self.locked():
            if self._is_current() or not (len(self) or self.out.exists()):
                return
            self._require_own_table()
            lines = self._lines
            given = {name: dict(labels) for name, labels in self.labels.items()}
        data = table_bytes(_table(given))
        digest = sha256_bytes(data)
        with self.locked():
            if self._covered > lines:
                return  # another process wrote a newer one
            self._require_own_table()
            if self._covered < self.changed or self._written[-1:] != [digest]:
                self._append({"op": "write", "sha256": digest, "lines": lines})
            with atomic(self.out) as stream:
                stream.write(data)

    def _is_current(self) -> bool:
        """Whether the table is there and holds every label: then none is made."""
        if self.changed > self._covered or not self._written or not self.out.exists():
            return False
        return sha256_file(self.out) == self._written[-1]

    def close(self) -> None:
        self.write()
        with self._mutex:
            os.close(self._file)
            self._file = -1

    def _adopt(self) -> None:
        """Take a table over that has no journal, or check that the journal's table is ours."""
        if not self.out.exists():
            return
        if self._lines == 0:
            table = read_labels(self.out)
            rows = [r | {"annotator": r["annotator"] or ""} for r in table.to_pylist()]
            # One line: it is there as a whole or not at all.
            self._append({"op": "adopt", "sha256": sha256_file(self.out), "rows": rows})
        else:
            self._require_own_table()

    def _require_own_table(self) -> None:
        if self.out.exists() and sha256_file(self.out) not in self._written:
            raise ClipshiftError(
                f"{self.out} was changed by something else than this page. To go on with it as it "
                f"is, move {self.journal} away; to go on with the labels of the page, move "
                f"{self.out} away"
            )

    def _require_journal(self) -> None:
        try:
            there = self.journal.stat()
        except FileNotFoundError:
            there = None
        if there is None or not os.path.samestat(there, os.fstat(self._file)):
            raise ClipshiftError(
                f"{self.journal} was moved or deleted while it was in use, so no label can be "
                "saved; put it back, or stop the page and start it again"
            )

    def _read(self) -> None:
        """Take in what was appended since the last look."""
        size = os.fstat(self._file).st_size
        if size <= self._offset:
            return
        data = os.pread(self._file, size - self._offset, self._offset)
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            # A writer was killed amid its line: nobody was told that it is saved.
            os.ftruncate(self._file, self._offset + whole)
        for event in self._events(data[:whole].splitlines()):
            self._lines += 1
            try:
                self._apply(event)
            except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
                raise self._damaged(self._lines, error) from error
        self._offset += whole

    def _events(self, lines: list[bytes]) -> list[Any]:
        try:
            # One text of JSON is read in a fraction of the time of many.
            found: list[Any] = json.loads(b"[" + b",".join(lines) + b"]")
            if len(found) == len(lines):
                return found
        except (ValueError, RecursionError):
            pass
        found = []
        for line in lines:
            try:
                found.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise self._damaged(self._lines + len(found) + 1, error) from error
        return found

    def _damaged(self, line: int, error: Exception) -> ClipshiftError:
        return ClipshiftError(
            f"{self.journal}: line {line} is damaged ({error!r}); restore the file from a backup, "
            "or take the line out: it is one label, the others are whole"
        )

    def _append(self, event: dict[str, Any]) -> None:
        """Write one line, on the disk when this returns, or nothing of it."""
        line = json.dumps(event, separators=(",", ":")).encode() + b"\n"
        size = os.fstat(self._file).st_size
        try:
            if os.write(self._file, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, size)
            error.filename = str(self.journal)
            raise
        self._read()

    def _apply(self, event: dict[str, Any]) -> None:
        op = event["op"]
        if op == "write":
            self._written.append(event["sha256"])
            self._covered = event.get("lines", self._lines)
            return
        self.changed = self._lines
        if op == "adopt":
            self._written.append(event["sha256"])
            for row in event["rows"]:
                self.labels[row["annotator"]][row["key"]] = _entry(row)
            return
        given = self.labels[event["annotator"]]
        if event["label"] is None:
            given.pop(event["key"], None)
        else:
            given[event["key"]] = _entry(event)
        what = (event["key"], str(event["label"])) if op == "label" else ()
        self._done[event["id"]] = (op, event["annotator"], *what)
        stack = self._stacks[event["annotator"]]
        if op == "label":
            stack.append(event)
        elif op == "undo":
            stack.pop()
            self._undone[event["id"]] = (event["key"], event["label"])
        else:
            raise ValueError(f"unknown op {op!r}")


def _entry(event: dict[str, Any]) -> Entry:
    entry = Entry(event["label"], event["concept"], event["source"])
    if type(event["key"]) is not str or type(event["annotator"]) is not str:
        raise TypeError("key and annotator are texts")
    if type(entry.label) is not int or not 0 <= entry.label < len(LABELS):
        raise ValueError(f"{entry.label!r} is no label")
    return entry


def _table(labels: dict[str, dict[str, Entry]]) -> pa.Table:
    """As `table.label_table`, of many labels in little time."""
    order = sorted((key, name) for name, given in labels.items() for key in given)
    entries = [labels[name][key] for key, name in order]
    columns = [
        [key for key, _ in order],
        *([entry[place] for entry in entries] for place in range(len(Entry._fields))),
        [name or None for _, name in order],
    ]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def journal_path(out: Path) -> Path:
    return out.with_name(f"{out.name}.journal")


def _sync_folder(folder: Path) -> None:
    """Make a new file's name durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
