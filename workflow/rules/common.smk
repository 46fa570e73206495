# What all rules share: the typed configuration `cfg`, and `at`, where every file lies.
import os
from pathlib import Path

from snakemake.exceptions import WorkflowError

from clipshift import config_load
from clipshift.config import source_packages
from clipshift.errors import ClipshiftError
from clipshift.layout import Layout, as_json
from clipshift.layout_figures import (
    FIGURE_KINDS,
    figure_files,
    figure_inputs,
    figure_study,
)
from clipshift.steps import version_of

# Two waiting OpenMP threads on busy cores slow each other down several times.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

try:
    cfg = config_load.parse(config, [Path(f) for f in workflow.configfiles])
except ClipshiftError as error:
    raise WorkflowError(str(error)) from None

at = Layout(cfg)

NAME = "[a-z0-9][A-Za-z0-9_]*"


wildcard_constraints:
    package=NAME,
    source=NAME,
    pool=NAME,
    testset=NAME,
    dataset=NAME,
    encoder=NAME,
    split=NAME,
    model=NAME,
    seed=r"\d+",
    shard=r"\d{5}",
    group=r"\d{5}",
    base=NAME,
    figure=NAME,
