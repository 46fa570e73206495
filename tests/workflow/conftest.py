"""The finished test study, built once for all tests that look at it."""

import shutil
from pathlib import Path

import pytest

from tests.workflow.browser import browser
from tests.workflow.runner import WHOLE, changed_config, snakemake

__all__ = ["browser", "study", "whole"]  # fixtures


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder in which config/test.yaml ran from packages to report."""
    folder = tmp_path_factory.mktemp("study")
    snakemake(folder)
    return folder


@pytest.fixture(scope="session")
def whole(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with studies B and C on top."""
    folder = tmp_path_factory.mktemp("whole") / "study"
    shutil.copytree(study, folder, symlinks=True)
    snakemake(folder, config=changed_config(folder, {}, *WHOLE))
    return folder
