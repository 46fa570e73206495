"""The finished test study, built once for all tests that look at it."""

from pathlib import Path

import pytest

from tests.workflow.browser import browser
from tests.workflow.runner import snakemake

__all__ = ["browser", "study"]  # fixtures


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder in which config/test.yaml ran from packages to report."""
    folder = tmp_path_factory.mktemp("study")
    snakemake(folder)
    return folder
