"""Table: precision and recall of every classifier and detected domain, on every labelled set."""

from pathlib import Path
from typing import Any

from clipshift.classifiers.thresholds import measured, read_sides
from clipshift.core.brace_ranges import sharded
from clipshift.core.files import read_json, write_csv
from clipshift.core.step import step
from clipshift.study.config.domain_figures import DetectorTable
from clipshift.study.layout.figures import Files, Study


def rows(
    block: DetectorTable, files: Files, classifiers: dict[str, dict[str, str]]
) -> list[dict[str, Any]]:
    """One row per classifier, domain and labelled set: the parts, and test sets with labels."""
    found = []
    for name in block.classifiers:
        points = read_json(Path(files["points"][name]))
        tested = {
            place: read_sides(
                Path(labels), [Path(f) for f in sharded(files["scores"][name][place])]
            )
            for place, labels in files["labels"].items()
        }
        for domain, entry in points["domains"].items():
            sets = entry["parts"] | {
                place: dict(sorted(measured(*sides[domain], entry["threshold"]).items()))
                for place, sides in tested.items()
                if sides
            }
            for place, at in sorted(sets.items()):
                found.append(
                    {"classifier": name, **classifiers[name], "domain": domain}
                    | {"target_precision": points["precision"], "attained": entry["attained"]}
                    | {"threshold": entry["threshold"], "set": place, **at}
                )
    return found


@step(version=3)
def table(block: DetectorTable, files: Files, study: Study, out: Path) -> None:
    write_csv(out, rows(block, files, study.classifiers))
