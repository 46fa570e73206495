"""The command `clipshift`: small verbs around the workflow.

What a verb does is imported when it runs: torch, numpy and the like take seconds.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from clipshift import __version__
from clipshift.apps.audit.options import Options as Audit
from clipshift.apps.cluster_check.options import cluster_check
from clipshift.apps.labelling.options import Options as Label
from clipshift.apps.labelling.options import draw, released
from clipshift.apps.margins.options import margins, verify
from clipshift.apps.robustness.options import robustness
from clipshift.apps.verbs import PASSED, Passing, Verb, of_fields
from clipshift.core.errors import run
from clipshift.core.step import ROOT

STUDY = [ROOT / "config/mini.yaml"]

# Options of the verbs that run the workflow.
Targets = Annotated[list[str] | None, Argument(help="Files to make (default: the whole study).")]
Configurations = Annotated[list[Path] | None, Option(
    metavar="FILE...", help="Configurations; several are merged.",
    show_default="config/mini.yaml, or the profile's",
)]  # fmt: skip
Profile = Annotated[str, Option(metavar="NAME", help="local, slurm, or a folder of your own.")]
Folder = Annotated[Path | None, Option(
    metavar="DIR", help="Where results/ lies.", show_default="the current folder"
)]  # fmt: skip
# Options of the verbs that read a data set.
FormatName = Annotated[
    str | None,
    Option(metavar="NAME", help="Format of the data; default: the one that recognises them."),
]
ColumnNames = Annotated[
    list[str] | None,
    Option(metavar="FIELD=NAME...", help="What the data call a field, e.g. caption=TEXT."),
]

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip


def verb(
    name: str, *examples: str, cls: type[Verb] = Verb
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a verb; its help ends with the examples."""
    text = "\n\n".join(["Examples:" if len(examples) > 1 else "Example:", *examples])
    return app.command(name, cls=cls, epilog=text)


def _version(asked: bool) -> None:
    if asked:
        print(f"clipshift {__version__}")
        raise typer.Exit


@app.callback()
def clipshift(
    version: Annotated[bool, Option(
        "--version", callback=_version, is_eager=True, help="Print the version and exit."
    )] = False,
) -> None:  # fmt: skip
    """Which training data makes CLIP robust to distribution shift? Verbs around the workflow."""


@verb(
    "check", "clipshift check config/mini.yaml config/mini-full.yaml",
    "clipshift check my.yaml --data /somewhere",
)  # fmt: skip
def check(
    files: Annotated[list[Path], Argument(help="Configurations; several are merged.")],
    data: Annotated[Path | None, Option(
        metavar="DIR", help="Folder of the data, as --config data=DIR."
    )] = None,
    keys_only: Annotated[bool, Option(
        "--keys-only", help="The configuration alone, where the data are elsewhere."
    )] = False,
) -> None:  # fmt: skip
    """Validate a configuration, and open the data that it names: all faults in one message."""
    from clipshift.study.config.causes import given_weights
    from clipshift.study.config.load import changes, load, merged
    from clipshift.study.config.scale import described as made_smaller

    config = load(*files)
    runs = sum(len(config.seeds_of(split)) for split in config.splits)
    names = ", ".join(map(str, files))
    print(f"{names}: valid; {len(config.splits)} splits, {runs} trainings")
    for line in made_smaller(changes(merged(*files))):
        print(line)
    if config.domains and (needed := config.domains.labels_needed):
        print(needed)
    weights = given_weights(config.causes)
    if (config.folders or weights) and not keys_only:
        from clipshift.datasets.external_check import described, take_stock

        found = take_stock(config.folders, data or Path(config.data), config.sizes, weights)
        print("\n".join(described(found)))


@verb("config-docs", "clipshift config-docs --out config/README.md")
def config_docs(
    out: Annotated[
        Path | None, Option(metavar="FILE", help="Write it here, not to stdout.")
    ] = None,
) -> None:
    """Write the page of all configuration keys."""
    from clipshift.study.config import docs

    if out:
        from clipshift.core.files import write_text

        write_text(out, docs.page())
    else:
        print(docs.page(), end="")


@verb("steps", "clipshift steps", "clipshift steps --record tests/step_digests.json")
def steps(
    record: Annotated[Path | None, Option(
        metavar="FILE", help="Write the digests to this file."
    )] = None,
) -> None:  # fmt: skip
    """Versions and code digests of the steps."""
    from clipshift.core import versions
    from clipshift.core.files import read_json, write_json

    digests: dict[str, dict[str, Any]] = {
        name: {"version": version, "digest": versions.digest(name)}
        for name, version in versions.steps().items()
    }
    if record:
        before = read_json(record) if record.exists() else {}
        write_json(record, digests)
        for name in digests:
            if before.get(name, {}).get("digest") != digests[name]["digest"]:
                print(f"{name}: recorded, version {digests[name]['version']}")
    else:
        for name, entry in digests.items():
            print(f"{name:42} version {entry['version']}  {entry['digest'][:16]}")


@verb(
    "plan", "clipshift plan --configfile config/mini.yaml config/mini-full.yaml",
    "clipshift plan --configfile config/laion400m.yaml -- results/eval/pruned_100M.json",
    "clipshift plan --compare --configfile config/mini.yaml",
)  # fmt: skip
def plan(
    targets: Annotated[list[str] | None, Argument(
        help="Files to make (default: the whole study)."
    )] = None,
    configfile: Annotated[list[Path], Option(
        metavar="FILE...", help="Configurations; several are merged.",
        show_default="config/mini.yaml",
    )] = STUDY,
    data: Annotated[str | None, Option(
        metavar="DIR", help="Folder of the data, as --config data=DIR."
    )] = None,
    directory: Annotated[Path, Option(metavar="DIR", help="Where results/ lies.")] = Path(),
    gpus: Annotated[int | None, Option(
        min=1, max=1_000_000, help="GPUs at once (default: costs.gpus)."
    )] = None,
    compare: Annotated[bool, Option(
        "--compare", help="What was planned for the jobs that have run, and what they took."
    )] = False,
) -> None:  # fmt: skip
    """What a study costs: jobs, hours, bytes; and whether it would end (else exit code 1)."""
    from clipshift.study.planning.compare import comparison
    from clipshift.study.planning.preview import preview

    (comparison if compare else preview)(targets or [], configfile, data, directory, gpus)


@verb(
    "run", "clipshift run", "clipshift run results/eval/near_sketch_40.json",
    "clipshift run --configfile config/laion400m.yaml --profile slurm -- --set-resources "
    "train:runtime=1440", cls=Passing,
)  # fmt: skip
def run_study(
    context: typer.Context,
    targets: Targets = None,
    configfile: Configurations = None,
    profile: Profile = "local",
    directory: Folder = None,
    cores: Annotated[str | None, Option(
        metavar="N", help="Cores of this machine.", show_default="all; on a cluster its profile's"
    )] = None,
    dry_run: Annotated[bool, Option("--dry-run", "-n", help="What would run.")] = False,
) -> None:  # fmt: skip
    """Run a study by Snakemake; what stands behind -- are further options of Snakemake."""
    from clipshift.apps.runs import command

    passed = [*["--dry-run"] * dry_run, *context.meta[PASSED]]
    words = command.options(configfile or [], profile, directory, cores, passed)
    command.start([*words, "--", *targets] if targets else words)


@verb("resume", "clipshift resume", "clipshift resume --directory studies/my_study")
def resume(directory: Folder = None) -> None:
    """Run again what was killed or failed, with the same arguments; unlock its folder first."""
    from clipshift.apps.runs import command

    command.resume(directory or Path())


@verb("status", "clipshift status", "clipshift status results/eval/near_sketch_40.json")
def status(
    targets: Targets = None, configfile: Configurations = None, profile: Profile = "local",
    directory: Folder = None,
) -> None:  # fmt: skip
    """What runs, how far it is, what is missing, and the last errors."""
    from clipshift.apps.runs import command
    from clipshift.apps.runs import status as runs_status
    from clipshift.study import last_run

    folder = directory or Path()
    own = configfile or last_run.read(folder) is None
    words = command.options(configfile or [], profile, directory) if own else []
    print(runs_status.status(folder, targets or [], words))


@verb(
    "lineage", "clipshift lineage results/figures/accuracy_vs_pruned_sketch.svg",
    "clipshift lineage results/tables/accuracy.csv split=near_sketch_40 test_set=sketch",
)  # fmt: skip
def lineage(
    file: Annotated[str, Argument(help="A file below results/.")],
    row: Annotated[list[str] | None, Argument(
        metavar="COLUMN=VALUE...", help="A row of it, where it is a table."
    )] = None,
    everything: Annotated[bool, Option(
        "--all", help="Every file behind it, read again."
    )] = False,
    directory: Folder = None,
) -> None:  # fmt: skip
    """Where a number comes from: inputs, hashes, commit, command and configuration, to the end."""
    from clipshift.apps.runs.lineage import lineage

    print("\n".join(lineage(directory or Path(), file, row or [], everything)))


@verb(
    "diff", "clipshift diff . ../before", "clipshift diff . ../before results/tables/accuracy.csv"
)
def diff(
    one: Annotated[Path, Argument(help="The folder of a study, where results/ lies.")],
    other: Annotated[Path, Argument(help="Another one.")],
    files: Annotated[list[str] | None, Argument(help="Files (default: all tables).")] = None,
    everything: Annotated[bool, Option("--all", help="Every cell and reason.")] = False,
) -> None:
    """Which numbers of two studies differ, and why."""
    from clipshift.apps.runs.lineage import diff

    print("\n".join(diff(one, other, files or [], everything)))


@verb("unlock", "clipshift unlock", "clipshift unlock --directory studies/my_study")
def unlock(
    directory: Folder = None, configfile: Configurations = None, profile: Profile = "local"
) -> None:
    """Remove the lock of a run that was killed; refused while that run lives."""
    from clipshift.apps.runs import command

    words = command.options(configfile or [], profile, directory)
    print(command.unlock(directory or Path(), words))


@verb(
    "inspect", "clipshift inspect my/photos",
    "clipshift inspect pairs.csv --column caption=TEXT --page pairs.html",
)  # fmt: skip
def inspect(
    path: Annotated[Path, Argument(help="A folder or a file, in any format that is read.")],
    format: FormatName = None,
    column: ColumnNames = None,
    seconds: Annotated[float, Option(
        min=0, help="Read so long; the first part is read whole."
    )] = 5,
    page: Annotated[Path | None, Option(metavar="FILE", help="Write a page with images.")] = None,
) -> None:  # fmt: skip
    """What a path holds: format, samples, classes, captions, sizes, and what would read it."""
    from clipshift.apps.inspect import look, report
    from clipshift.datasets.formats.base import columns_of

    found = look.look(path, format, columns_of(column or []), seconds)
    print(report.text(found, colours=sys.stdout.isatty()), end="")
    if page:
        report.write_page(found, page)


@verb(
    "init", "clipshift init my/photos --out my-study.yaml",
    "clipshift init domains --column label=folder:2 --test sketch=domains/sketch --out sketch.yaml",
    "clipshift init pairs.csv --reference photos --test val=val --out pairs.yaml",
)  # fmt: skip
def init(
    pool: Annotated[Path, Argument(help="Training data, in any format that is read.")],
    out: Annotated[Path, Option(metavar="FILE", help="The configuration to write.")],
    test: Annotated[list[str] | None, Option(
        metavar="NAME=PATH...", help="Labelled test sets; default: a part of the pool is held out."
    )] = None,
    reference: Annotated[Path | None, Option(
        metavar="PATH", help="Labelled training data whose similarity to the test sets is the "
        "limit; default: a part of the pool.",
    )] = None,
    format: FormatName = None,
    column: ColumnNames = None,
    template: Annotated[str | None, Option(
        metavar="TEXT", help="Captions of labelled data, e.g. 'a photo of a {class}'."
    )] = None,
    hold_out: Annotated[float, Option(help="Share of each class that is held out.")] = 0.2,
) -> None:  # fmt: skip
    """Write a small whole study of your own data, ready to run."""
    from clipshift.apps.inspect import init as inspect_init
    from clipshift.datasets.formats.base import columns_of

    asked = inspect_init.Asked(
        pool, inspect_init.named(test or []), reference, format, columns_of(column or []),
        template, hold_out,
    )  # fmt: skip
    print("\n".join(inspect_init.write(asked, out)))


def audit(options: Audit) -> None:
    from clipshift.apps.audit import run

    run.audit(options, ["clipshift", *sys.argv[1:]])


def label(options: Label) -> None:
    from clipshift.apps.labelling import run

    run.label(options)


verb(
    "audit", "clipshift audit --train-images my/train --test-images my/test --out audit",
    "clipshift audit --train EMB_DIR --test EMB_DIR --thresholds 0.9 0.95 --out audit",
)(of_fields(Audit, audit))  # fmt: skip
verb(
    "margins",
    "clipshift margins --pool EMB_DIR --test val=EMB_DIR --test sketch=EMB_DIR "
    "--reference EMB_DIR --out margins",
)(margins)
verb("verify", "clipshift verify margins")(verify)
verb(
    "robustness", "clipshift robustness --results imagenetv2.json --id val=63.3% --out robustness",
    "clipshift robustness --results results/*.json --out robustness",
)(robustness)  # fmt: skip
verb(
    "label", "clipshift label --images POOL --out labels.parquet --annotator ann",
    "clipshift label --agreement ann.parquet ben.parquet",
)(of_fields(Label, label))  # fmt: skip
verb("draw", "clipshift draw results/splits/to_label.parquet --images POOL --out drawn")(draw)
verb(
    "released",
    "clipshift released LAION-Natural-Rendition --pool POOL --out labels.parquet "
    "--subset laion400m_natural_57M-meta=natural --subset laion400m_rendition_16M-meta=rendition",
)(released)
verb(
    "cluster-check", "clipshift cluster-check",
    "clipshift cluster-check --cluster my.yaml --gpus 8 --minutes 120",
)(cluster_check)  # fmt: skip


def main() -> None:
    # Two waiting OpenMP threads on busy cores slow each other down several times.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        run(lambda: app(prog_name="clipshift"))
    except SystemExit as end:  # typer always exits
        if end.code:
            raise


if __name__ == "__main__":
    main()
