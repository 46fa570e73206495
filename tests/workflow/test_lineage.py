"""From a number in a table of a real study back to what it was made from."""

import csv
import json
import random
from pathlib import Path

from clipshift.apps.runs import lineage as verb
from clipshift.study import last_run, lineage

TABLE = "results/tables/accuracy.csv"


def test_numbers_drawn_at_random_lead_to_inputs_that_reproduce_them(whole: Path) -> None:
    known = lineage.read(whole)
    rows = list(csv.DictReader((whole / TABLE).open()))
    for row in random.Random(1).sample(rows, min(10, len(rows))):
        words = [f"split={row['split']}", f"test_set={row['test_set']}"]
        lines = list(verb.lineage(whole, TABLE, words, everything=False))
        (line,) = lines[lines.index("made from") + 1 : next(
            i for i, text in enumerate(lines) if text.startswith("behind it")
        )]  # fmt: skip
        result = json.loads((whole / line.split()[0]).read_text())
        assert f"{result['sets'][row['test_set']]['top1']:.6f}" == row["top1"]
        assert lines[-1] == "not as recorded: 0 files"
    behind, _ = known.behind(known.of(TABLE))
    assert {"train", "split", "embed"} <= {made.rule for made in behind.values()}
    run = known.run_of(known.of(TABLE))
    assert run is not None and run["commit"] == last_run.commit()
    assert json.loads((whole / run["configuration"]).read_text())["study"] == "test"
