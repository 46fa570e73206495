"""`clipshift margins`: margins of any embedding folder, without Snakemake.

Reads clip-retrieval folders and writes `OUT/{test}/{shard}.parquet`,
`OUT/thresholds/{test}.parquet`, `OUT/certificates/{shard}.json`, `OUT/run.json` and, last,
`OUT/manifest.json`. A shard whose certificate fits its input and its tables is not computed again,
so a killed run continues.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from clipshift.apps.margins.folder import (
    KIND,
    Folder,
    claim,
    done_shard,
    done_thresholds,
    files_of,
    foreign_files,
    left_shards,
    refuse_other,
    side_files,
    words_of,
    write_thresholds_record,
)
from clipshift.apps.margins.verify import verify
from clipshift.core.errors import ClipshiftError
from clipshift.core.file_identity import Unchanged, differing, identities
from clipshift.core.files import read_parquet, write_parquet
from clipshift.core.output_folder import (
    locked,
    read_manifest,
    refuse_inside,
    remove_left,
    write_record,
)
from clipshift.similarity.embeddings import (
    Embeddings,
    list_shards,
    open_rows,
    read_all,
    refuse_repeats,
    shard_paths,
)
from clipshift.similarity.given import Given, Names
from clipshift.similarity.given_copy import checked_folder
from clipshift.similarity.margins import Tests, prepare, reference_tables, write_shard
from clipshift.similarity.neighbours import Neighbours

__all__ = ["margins", "verify"]

COLUMNS = ["test_key", "similarity"]


def margins(
    pool: Given, tests: Mapping[str, Given], reference: Given, out: Path, device: str = "auto",
    screen: Any = "auto", k: int = 0, grid: list[float] | None = None, normalise: bool = False,
    names: Names | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Margins of all shards of `pool`; the record of the run.

    Args:
        pool, tests, reference: paths, or arrays: (N, D) vectors with N keys
            (`similarity.given.as_folder`, which takes `normalise` and `names`, too).
        k, grid: also write the k nearest points of each test image, and how many lie above each
            similarity of the grid (ascending), to `OUT/{test}.neighbours.parquet` and
            `.density.parquet`.

    Raises:
        ClipshiftError: an input cannot be read or changed meanwhile; `out` holds a run of other
            inputs, or another run is writing there.
    """
    at = Folder(out)
    given = {"pool": pool, "reference": reference, **{f"test {n}": g for n, g in tests.items()}}
    refuse_inside(out, [one for one in given.values() if isinstance(one, Path)])
    near: dict[str, Any] | None = {"k": max(k, 1), "grid": list(grid or [])} if k or grid else None
    if near:
        Neighbours(0, k, near["grid"])  # refuses what it cannot keep before hours of work
    with locked(out):
        _refuse_foreign(at, tests)
        before = read_manifest(out, KIND)
        words = words_of(given, normalise, names)
        refuse_other(at, words)
        inputs = {name: _opened(at, name, one, normalise, names) for name, one in given.items()}
        return _Run(at, words, inputs, before, device).make(screen, near)


class _Run:
    """One run over opened inputs, in a folder that is locked."""

    def __init__(
        self, at: Folder, given: Mapping[str, Any], inputs: Mapping[str, Path],
        before: dict[str, Any] | None, device: str,
    ) -> None:  # fmt: skip
        self.at, self.inputs, self.device = at, inputs, device
        self.before, self.pool = before, inputs["pool"]
        self.tests = [name.removeprefix("test ") for name in inputs if name.startswith("test ")]
        self.shards = list_shards(self.pool)
        # Taken before anything is read, compared whenever something was.
        self.unchanged = {s: Unchanged(shard_paths(self.pool, s)) for s in self.shards}
        sides = [p for name, p in inputs.items() if name != "pool"]
        self.others = Unchanged(
            path for side in sides for s in list_shards(side) for path in shard_paths(side, s)
        )
        self.files = side_files(inputs)
        self.digest = claim(at, inputs, given, self.files)

    def make(self, screen: Any, near: dict[str, Any] | None) -> dict[str, Any]:
        embedded = {name: read_all(self.inputs[f"test {name}"]) for name in self.tests}
        sides = self._sides(embedded)
        self.others.check()
        rows = {shard: len(open_rows(self.pool, shard)[0]) for shard in self.shards}
        refuse_repeats(self.pool, self.shards)
        certificates = self._certificates(rows, sides, screen)
        pool = {shard: certificates[shard]["inputs"] for shard in self.shards}
        files = self._neighbours(embedded, pool, near)
        record = {
            "rows": sum(one["rows"] for one in certificates.values()),
            "above_threshold": {
                name: sum(one["tests"][name]["above_threshold"] for one in certificates.values())
                for name in self.tests
            },
        }
        self._finish(record, pool, certificates, files)
        return record

    def _sides(self, embedded: dict[str, Embeddings]) -> dict[str, Tests]:
        at = self.at
        missing = {
            n: tests for n, tests in embedded.items() if not done_thresholds(at, n, self.files)
        }
        if missing:
            print(f"thresholds of {', '.join(missing)}", file=sys.stderr)
            reference = read_all(self.inputs["reference"])
            found = reference_tables(reference, missing, self.device)
            self.others.check()
            for name, table in found.items():
                write_parquet(at.thresholds(name), table)
                write_thresholds_record(at, name, self.files, len(table))
        return {
            n: Tests.of(t, read_parquet(at.thresholds(n), COLUMNS)) for n, t in embedded.items()
        }

    def _certificates(
        self, rows: dict[str, int], sides: dict[str, Tests], screen: Any
    ) -> dict[str, dict[str, Any]]:
        at, found = self.at, {}
        scanner = prepare(self.pool, self.shards, sides, self.device, screen)
        with tqdm(
            total=sum(rows.values()), desc="margins", unit=" points", unit_scale=True,
            mininterval=2, file=sys.stderr,
        ) as progress:  # fmt: skip
            for shard in self.shards:
                done = done_shard(at, self.pool, shard, sides, self.digest)
                if done is None:
                    tables = {name: at.table(name, shard) for name in sides}
                    done = write_shard(
                        self.pool, shard, sides, scanner, tables, at.certificate(shard), progress,
                        self.unchanged[shard], {"sides": self.digest},
                    )  # fmt: skip
                else:
                    self.unchanged[shard].check()
                    progress.update(rows[shard])
                found[shard] = done
        return found

    def _neighbours(
        self, embedded: dict[str, Embeddings], pool: dict[str, Any], near: dict[str, Any] | None
    ) -> dict[str, Any]:
        """The manifest's entries of neighbours: made now, or those of the run before."""
        before = self.before or {}
        if near is None and before.get("neighbours") and before["pool"] == pool:
            near = before["neighbours"]
            paths = {p.name for name in self.tests for p in self.at.neighbours(name)}
            files = {name: one for name, one in before["files"].items() if name in paths}
            damaged = list(differing(self.at.out, files))
            if not damaged:
                return {"neighbours": near, "files": files}
            for path in damaged:
                self.at.say_damaged(path)
        if near is None:
            return {"neighbours": None, "files": {}}
        k = min(near["k"], sum(len(open_rows(self.pool, shard)[0]) for shard in self.shards))
        found = {n: Neighbours(len(t.keys), k, near["grid"]) for n, t in embedded.items()}
        for shard in tqdm(self.shards, desc="neighbours", mininterval=2, file=sys.stderr):
            vectors, keys = open_rows(self.pool, shard)
            points = Embeddings(vectors, keys.to_pylist())
            for name, tests in embedded.items():
                found[name].add(points, tests, None, self.device)
            self.unchanged[shard].check()
        written = []
        for name, tests in embedded.items():
            pairs = zip(self.at.neighbours(name), found[name].tables(tests.keys), strict=True)
            for path, table in list(pairs)[: 2 if near["grid"] else 1]:
                write_parquet(path, table)
                written.append(path)
        return {"neighbours": near, "files": identities(self.at.out, written)}

    def _finish(
        self, record: dict[str, Any], pool: dict[str, Any],
        certificates: dict[str, dict[str, Any]], neighbours: dict[str, Any],
    ) -> None:  # fmt: skip
        """Remove what left, and write the manifest."""
        at = self.at
        for unchanged in (*self.unchanged.values(), self.others):
            unchanged.check()
        if list_shards(self.pool) != self.shards:
            raise ClipshiftError(f"{self.pool} got other shards meanwhile; run again")
        thresholds = [at.thresholds(name) for name in self.tests]
        records = [path.with_suffix(".json") for path in thresholds]
        copies = [
            path for name, folder in self.inputs.items() if folder == at.given(name)
            for path in sorted(folder.rglob("*")) if path.is_file()
        ]  # fmt: skip
        files = identities(at.out, [at.run, *thresholds, *records, *copies])
        files |= files_of(at, certificates) | neighbours["files"]
        gone = [*left_shards(at, self.shards), *(self.before or {"files": {}})["files"]]
        remove_left(at.out, gone, files, "it is no part of the pool or of this run any more")
        for path in foreign_files(at, self.tests, files):
            print(f"{path} is no file of this run; it was left alone", file=sys.stderr)
        if at.damaged:
            print(f"{len(at.damaged)} damaged files were made again", file=sys.stderr)
        write_record(
            at.manifest,
            {"kind": KIND, "pool": pool, "neighbours": neighbours["neighbours"], **record}
            | {"files": files},
        )


def _opened(at: Folder, name: str, given: Given, normalise: bool, names: Names | None) -> Path:
    """The embedding folder of an input; one of ours where the user's is none."""
    made = checked_folder(given, at.given(name), normalise, names)
    for line in made.said:
        print(f"{name}: {line}", file=sys.stderr)
    return made.folder


def _refuse_foreign(at: Folder, tests: Mapping[str, Any]) -> None:
    """Raise `ClipshiftError` where files lie at our places in a folder that no run of ours made."""
    if at.run.exists() or at.manifest.exists() or (at.out / "certificates").is_dir():
        return
    if found := foreign_files(at, tests, {}):
        raise ClipshiftError(
            f"{at.out} holds files that no `clipshift margins` wrote ({found[0]}); name another "
            "--out, or move them"
        )
