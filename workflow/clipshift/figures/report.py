"""The report: one self-contained page with figures, tables, counts, samples and licences.

It adds up the counts from the sources to the splits and refuses when they do not agree.
"""

import base64
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from clipshift.core.counts import StepCounts
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_csv, read_json, write_text
from clipshift.core.step import step
from clipshift.figures.report_sections import pruned_matrix, shown

# How models are trained anew without the test images that came after their training.
AGAIN = "snakemake --forcerun guard"
MIME = {".svg": "image/svg+xml", ".jpg": "image/jpeg"}


def steps(contents: dict[str, Any], results: Path) -> list[StepCounts]:
    """Every counts from source to split, in the order of the chain, checked against each other.

    Raises:
        ClipshiftError: a step took in another number than the steps before gave out.
    """
    sources = {
        name: StepCounts.from_json(read_json(results / f"sources/{name}/manifest.json")["account"])
        for name in contents["sources"]
    }
    folders = dict.fromkeys(contents["pools"], "pools") | dict.fromkeys(contents["sets"], "sets")
    datasets = {
        name: StepCounts.from_json(read_json(results / folder / name / "manifest.json")["account"])
        for name, folder in folders.items()
    }
    for name, step_counts in datasets.items():
        if not contents["datasets"][name]:
            continue  # a folder of the user's: its counts are the first
        expected = sum(sources[source].went_out for source in contents["datasets"][name])
        _same(step_counts, expected, "its sources gave out")
    embedded = [
        _embedded(name, step_counts, contents, results)
        for name, step_counts in datasets.items()
        if contents["embedded"] and (name in contents["sets"] or name == contents["pool"])
    ]
    if contents["deduplicated"]:
        dedup = StepCounts.from_json(read_json(_dedup(contents, results) / "record.json"))
        pool_counts = next(
            step_counts for step_counts in embedded if step_counts.name == contents["pool"]
        )
        _same(dedup, pool_counts.went_out, "the encoder gave out")
        embedded.append(dedup)
    splits = []
    for name, with_reference in contents["splits"].items():
        step_counts = StepCounts.from_json(read_json(results / f"splits/{name}.json"))
        expected = datasets[contents["pool"]].went_out
        expected += datasets[contents["reference"]].went_out if with_reference else 0
        _same(step_counts, expected, "pool and reference set gave out")
        splits.append(step_counts)
    return [*sources.values(), *datasets.values(), *embedded, *splits]


def _dedup(contents: dict[str, Any], results: Path) -> Path:
    return results / f"dedup/{contents['pool']}/{contents['encoder']}"


def _embedded(
    name: str, dataset: StepCounts, contents: dict[str, Any], results: Path
) -> StepCounts:
    """The sum of the counts of a data set's embedded shards."""
    folder = results / f"embeddings/{contents['encoder']}/{name}/account"
    total = StepCounts("embed", name)
    for shard in contents["pools"].get(name, ["00000"]):
        total.add(StepCounts.from_json(read_json(folder / f"account_{shard}.json")))
    _same(total, dataset.went_out, f"the {dataset.step} gave out")
    return total


def _same(step_counts: StepCounts, expected: int, who: str) -> None:
    if step_counts.came_in != expected:
        raise ClipshiftError(
            f"the counts do not add up: {step_counts.step} {step_counts.name!r} took in "
            f"{step_counts.came_in}, but {who} {expected}. Delete its outputs and run again"
        )


def _deduplication(contents: dict[str, Any], results: Path) -> dict[str, Any] | None:
    """The record of the de-duplication with its sweep, if there was one."""
    if not contents["deduplicated"]:
        return None
    folder = _dedup(contents, results)
    record: dict[str, Any] = read_json(folder / "record.json")
    return record | {"folder": folder, "sweep": read_csv(folder / "sweep.csv")}


def data_uri(path: Path) -> str:
    """An image as the source of an <img>, so that the page needs no other file."""
    return f"data:{MIME[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def percent(text: str) -> str:
    return f"{100 * float(text):.1f}"


def accuracy_matrix(rows: list[dict[str, str]]) -> dict[str, dict[str, dict[str, str]]]:
    """Rows of the accuracy table by split, then test set."""
    matrix: dict[str, dict[str, dict[str, str]]] = {}
    for row in rows:
        matrix.setdefault(row["split"], {})[row["test_set"]] = row
    return matrix


def page(contents: dict[str, Any], results: Path) -> str:
    """The report's html."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": percent, "data_uri": data_uri, "matrix": pruned_matrix}
    template = files("clipshift").joinpath("data/report.html.j2").read_text()
    records = [read_json(results / f"models/{run}/record.json") for run in contents["runs"]]
    sources = {n: read_json(results / f"sources/{n}/manifest.json") for n in contents["sources"]}
    tables = results / "tables"
    accuracy = read_csv(tables / "accuracy.csv") if records else []
    return environment.from_string(template).render(
        contents=contents,
        steps=steps(contents, results),
        accuracy=accuracy_matrix(accuracy),
        trained_on=AGAIN if any(row["images_trained_on"] != "0" for row in accuracy) else "",
        controlled={
            f"results/tables/{t}.csv": read_csv(tables / f"{t}.csv") for t in contents["controlled"]
        },
        contrasts=read_csv(tables / "contrasts.csv") if contents["contrasts"] else [],
        figures=shown(contents["figures"], results),
        dedup=_deduplication(contents, results),
        records=records,
        sources=sources,
        sets={n: read_json(results / f"sets/{n}/manifest.json") for n in contents["sets"]},
        samples=results / "figures/samples",
        version=version("clipshift"),
        script=Markup(files("clipshift").joinpath("data/tables.js").read_text()),
    )


@step(version=6)
def report(contents: dict[str, Any], results: Path, out: Path) -> None:
    """Write the page; `contents` is what to show, by name."""
    write_text(out, page(contents, results))
