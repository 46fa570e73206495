"""The numbers of every kind of figures and tables, against an independent computation."""

import subprocess
import sys
from pathlib import Path

import pytest

from clipshift.study.config.figures import KINDS
from tests.unit import rows_accuracy, rows_domains, rows_similarity
from tests.unit.rows_case import CASES

MODULES = (rows_accuracy, rows_similarity, rows_domains)


@pytest.mark.filterwarnings("error")  # of a layout that has no room
@pytest.mark.parametrize("kind", list(KINDS))
def test_numbers_of_a_kind(kind: str, tmp_path: Path) -> None:
    assert kind in CASES, f"write a case of {kind!r} in one of {[m.__name__ for m in MODULES]}"
    CASES[kind](tmp_path)


def test_every_case_is_of_a_kind() -> None:
    assert CASES.keys() <= set(KINDS)


def test_kinds_are_named_after_their_modules() -> None:
    for kind, block in KINDS.blocks.items():
        assert block.__module__ == f"clipshift.figures.kinds.{kind}"


def test_reading_the_kinds_imports_nothing_heavy() -> None:
    """Snakemake imports them whenever it reads the workflow."""
    code = (
        "import sys\nfrom clipshift.study.config.figures import KINDS\nassert len(KINDS.blocks)\n"
        "heavy = {'numpy', 'pyarrow', 'scipy', 'matplotlib', 'PIL', 'duckdb', 'sklearn', 'torch'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
