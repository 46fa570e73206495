"""What an edit of a finished study makes again: a table of edits, by dry runs.

`python -m tests.workflow.edits --configfile FILE... [--directory DIR]` prints it for a finished
study: per edit the jobs that it would plan. Nothing is changed but for a moment: configurations
are copies, and a file that is touched or taken away is put back.
"""

import argparse
import copy
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from clipshift.study.config.load import merged
from tests.workflow.runner import TEST_CONFIG, planned

Raw = dict[str, Any]
# A set that is added, and what it may be called later.
ADDED, RENAMED = "added", "renamed"


@dataclass(frozen=True)
class Edit:
    """A change of a configuration, or of the files of a finished study, for the time of a plan."""

    what: str
    config: Callable[[Raw], object] = lambda raw: None
    files: Callable[[Path], Iterator[None]] | None = None


def new_source(raw: Raw, like: str) -> None:
    """A source of another family, with a class of its own, and a test set of it."""
    raw["sources"]["elsewhere"] = raw["sources"][like] | {"family": "elsewhere"}
    raw["classes"]["landscape"] = ["elsewhere/landscape"]
    raw["sets"][ADDED] = {"take": [{"source": "elsewhere", "classed": True}]}


def renamed(raw: Raw) -> None:
    raw["sets"][RENAMED] = raw["sets"].pop(ADDED)


@contextmanager
def moved(file: Path) -> Iterator[None]:
    """A file that is not there."""
    aside = file.with_name(file.name + ".aside")
    file.rename(aside)
    try:
        yield
    finally:
        aside.rename(file)


@contextmanager
def touched(file: Path) -> Iterator[None]:
    """A file that is newer than it was, with the same content."""
    before = file.stat()
    os.utime(file)
    try:
        yield
    finally:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def sets_added(source: str, like: str) -> list[Edit]:
    """Test sets added to a study.

    Args:
        source: one that the pool takes whole; like: a set whose images the new one shares.
    """
    overlapping = {"take": [{"source": source, "classed": True}]}

    def subset(raw: Raw) -> None:
        block = copy.deepcopy(raw["sets"][like])
        for take in block["take"]:
            take["limit"] = 20
        raw["sets"][ADDED] = block

    return [
        Edit("a test set that overlaps the pool", lambda r: r["sets"].update({ADDED: overlapping})),
        Edit("a part of a test set under another name", subset),
        Edit("a test set of a new source and class", lambda r: new_source(r, source)),
    ]


TEST = [
    *sets_added("test_color", "test_val"),
    Edit("a threshold of the de-duplication", lambda r: r["dedup"].update(threshold=0.98)),
    Edit("a tolerance", lambda r: r["splits"]["test_combined"].update(tolerance=0.2)),
    Edit("a recipe", lambda r: r["splits"]["test_rand"].update(keep=0.6)),
    Edit("a split", lambda r: r["splits"].update(more={"recipe": "rand", "keep": 0.25})),
    Edit("a seed", lambda r: r.update(seeds=[0, 1])),
    Edit("a seed of one split", lambda r: r["splits"]["test_near"].update(seeds=[0, 1])),
    Edit("a learning rate", lambda r: r["models"]["nano"].update(lr=2e-3)),
    Edit("a prompt", lambda r: r["evaluation"].update(templates=["a {c}"])),
    Edit("a class word", lambda r: r["evaluation"]["words"].update(food=["food", "fruit"])),
    Edit("a protocol", lambda r: r["causes"]["heads"]["probe"].update(c=2.0)),
    Edit(
        "the least images a class of a clean set",
        lambda r: r["domains"]["clean"]["test_val_clean"].update(minimum_per_class=3),
    ),
    Edit("the precision of the detectors", lambda r: r["domains"].update(precision=0.9)),
    Edit(
        "an option of a figure",
        lambda r: r["figures"]["density"]["test_sets"].update(band=[0.2, 0.8]),
    ),
    Edit("a caption field", lambda r: r["causes"]["fields"]["test_color"].update(title="{tags}")),
    Edit("a corpus", lambda r: r["causes"]["corpora"]["text"].update(fields=["description"])),
    Edit("what trainings do with test images", lambda r: r.update(test_images="keep")),
    Edit(
        "a source in the pool",
        lambda r: (
            r["sources"].update(further=r["sources"]["test_color"] | {"only": "/1F6"}),
            r["pools"]["test_pool"]["take"].append({"source": "further"}),
        ),
    ),
    *(
        Edit(f"{path} deleted", files=lambda folder, path=path: moved(folder / path))
        for path in (
            "results/margins/test_sketch/lite0_64/test_pool/00001.parquet",
            "results/logits/test_val/test_near-nano-s0.npy",
            "results/splits/test_near.parquet",
            "results/sets/test_val/words.json",
        )
    ),
    *(
        Edit(f"{path} touched", files=lambda folder, path=path: touched(folder / path))
        for path in (
            "results/sets/test_val/samples.parquet",
            "results/pools/test_pool/00000.parquet",
            "results/models/test_full-nano-s0/record.json",
        )
    ),
]  # fmt: skip

MINI = [
    *sets_added("openmoji_color", "val"),
    Edit("a threshold of the de-duplication", lambda r: r["dedup"].update(threshold=0.96)),
    Edit("a tolerance", lambda r: r["splits"]["pruned_sketch_loose"].update(tolerance=0.2)),
    Edit("a recipe", lambda r: r["splits"]["rand_70"].update(keep=0.6)),
    Edit("a split", lambda r: r["splits"].update(more={"recipe": "rand", "keep": 0.25})),
    Edit("a seed", lambda r: r.update(seeds=[0, 1, 2])),
    Edit("a learning rate", lambda r: r["models"]["tiny"].update(lr=1e-3)),
    Edit("a prompt", lambda r: r["evaluation"].update(templates=["a {c}"])),
    Edit("a word of a class of all sets", lambda r: r["evaluation"]["words"].update(food=["food"])),
    Edit("a word of a class of two sets", lambda r: r["evaluation"]["words"].update(hand=["hand"])),
    Edit(
        "an option of a figure",
        lambda r: r["figures"]["density"]["sketch"].update(band=[0.2, 0.8]),
    ),
]  # fmt: skip


def plan(
    folder: Path, edit: Edit, base: Mapping[str, Any], *words: str, name: str = "changed.yaml"
) -> dict[str, int]:
    """Rule -> jobs that a finished study would plan after an edit.

    Args:
        name: of the configuration's file, which the report shows.
    """
    raw = copy.deepcopy(dict(base))
    edit.config(raw)
    with tempfile.TemporaryDirectory() as scratch:
        config = Path(scratch) / name
        config.write_text(yaml.safe_dump(raw, sort_keys=False))
        if edit.files is None:
            return planned(folder, *words, config=config)
        with edit.files(folder):  # type: ignore[attr-defined]
            return planned(folder, *words, config=config)


def table(folder: Path, edits: Sequence[Edit], base: Mapping[str, Any], name: str) -> Iterator[str]:
    """Lines for people: the edit, how many jobs it plans, and which."""
    for edit in edits:
        jobs = plan(folder, edit, base, name=name)
        jobs.pop("all", None)
        shown = ", ".join(f"{rule} {count}" for rule, count in jobs.items())
        yield f"{edit.what}\n    {sum(jobs.values())} jobs: {shown or 'nothing'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configfile", type=Path, nargs="+", required=True)
    parser.add_argument("--directory", type=Path, default=Path())
    args = parser.parse_args()
    edits = TEST if args.configfile[0].name == TEST_CONFIG.name else MINI
    base = merged(*args.configfile)
    if jobs := planned(args.directory.resolve(), "--configfile", *map(str, args.configfile)):
        raise SystemExit(f"the study is not finished: it would plan {jobs}")
    name = args.configfile[-1].name
    for line in table(args.directory.resolve(), edits, base, name):
        print(line, flush=True)


if __name__ == "__main__":
    main()
