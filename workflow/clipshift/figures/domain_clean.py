"""Table: sizes and classes of the clean test sets, what was dropped and why."""

from pathlib import Path
from typing import Any

from clipshift.core.files import read_json, write_csv
from clipshift.core.step import step
from clipshift.figures.published import published_domains
from clipshift.study.config.domain_figures import CleanTable
from clipshift.study.layout.figures import Files, Study


def rows(block: CleanTable, files: Files) -> list[dict[str, Any]]:
    """One row per clean set, in the order of the block."""
    found = []
    for name in block.clean:
        entry = read_json(Path(files["clean"][name]))
        account = entry["account"]
        dropped = "; ".join(f"{n} {why}" for why, n in account["rejected"].items())
        theirs = published_domains()["clean"].get(block.published.get(name, ""), {})
        found.append(
            {"clean_set": name, "set": entry["set"], "domain": entry["domain"]}
            | {"pictures_before": account["in"], "pictures": account["out"]}
            | {"classes_before": entry["classes_before"], "classes": len(entry["classes"])}
            | {"dropped": dropped, "classes_gone": ", ".join(entry["classes_gone"])}
            | {"published_set": block.published.get(name)}
            | {"published_pictures_before": theirs.get("pictures_before")}
            | {"published_classes": theirs.get("classes")}
        )
    return found


@step(version=3)
def table(block: CleanTable, files: Files, study: Study, out: Path) -> None:
    write_csv(out, rows(block, files))
