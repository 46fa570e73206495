"""SHA-256 of files, remembered while size, inode and times of change stay the same."""

from pathlib import Path
from typing import Any

from clipshift.core.files import sha256_file, sha256_json
from clipshift.core.output_folder import read_record, write_record


class Hashes:
    """A memory of hashes that lies in a file; a broken or missing file only costs time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, list[Any]] = (read_record(path, "files") or {"files": {}})["files"]
        self.used: dict[str, list[Any]] = {}

    def of(self, path: Path) -> str:
        name, stat = str(path.resolve()), path.stat()
        now = [stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns]
        entry = self.known.get(name)
        if entry is None or entry[:4] != now:
            entry = [*now, sha256_file(path)]
            self.known[name] = entry
        self.used[name] = entry
        return str(entry[4])

    def save(self) -> None:
        """Keep what this run used."""
        write_record(self.path, {"files": self.used})


def identity(value: Any) -> str:
    """A short name of any JSON value."""
    return sha256_json(value)[:16]
