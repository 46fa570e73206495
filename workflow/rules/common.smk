# What all rules share: the typed configuration `cfg`, and `at`, where every file lies.
import os
import sys
from functools import partial
from pathlib import Path

# Planning runs this checkout's code as its jobs do, whichever one is installed.
CHECKOUT = Path(str(workflow.current_basedir)).parents[1]
sys.path.insert(0, f"{CHECKOUT}/workflow")
if not getattr(sys.modules.get("clipshift"), "__file__", sys.path[0]).startswith(
    f"{CHECKOUT}/"
):
    for module in [m for m in sys.modules if m.split(".")[0] == "clipshift"]:
        del sys.modules[module]

from snakemake.exceptions import WorkflowError

from clipshift.core import job_logs
from clipshift.study import cluster, contents, hooks, last_run, shared_folder
from clipshift.study.config.figures import KINDS
from clipshift.study.config.folders import (
    DATA_VARIABLE,
    EXTERNAL,
    STORAGE_VARIABLE,
    STORED,
    StoredPool,
)
from clipshift.study.config.causes import asked
from clipshift.study.config.load import changes as made_smaller
from clipshift.study.config.load import (
    parse as parse_config,
)  # Snakemake has a `parse` here
from clipshift.study.config.scale import described as described_scale
from clipshift.study.config.study import source_packages
from clipshift.core.brace_ranges import compact
from clipshift.core.errors import ClipshiftError
from clipshift.study.continuing import continue_jobs
from clipshift.study.layout.causes import Causes
from clipshift.study.layout.domains import DomainLayout
from clipshift.study.layout.evaluation import Evaluations
from clipshift.study.layout.figures import (
    figure_block,
    figure_files,
    figure_inputs,
    figure_study,
    table_inputs,
)
from clipshift.study.layout import made
from clipshift.study.layout.reading import Reading
from clipshift.study.layout.report import (
    controlled_tables,
    report_contents,
    report_inputs,
)
from clipshift.study.layout.robustness import PUBLISHED_FIGURES, PUBLISHED_ROBUSTNESS
from clipshift.study.layout.study import Layout
from clipshift.core.step import RUN, call
from clipshift.study.targets import Names
from clipshift.study.wildcards import NAME, compact_pattern, pattern

# Two waiting OpenMP threads on busy cores slow each other down several times.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
cluster.prepare(shell)
# Steps run this checkout's code, also in a container, whose image has a copy of its day.
SEARCHED = "PYTHONPATH"
os.environ[SEARCHED] = os.pathsep.join(
    [f"{CHECKOUT}/workflow", *filter(None, [os.environ.get(SEARCHED)])]
)

try:
    hooks.refuse_colon(CHECKOUT)
    hooks.refuse_prefix(workflow)
    cfg = parse_config(config, [Path(f) for f in workflow.configfiles])
    if workflow.is_main_process:
        for line in described_scale(made_smaller(config)):
            print(line, file=sys.stderr)
        print(shared_folder.check(cfg), end="", file=sys.stderr)
except ClipshiftError as error:
    raise WorkflowError(str(error)) from None

# What a job asks for follows from the study, by the cost model.
needs = partial(cluster.needs, cfg)

# What is there already decides which jobs a plan has; the jobs of the plan read the same answers.
at = Layout(cfg, made.Made(workflow.is_main_process))
if workflow.is_main_process:
    os.environ[made.VARIABLE] = str(
        Path.cwd() / f"results/work/made/{os.getpid()}.json"
    )
dom = DomainLayout(at)
causes = Causes(at)
reading = Reading(at)
names = Names(Evaluations(at))

# Where the user's folders lie is no parameter of a rule: data that moved compute nothing again.
os.environ[DATA_VARIABLE] = cfg.data
# Pools in object storage; what they need is imported where there is one.
in_storage = {n: b for n, b in cfg.pools.items() if isinstance(b, StoredPool)}
if in_storage:
    from clipshift.datasets import object_storage

    try:
        object_storage.check(in_storage, storage, ask=workflow.is_main_process)
    except ClipshiftError as error:
        raise WorkflowError(str(error)) from None
    # Where fetched objects lie is no parameter either; on a node it may be elsewhere.
    os.environ[STORAGE_VARIABLE] = str(
        workflow.storage_settings.local_storage_prefix / "s3"
    )


def there(words, read=(".tar",)):
    """Inputs behind some words: the folders that the user has are checked once, and never newer.

    Of a pool in object storage, the files that the job reads of each number, which are fetched.
    """
    own = [word for word in words if not word.startswith((EXTERNAL, STORED))]
    names = object_storage.objects(in_storage, words, read) if in_storage else []
    outside = at.inventories(words) + [storage.s3(name) for name in names]
    return own + [ancient(file) for file in outside]


def before_plan():
    """Settings of the whole run, what is wrong with its targets, and dates that a copy lost."""
    hooks.set_triggers(workflow, CHECKOUT)
    if workflow.is_main_process:
        hooks.check_targets(workflow, CHECKOUT, names)
        print(contents.restore(workflow.persistence), end="", file=sys.stderr)


def begin():
    """What the jobs of this run, and later runs, have to know."""
    at.made.save(Path(os.environ[made.VARIABLE]))
    if workflow.non_local_exec:
        # Jobs of a killed run must have ended before theirs are submitted once more.
        try:
            cluster.refuse_leftovers(Path.cwd())
        except ClipshiftError as error:
            raise WorkflowError(str(error)) from None
    shared_folder.save(cfg)
    last_run.begin(workflow, cfg.model_dump(mode="json", exclude_defaults=True))


def tell(ok):
    """Print notes and errors of the jobs of this run, which began when `made` was saved."""
    began = Path(os.environ.get(made.VARIABLE, ""))
    if workflow.is_main_process and began.is_file():
        since = began.stat().st_mtime
        print(job_logs.told(Path("results/logs"), since), end="", file=sys.stderr)
        print(contents.record(workflow.persistence), end="", file=sys.stderr)
        last_run.end(ok)


hooks.around(workflow, before_plan, begin, tell)
continue_jobs()


def named(sets, wildcards):
    """Test sets of a job: its own, or those of its pass."""
    return [s.format(**dict(wildcards.items())) for s in sets]


wildcard_constraints:
    **{wildcard: pattern(known) for wildcard, known in names.named.items()},
    seed=r"\d+",
    shard=r"\d{5}",
    group=r"\d{5}",
