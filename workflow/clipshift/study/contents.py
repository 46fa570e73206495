"""Results that were copied with other dates (`cp -r`, an unpacked archive) are known by content.

Snakemake goes by dates: in such a copy an input may be newer than what was made of it, and all
would be made again. So each run ends with a record of every file that a job made: its size, date
and SHA-256, and with which parameters. The record's own date says whether it was copied; then each
file with the recorded content gets its recorded date back, and Snakemake decides as it would have
where the files came from. Whatever has other content counts as new. `lineage` reads it, too.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clipshift.core.files import sha256_file, write_text

RESULTS = Path("results")
RECORD = RESULTS / "studies/contents.jsonl"
# Below results: what no job declares as its output.
LEFT_OUT = {"logs", "work", "studies"}
# Without records, but their dates count as those of outputs.
BENCHMARKS = RESULTS / "benchmarks"
# What the end of a run may take for reading new files; the rest is read at the end of the next.
SECONDS = 600
# In nanoseconds. Archives and some file systems round dates: to two seconds, or to microseconds.
SECOND = 10**9
# Files that a message lists.
SHOWN = 3
# Of Snakemake's record of a job: what decides whether it runs again, and what it was made from.
KEPT = (
    "rule", "params", "input", "starttime", "endtime", "input_checksums", "record_format_version",
)  # fmt: skip

Entry = dict[str, Any]


def record(persistence: Any, seconds: float = SECONDS) -> str:
    """Write the record; returns what is left to read, for people.

    Args:
        persistence: Snakemake's records of finished jobs.
    """
    persistence.deactivate_cache()  # it remembers that the last job had no record before
    known, entries, left = read(), [], []
    until = time.monotonic() + seconds
    files = [(file, file.stat()) for file in _files()]
    for file, stat in sorted(files, key=lambda item: item[1].st_size):
        entry = known.get(str(file))
        if entry is None or (entry["size"], entry["date"]) != (stat.st_size, stat.st_mtime_ns):
            jobs = _jobs(file, persistence)
            if not jobs and BENCHMARKS not in file.parents:
                continue
            if time.monotonic() > until:
                left.append(stat.st_size)
                continue
            entry = {"path": str(file), "size": stat.st_size, "date": stat.st_mtime_ns}
            entry |= {"sha256": sha256_file(file), "jobs": jobs}
        entries.append(entry)
    if entries:
        _write(entries)
    if not left:
        return ""
    return (
        f"{RECORD}: {len(left)} files ({sum(left) / 1e9:,.0f} GB) are not read yet; the end of "
        "the next run goes on. A copy of the results would make them again.\n"
    )


def restore(persistence: Any) -> str:
    """Give files their recorded dates, and Snakemake its records, in a copy that lacks them.

    Returns a text for people.
    """
    entries = read()
    made = next((entry for entry in entries.values() if entry["jobs"]), None)
    if made is None or not (_copied() or _lost(made, persistence)):
        return ""
    there = {path: entry for path, entry in entries.items() if Path(path).is_file()}
    size = sum(entry["size"] for entry in there.values()) / 1e9
    print(
        "results/ was copied without its dates or .snakemake: "
        f"reading {len(there)} files ({size:.1f} GB)",
        file=sys.stderr,
    )
    try:
        same = {path: entry for path, entry in there.items() if _is_same(Path(path), entry)}
        other = [path for path in there if path not in same]
        for path in other:
            os.utime(path)
        for path, entry in same.items():
            os.utime(path, ns=(entry["date"], entry["date"]))
            _remember(entry["jobs"], persistence)
        _write(list(same.values()))
    except OSError as error:
        return (
            f"The dates of results/ cannot be set back ({error}): files may be made again that "
            "need not be\n"
        )
    persistence.deactivate_cache()
    if not other:
        return "All are as they were recorded\n"
    shown = ", ".join(other[:SHOWN]) + f" and {len(other) - SHOWN} more" * (len(other) > SHOWN)
    return f"{len(same)} are as they were recorded; of other content, so new: {shown}\n"


def _copied() -> bool:
    """Whether the record has another date than the one that it says."""
    with RECORD.open() as stream:
        written = json.loads(stream.readline())["written"]
    date = RECORD.stat().st_mtime_ns
    rounded = SECOND // 10**6 if date % SECOND else 2 * SECOND
    return abs(date - int(written)) > rounded


def _lost(entry: Entry, persistence: Any) -> bool:
    """Whether Snakemake does not know a file that a job of its made."""
    return Path(entry["path"]).is_file() and not any(map(persistence._read_record, entry["jobs"]))


def _is_same(file: Path, entry: Entry) -> bool:
    return bool(file.stat().st_size == entry["size"] and sha256_file(file) == entry["sha256"])


def _files() -> Iterator[Path]:
    for folder, folders, names in os.walk(RESULTS):
        if Path(folder) == RESULTS:
            folders[:] = [name for name in folders if name not in LEFT_OUT]
        folders.sort()
        yield from (
            Path(folder, n)
            for n in sorted(names)
            if n[-5:] != ".part" and Path(folder, n).is_file()
        )


def _jobs(file: Path, persistence: Any) -> dict[str, Entry]:
    """Snakemake's record of a file, or of the output folder that it lies in."""
    for path in (str(file), *map(str, file.parents[:-2])):
        if (found := persistence._read_record(path)) is not None:
            return {path: {key: found[key] for key in KEPT}}
    return {}


def _remember(jobs: dict[str, Entry], persistence: Any) -> None:
    """Give Snakemake its record back, where `.snakemake` was not copied."""
    from snakemake.persistence import MetadataRecord

    for path, job in jobs.items():
        if persistence._read_record(path) is None:
            persistence._write_record(path, MetadataRecord(**job))
            persistence.deactivate_cache()


def read(folder: Path = Path()) -> dict[str, Entry]:
    """Path -> entry; none where there is no record, or a damaged one, which is written anew."""
    try:
        first, *lines = map(json.loads, (folder / RECORD).read_text().splitlines())
        int(first["written"])
        return {entry["path"]: entry for entry in lines}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _write(entries: list[Entry]) -> None:
    """The record, with the date that it says."""
    now = time.time_ns()
    rows = [{"written": now}, *sorted(entries, key=lambda entry: str(entry["path"]))]
    write_text(RECORD, "".join(json.dumps(row) + "\n" for row in rows))
    os.utime(RECORD, ns=(now, now))
