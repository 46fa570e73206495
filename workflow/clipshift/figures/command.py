"""The command line that all figures share.

`python -m clipshift.figures.KIND --block JSON --study JSON --files JSON --csv FILE --out FILE...`:
the block of the configuration, what else it has to know of the study, the files it reads
(`layout.figures`), the table of its numbers and the pictures.
"""

import argparse
import json
from pathlib import Path
from typing import Any, TypeVar

from clipshift.datasets.tar_paths import add_data
from clipshift.study.config.data import Block
from clipshift.study.layout.figures import Files

B = TypeVar("B", bound=Block)


def arguments(model: type[B], doc: str | None) -> tuple[B, Files, argparse.Namespace]:
    """The block, its files, and the rest: `study`, `csv` and `out`."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--block", required=True, help="JSON of the figure's block")
    parser.add_argument("--study", type=json.loads, required=True, help="JSON of `figure_study`")
    parser.add_argument("--files", required=True, help="JSON of the files to read, by role")
    parser.add_argument("--csv", type=Path, required=True, help="the numbers")
    parser.add_argument("--out", type=Path, nargs="*", default=[], help="the figure: svg, pdf")
    add_data(parser)
    args = parser.parse_args()
    files: dict[str, Any] = json.loads(args.files)
    return model.model_validate_json(args.block), files, args
