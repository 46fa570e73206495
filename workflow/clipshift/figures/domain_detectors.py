"""Table: precision and recall of every classifier and detected domain, on every labelled set.

`python -m clipshift.figures.domain_detectors`, with the arguments that all figures share.
"""

from pathlib import Path
from typing import Any

from clipshift.config.domain_figures import DetectorTable
from clipshift.errors import run
from clipshift.figures.command import arguments
from clipshift.files import read_json, write_csv
from clipshift.layout.figures import Files


def rows(
    block: DetectorTable, files: Files, classifiers: dict[str, dict[str, str]]
) -> list[dict[str, Any]]:
    """One row per classifier, domain and labelled set."""
    found = []
    for name in block.classifiers:
        points = read_json(Path(files["points"][name]))
        for domain, entry in points["domains"].items():
            for place, at in entry["sets"].items():
                found.append(
                    {"classifier": name, **classifiers[name], "domain": domain}
                    | {"target_precision": points["precision"], "attained": entry["attained"]}
                    | {"threshold": entry["threshold"], "set": place, **at}
                )
    return found


def main() -> None:
    block, files, args = arguments(DetectorTable, __doc__)
    write_csv(args.csv, rows(block, files, args.study["classifiers"]))


if __name__ == "__main__":
    run(main)
