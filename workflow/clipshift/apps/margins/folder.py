"""The output folder of `clipshift margins`: its files, the claim of its inputs, what is whole.

`OUT/run.json` claims the folder for the inputs that decide every row, `OUT/thresholds/{test}.json`
and `OUT/certificates/{shard}.json` hold the hashes of what each was made of and of its tables,
`OUT/manifest.json` is written last.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clipshift.core.errors import ClipshiftError
from clipshift.core.file_identity import differing, file_identity, identities
from clipshift.core.files import sha256_json
from clipshift.core.output_folder import MANIFEST, read_record, write_record
from clipshift.similarity.embeddings import list_shards, shard_paths
from clipshift.similarity.given import Given, Names

KIND = "margins"
NEIGHBOURS = "{}.neighbours.parquet"
DENSITY = "{}.density.parquet"
CERTIFICATE = ("shard", "sides", "rows", "tests", "inputs", "outputs")


@dataclass(frozen=True)
class Folder:
    """Where a run's files lie; `damaged` collects what had to be made again."""

    out: Path
    damaged: list[Path] = field(default_factory=list)

    def table(self, test: str, shard: str) -> Path:
        return self.out / test / f"{shard}.parquet"

    def thresholds(self, test: str) -> Path:
        return self.out / "thresholds" / f"{test}.parquet"

    def certificate(self, shard: str) -> Path:
        return self.out / "certificates" / f"{shard}.json"

    def neighbours(self, test: str) -> tuple[Path, Path]:
        return self.out / NEIGHBOURS.format(test), self.out / DENSITY.format(test)

    def given(self, name: str) -> Path:
        return self.out / "given" / name.replace(" ", "-")

    @property
    def run(self) -> Path:
        return self.out / "run.json"

    @property
    def manifest(self) -> Path:
        return self.out / MANIFEST

    def say_damaged(self, path: Path) -> None:
        self.damaged.append(path)
        print(f"{path} is damaged, missing or of an earlier version; made again", file=sys.stderr)


def side_files(inputs: Mapping[str, Path]) -> dict[str, Any]:
    """Identities of all files of the sides but the pool: they decide every row of a run."""
    return {
        name: {p.name: file_identity(p) for s in list_shards(path) for p in shard_paths(path, s)}
        for name, path in inputs.items()
        if name != "pool"
    }


def pool_files(pool: Path, shard: str) -> dict[str, Any]:
    """Identities of the files of a shard of the pool."""
    return {p.name: file_identity(p) for p in shard_paths(pool, shard)}


def words_of(given: Mapping[str, Given], normalise: bool, names: Names | None) -> dict[str, Any]:
    """What was given and how it is read: resolved paths, of arrays that they are some."""
    names = names or Names()
    read = {"--normalise": normalise, "--vectors": names.vectors, "--keys": names.keys}
    return read | {
        name: "an array"
        if isinstance(one, tuple)
        else "::".join(str(Path(word).resolve()) for word in str(one).split("::"))
        for name, one in given.items()
    }


def refuse_other(at: Folder, words: Mapping[str, Any]) -> None:
    """Raise `ClipshiftError` where the folder is of other paths, before a copy of them is made."""
    if before := read_record(at.run, "given"):
        refuse(at, words, before["given"])


def claim(
    at: Folder, inputs: Mapping[str, Path], given: Mapping[str, Any], files: dict[str, Any]
) -> str:
    """Claim the folder for these inputs; returns the digest of those that decide every row.

    Args:
        given: see `words_of`.
        files: of the sides, see `side_files`; shards of the pool are in their certificates.

    Raises:
        ClipshiftError: it holds the margins of other inputs.
    """
    words: dict[str, Any] = {name: str(path.resolve()) for name, path in inputs.items()}
    words |= {"given": dict(given), "files": files}
    before = read_record(at.run, "given", "files")
    sides = sha256_json(files)
    if before is None and at.run.exists():
        at.say_damaged(at.run)
        before = _loose(at.run)
    if before is not None:
        refuse(at, words, {"given": words["given"]} | before)
    if before is None and (other := _other_claim(at, sides)):
        raise ClipshiftError(
            f"{at.out} holds margins of other inputs ({other} is of another reference or test "
            "set). Name another --out, or delete that folder"
        )
    write_record(at.run, words)
    return sides


def refuse(at: Folder, words: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Raise `ClipshiftError` where `words` are not those of the run that the folder holds."""
    changed = sorted(k for k in {*words, *before} if words.get(k) != before.get(k))
    if changed:
        raise ClipshiftError(
            f"{at.out} holds margins of other inputs ({', '.join(changed)} differ). Name another "
            "--out, or delete that folder"
        )


def _loose(path: Path) -> dict[str, Any] | None:
    """A claim of an earlier version, which had no digest; None where that is not what it is."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and "digest" not in found else None


def _other_claim(at: Folder, sides: str) -> Path | None:
    """A certificate of other reference or test sets: the folder is not ours to continue."""
    for path in sorted((at.out / "certificates").glob("*.json")):
        record = read_record(path, *CERTIFICATE)
        if record is not None and record["sides"] != sides:
            return path
    return None


def done_thresholds(at: Folder, test: str, files: Mapping[str, Any]) -> bool:
    """Whether the thresholds of a test set are whole and of these files."""
    path = at.thresholds(test)
    record = read_record(path.with_suffix(".json"), "inputs", "outputs")
    if record is None and not path.exists():
        return False
    wanted = {"reference": files["reference"], "test": files[f"test {test}"]}
    same = record is not None and record["inputs"] == wanted
    if same and record is not None and not list(differing(path.parent, record["outputs"])):
        return True
    at.say_damaged(path)
    return False


def write_thresholds_record(at: Folder, test: str, files: Mapping[str, Any], rows: int) -> None:
    path = at.thresholds(test)
    inputs = {"reference": files["reference"], "test": files[f"test {test}"]}
    outputs = identities(path.parent, [path])
    write_record(path.with_suffix(".json"), {"inputs": inputs, "rows": rows, "outputs": outputs})


def done_shard(
    at: Folder, pool: Path, shard: str, tests: Iterable[str], sides: str
) -> dict[str, Any] | None:
    """The certificate of a shard that is whole and whose inputs are still the same."""
    path, names = at.certificate(shard), list(tests)
    record = read_record(path, *CERTIFICATE)
    if record is None or record["shard"] != shard:
        if path.exists():
            at.say_damaged(path)
        return None
    if record["sides"] != sides or set(record["tests"]) != set(names):
        return None
    if record["inputs"] != pool_files(pool, shard):
        return None
    damaged = [at.table(n, shard) for n in names if n not in record["outputs"]]
    tables = {f"{n}/{shard}.parquet": one for n, one in record["outputs"].items()}
    damaged += differing(at.out, tables)
    for table in damaged:
        at.say_damaged(table)
    return None if damaged else record


def files_of(at: Folder, certificates: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Tables of some shards and their certificates: identities by relative path."""
    found = {}
    for shard, record in certificates.items():
        for test, one in record["outputs"].items():
            found[at.table(test, shard).relative_to(at.out).as_posix()] = one
    return found | identities(at.out, map(at.certificate, certificates))


def left_shards(at: Folder, shards: Iterable[str]) -> Iterator[str]:
    """Files of shards that the pool does not hold any more, as their certificates name them."""
    there = {*shards}
    for path in sorted((at.out / "certificates").glob("*.json")):
        record = read_record(path, *CERTIFICATE)
        if path.stem not in there and record is not None and record["shard"] == path.stem:
            yield from (f"{test}/{path.stem}.parquet" for test in record["tests"])
            yield f"certificates/{path.name}"


def foreign_files(at: Folder, tests: Iterable[str], files: Mapping[str, Any]) -> list[Path]:
    """Files among those of the run that are none of it: who reads the folder would take them in."""
    found = [p for name in tests for p in at.neighbours(name)]
    for name in (*tests, "thresholds", "certificates"):
        found += (at.out / name).glob("*")
    names = {at.out / name for name in files}
    kinds = (".parquet", ".json")
    return sorted(p for p in found if p.suffix in kinds and p.is_file() and p not in names)
