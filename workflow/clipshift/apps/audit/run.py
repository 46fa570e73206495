"""Do an audit from the options to the written report, or find that it is done."""

import importlib.metadata
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from clipshift.apps.audit import accuracy, page, tables
from clipshift.apps.audit.embed import embed_folder, fingerprint, rejections
from clipshift.apps.audit.folder import (
    KIND,
    VERSION,
    WRITING,
    begin,
    check_images,
    files_read,
    identity_of,
    image_fingerprints,
    is_done,
    lists_of,
    ours_of,
    outputs_of,
)
from clipshift.apps.audit.hashes import Hashes, identity
from clipshift.apps.audit.inputs import Side, content, open_side
from clipshift.apps.audit.nearest import IDENTICAL, Tests, shown, sweep
from clipshift.apps.audit.options import (
    BASE_BYTES,
    MAX_BLOCK_BYTES,
    MIN_BLOCK_BYTES,
    SIDES,
    Options,
)
from clipshift.apps.audit.predictions import read_predictions
from clipshift.core.errors import ClipshiftError
from clipshift.core.file_identity import Unchanged, identities
from clipshift.core.files import write_csv, write_json, write_text
from clipshift.core.output_folder import (
    MANIFEST,
    locked,
    read_manifest,
    remove_left,
    write_record,
)
from clipshift.core.step import step
from clipshift.datasets.any_images import open_images


@step(version=2)
def audit(options: Options, command: list[str]) -> None:
    """Write the report into `options.out`.

    What was computed before lies in `out/work`, by the identity of what it was computed from; the
    same audit again finds its outputs unchanged and stops there.

    Raises:
        ClipshiftError: another run is writing there, or an input is unfit or changed meanwhile.
    """
    with locked(options.out):
        _audit(options, command)


def _audit(options: Options, command: list[str]) -> None:
    before = read_manifest(options.out, KIND)
    ours = ours_of(options, before)
    hashes = Hashes(options.out / "work/hashes.json")
    images = image_fingerprints(options)
    folders = {side: _folder(options, side) for side in options.sides}
    if before and is_done(options, before, identity_of(options, folders, images, hashes)):
        print(f"{options.out / 'index.html'} is up to date; nothing to do", file=sys.stderr)
        return
    accounts = {side: _embed(options, side, folders[side]) for side in options.sides}
    # Before anything is hashed or read, compared whenever something was.
    unchanged = Unchanged(files_read(options, folders))
    sides = {name: open_side(name, folders[name]) for name in SIDES if name in folders}
    _same_dimension(sides)
    contents = {name: content(folders[name], hashes) for name in sides}
    name = identity_of(options, folders, images, hashes)
    hashes.save()
    check = unchanged.check
    check()
    tests, k = sides["test"].matrix(), min(options.neighbours, sides["train"].rows)
    block_bytes = _block_bytes(options, tests, k)
    twins = sides["test"].twins()
    reference = _reference(options, sides, contents, tests, block_bytes, twins, check)
    sweep_name = {n: c["identity"] for n, c in contents.items()} | {"k": k}
    work = _only(options.out / "work", "sweep", identity([sweep_name, VERSION]))
    found = sweep(
        sides["train"], tests, k, tables.GRID,
        None if reference is None else reference[0], work, options.device, block_bytes, twins,
        check,
    )  # fmt: skip
    del tests
    begin(options, ours)
    summary = _write(options, sides, accounts, contents, hashes, found, reference, work)
    summary |= {"command": command}
    write_json(options.out / "summary.json", summary)
    written = page.write(options, summary, sides, found, reference)
    check()
    check_images(options, images)
    outputs = [*map(options.out.joinpath, outputs_of(summary)), written]
    files = identities(options.out, outputs)
    remove_left(options.out, ours, files, "it is no output of this audit")
    write_record(options.out / MANIFEST, {"kind": KIND, "identity": name, "files": files})
    (options.out / "work" / WRITING).unlink()
    hashes.save()
    _say(options, summary)


def _folder(options: Options, side: str) -> Path:
    """The embedding folder of a side: the user's, or where its images are embedded."""
    where = options.sides[side]
    if where.embeddings is not None:
        from clipshift.similarity.given import Names
        from clipshift.similarity.given_copy import checked_folder

        names = Names(options.vectors, options.keys)
        made = checked_folder(
            where.embeddings, options.out / f"work/given-{side}", options.normalise, names
        )
        for line in made.said:
            print(f"{where.embeddings}: {line}", file=sys.stderr)
        return made.folder
    assert where.images is not None and options.embedder is not None
    encoder = options.embedder
    if options.background != "#ffffff":
        encoder = encoder | {"background": options.background}
    name = fingerprint(open_images(where.images), encoder)
    return options.out / f"work/embed-{side}-{name}-v{VERSION}"


def _only(work: Path, kind: str, name: str) -> Path:
    """The folder `kind-name` of `work`; what else is of this kind comes from other inputs."""
    for old in work.glob(f"{kind}-*"):
        if old.name != f"{kind}-{name}":
            shutil.rmtree(old)
    return work / f"{kind}-{name}"


def _embed(options: Options, side: str, folder: Path) -> dict[str, Any] | None:
    """Embed a side's images where they are what was given; its counts."""
    where = options.sides[side]
    if where.embeddings is not None:
        return None
    assert where.images is not None and options.embedder is not None
    found = open_images(where.images)
    for line in found.said:
        print(f"{where.images}: {line}", file=sys.stderr)
    _only(options.out / "work", f"embed-{side}", folder.name.removeprefix(f"embed-{side}-"))
    step_counts = embed_folder(
        side, found, options.embedder, folder, options.device, options.colour
    )
    return step_counts.as_json() | {"other_files": dict(sorted(found.other.items()))}


def _same_dimension(sides: dict[str, Side]) -> None:
    if len({side.dimension for side in sides.values()}) > 1:
        found = {name: side.dimension for name, side in sides.items()}
        raise ClipshiftError(
            f"the sides have vectors of different dimensions, {found}: one encoder must have made "
            "all of them"
        )


def _block_bytes(options: Options, tests: np.ndarray, k: int) -> int:
    """Memory of one block of similarities; the test set itself must fit.

    Raises:
        ClipshiftError: the budget is too small for the test set.
    """
    m, d = tests.shape
    per_item = 10 * d + 32 * k + 24 * len(tables.GRID)
    left = options.memory_bytes - BASE_BYTES - m * per_item
    block: int = min(MAX_BLOCK_BYTES, left // 4)
    if block < MIN_BLOCK_BYTES:
        need = (BASE_BYTES + m * per_item + 4 * MIN_BLOCK_BYTES) / (1 << 30)
        raise ClipshiftError(
            f"--memory {options.memory:g} is too small for {m} test items of dimension "
            f"{d}: give at least {need:.1f}, or audit parts of the test set"
        )
    return block


def _reference(
    options: Options,
    sides: dict[str, Side],
    contents: dict[str, Any],
    tests: np.ndarray,
    block_bytes: int,
    twins: dict[str, list[int]],
    check: Callable[[], None],
) -> tuple[np.ndarray, list[str]] | None:
    """Each test item's similarity to the reference set, and the nearest item's key."""
    if "reference" not in sides:
        return None
    name = identity([contents["reference"]["identity"], contents["test"]["identity"]])
    work = _only(options.out / "work", "reference", f"{name}-v{VERSION}")
    found = sweep(
        sides["reference"], tests, 1, np.empty(0), None, work, options.device, block_bytes, twins,
        check,
    )  # fmt: skip
    names = sides["reference"].keys_of(found.row[:, 0])
    return found.similarity[:, 0], [names[int(row)] for row in found.row[:, 0]]


def _write(
    options: Options,
    sides: dict[str, Side],
    accounts: dict[str, Any],
    contents: dict[str, Any],
    hashes: Hashes,
    found: Tests,
    reference: tuple[np.ndarray, list[str]] | None,
    work: Path,
) -> dict[str, Any]:
    """Write all but summary and page; returns the summary."""
    out, thresholds = options.out, options.thresholds
    keys = sides["test"].all_keys()
    top = found.similarity[:, 0]
    tables.write_tables(
        out / "nearest.parquet", tables.nearest_table(found, sides["train"], keys, reference)
    )
    density = tables.write_density(out / "density.parquet", found.count)
    removals = _removals(options, sides["train"], keys, work, reference is not None)
    summary: dict[str, Any] = {
        "version": importlib.metadata.version("clipshift"),
        "step_version": VERSION,
        "inputs": {n: _input(options, s, accounts[n], contents[n]) for n, s in sides.items()},
        "encoder": options.embedder,
        "precision": _precision(sides),
        "options": options.outcome(),
        "identical": tables.share(top == IDENTICAL),
        "near_duplicates": [{"threshold": t, **tables.share(top > t)} for t in thresholds],
        "similarity": {
            "quantiles": {
                name: float(np.quantile(shown(top), q, method="inverted_cdf"))
                for name, q in tables.QUANTILES.items()
            },
            "histogram": tables.histogram(top),
        },
        "density": density,
        "remove": removals,
    }
    if reference is not None:
        summary["reference"] = {
            "closer_to_training": tables.share(top > reference[0]),
            "histogram": tables.histogram(reference[0]),
        }
    if options.predictions is not None:
        predictions = read_predictions(options.predictions, keys, options.test_set, options.columns)
        for line in predictions.said:
            print(line, file=sys.stderr)
        summary["accuracy"] = accuracy.by_threshold(predictions, top, thresholds) | {
            "file": str(options.predictions),
            "sha256": hashes.of(options.predictions),
        }
    rejected = [
        {"side": name, "key": r.key, "place": r.place, "reason": r.reason}
        for name, side in sides.items()
        if accounts[name] is not None
        for r in rejections(side.folder)
    ]
    if rejected:
        write_csv(out / "rejected.csv", rejected)
    else:
        write_text(out / "rejected.csv", "side,key,place,reason\n")
    return summary


def _removals(
    options: Options, train: Side, keys: list[str], work: Path, reference: bool
) -> list[dict[str, Any]]:
    """Write remove.parquet and its lists; one entry for each list."""
    table = options.out / "remove.parquet"
    schema = tables.removal_schema(options.thresholds, reference)
    tables.write_tables(
        table, tables.removal_table(work, train, keys, options.thresholds, reference), schema
    )
    entries = []
    for name, column, threshold in lists_of(options, reference):
        count, left_out = tables.write_list(options.out / name, table, column)
        entries.append(
            {
                "file": name,
                "column": column,
                "threshold": threshold,
                "keys": count,
                "of": train.rows,
                "not_in_the_list": left_out,
            }
        )
    return entries


def _input(
    options: Options, side: Side, step_counts: dict[str, Any] | None, files: dict[str, Any]
) -> dict[str, Any]:
    where = options.sides[side.name]
    rows: dict[str, Any] = {
        "embeddings": str(where.embeddings) if where.embeddings else None,
        "images": str(where.images) if where.images else None,
        "rows": side.rows,
        "dimension": side.dimension,
        "shards": len(side.shards),
        "rounded_to_float16": side.rounded,
        "sha256": files["files"],
    }
    rows["in"] = step_counts["in"] if step_counts else side.rows
    rows["out"] = side.rows
    rows["rejected"] = step_counts["rejected"] if step_counts else {}
    rows["other_files"] = step_counts["other_files"] if step_counts else {}
    return rows


def _precision(sides: dict[str, Side]) -> str:
    rounded = [name for name, side in sides.items() if side.rounded]
    note = f"; the float32 vectors of {', '.join(rounded)} were rounded to float16" * bool(rounded)
    return f"dot products of float16 vectors, computed in float64 without rounding{note}"


def _say(options: Options, summary: dict[str, Any]) -> None:
    for row in summary["near_duplicates"]:
        print(
            f"{row['count']} of {row['n']} test items ({page.percent(row['share'])}, 95 % interval "
            f"{page.percent(row['low'])} to {page.percent(row['high'])}) have a training item more "
            f"similar than {row['threshold']:g}"
        )
    if same := summary["identical"]["count"]:
        print(f"{same} of {summary['identical']['n']} test items are byte for byte in training")
    if "accuracy" in summary:
        rows = summary["accuracy"]
        left_out = rows["rows_left_out"]
        left_out |= {"no test item": rows["unused"]} if rows["unused"] else {}
        print(f"predictions: {rows['used']} used, left out {left_out or 'none'}; "
              f"{rows['test_items_without']} test items without one")  # fmt: skip
    for name, side in summary["inputs"].items():
        if side["rejected"]:
            print(f"{name}: left out {side['rejected']}, named in {options.out / 'rejected.csv'}")
    print(f"open {options.out / 'index.html'}")
