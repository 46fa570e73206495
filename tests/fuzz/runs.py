"""Many mutants: which, on how many processes, and with everything imported once."""

import importlib
import json
import multiprocessing
import os
import shutil
from functools import partial
from pathlib import Path

from tests.fuzz import corpus
from tests.fuzz.reader import Reader
from tests.fuzz.readers import READERS
from tests.fuzz.verdicts import Base, Verdict, judge, mutated, one, prepare

# What children would import again and again.
HEAVY = (
    "torch", "open_clip", "duckdb", "pyarrow.parquet", "pyarrow.compute", "pandas", "webdataset",
    "scipy.stats", "clipshift.apps.cli", "clipshift.apps.audit.run", "clipshift.apps.margins.run",
    "clipshift.apps.inspect.look", "clipshift.apps.inspect.init", "clipshift.apps.inspect.report",
    "clipshift.apps.labelling.agreement", "clipshift.apps.labelling.released",
    "clipshift.apps.robustness.report", "clipshift.training.tar_filter",
    "clipshift.training.checkpoints", "clipshift.training.init_tower",
    "clipshift.datasets.formats", "clipshift.datasets.urls.listing",
    "clipshift.datasets.external_pool", "clipshift.datasets.external_set",
    "clipshift.datasets.external_check", "clipshift.datasets.sources.render",
    "clipshift.similarity.open_clip_models", "clipshift.study.config.load",
)  # fmt: skip
# The readers of tars are more in the line of fire than others.
WEIGHTS = {"tar": 2, "margins": 1, "audit": 1}


def chosen(name: str | None) -> list[Reader]:
    """The reader or the readers of the group `name`; None: all."""
    return [r for r in READERS.values() if name in (None, r.name, r.name.partition(".")[0])]


def share(readers: list[Reader], mutants: int) -> list[tuple[Reader, int]]:
    """The readers in turn, with the number of the mutant."""
    turns = [r for r in readers for _ in range(WEIGHTS.get(r.name.partition(".")[0], 1))]
    return [(turns[i % len(turns)], i) for i in range(mutants)]


def load() -> None:
    """Import everything once, before processes fork; nothing is computed here (no threads)."""
    for name in HEAVY:
        importlib.import_module(name)


def run_all(
    readers: list[Reader], mutants: int, seed: int, place: Path, jobs: int = 2, keep: bool = False
) -> list[Verdict]:
    """The corpus' verdicts, then those of so many new mutants."""
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["PYTHONWARNINGS"] = "ignore"
    load()
    bases = {r.name: prepare(r, place / f"base-{r.name}") for r in readers}
    old = [entry for entry in corpus.entries() if corpus.reader_of(entry) in bases]
    new = [(r.name, f"{seed}.{i}") for r, i in share(readers, mutants)]
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        again = pool.map(partial(_replayed, bases, place), old, chunksize=1)
        return again + pool.map(partial(_fresh, bases, place, keep), new, chunksize=1)


def _fresh(bases: dict[str, Base], place: Path, keep: bool, mutant: tuple[str, str]) -> Verdict:
    name, seed = mutant
    here = place / f"work-{os.getpid()}"
    found = one(READERS[name], bases[name], here, seed)
    if keep and found.is_fault:
        # Made again: reading it may have changed it (a resume writes beside what it finds).
        shutil.copytree(bases[name].folder, here / "kept")
        mutated(READERS[name], here / "kept", seed)
        corpus.keep(bases[name].folder, here / "kept", f"{name}~{found.mutant}~{seed}")
    return found


def _replayed(bases: dict[str, Base], place: Path, entry: Path) -> Verdict:
    name = corpus.reader_of(entry)
    here = place / f"work-{os.getpid()}"
    shutil.rmtree(here, ignore_errors=True)
    return _again(READERS[name], bases[name], here, entry)


def _again(reader: Reader, base: Base, here: Path, entry: Path) -> Verdict:
    """The verdict on an entry of the corpus; its input stays in `here`."""
    here.mkdir()
    file = corpus.restore(entry, base.folder, here / "input")
    found = judge(reader, base, here / "input", here / "out", file)
    more = {"mutant": entry.stem.split("~")[1], "seed": entry.stem, "file": file}
    return Verdict(**(found.as_json() | more))


def show(reader: Reader, seed: str, place: Path) -> int:
    """A mutant, or an entry of the corpus, in full; its input stays."""
    load()
    base = prepare(reader, place / "base")
    entry = corpus.FOLDER / f"{seed}.json"
    if entry.exists():
        found = _again(reader, base, place / "work", entry)
    else:
        found = one(reader, base, place / "work", seed)
    print(json.dumps(found.as_json(), indent=2))
    print(found.said)
    print(f"its input: {place}/work/input; the valid one: {base.folder}")
    return found.is_fault
