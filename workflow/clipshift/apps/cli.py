"""The command `clipshift`: small verbs around the workflow.

`clipshift check FILE...` validates a configuration (several files are merged), `clipshift
config-docs` writes the page of all keys, `clipshift steps [--record FILE]` prints or records the
digests of the steps' code, `clipshift plan` previews what a study costs, `clipshift audit` says how
much of a test set lies in a training set, `clipshift margins` and `clipshift verify` run the
similarity engine on any embedding folders, `clipshift robustness` says how far any models lie above
the line of ImageNet models, `clipshift label` serves the page on which pictures are labelled,
`clipshift released` finds the labels that the paper's authors published.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from clipshift import __version__
from clipshift.apps.audit.options import add_arguments, read_options
from clipshift.apps.labelling import options as labelling_options
from clipshift.apps.labelling import released
from clipshift.apps.margins import options as margins_options
from clipshift.apps.robustness import options as robustness_options
from clipshift.core.errors import run
from clipshift.core.files import read_json, write_json, write_text
from clipshift.core.versions import digest, steps
from clipshift.study import plan
from clipshift.study.config import docs
from clipshift.study.config.load import load


def _check(args: argparse.Namespace) -> None:
    config = load(*args.files)
    runs = sum(len(config.seeds_of(split)) for split in config.splits)
    names = ", ".join(map(str, args.files))
    print(f"{names}: valid; {len(config.splits)} splits, {runs} trainings")


def _config_docs(args: argparse.Namespace) -> None:
    if args.out:
        write_text(args.out, docs.page())
    else:
        print(docs.page(), end="")


def _steps(args: argparse.Namespace) -> None:
    digests: dict[str, dict[str, Any]] = {
        name: {"version": version, "digest": digest(name)} for name, version in steps().items()
    }
    if args.record:
        before = read_json(args.record) if args.record.exists() else {}
        write_json(args.record, digests)
        for name in digests:
            if before.get(name, {}).get("digest") != digests[name]["digest"]:
                print(f"{name}: recorded, version {digests[name]['version']}")
    else:
        for name, entry in digests.items():
            print(f"{name:42} version {entry['version']}  {entry['digest'][:16]}")


def _plan(args: argparse.Namespace) -> None:
    print(plan.preview(args))


def _audit(args: argparse.Namespace) -> None:
    options = read_options(args)
    from clipshift.apps.audit.run import audit  # torch and its like take seconds

    audit(options, ["clipshift", *sys.argv[1:]])


def _margins(args: argparse.Namespace) -> None:
    tests = margins_options.named_tests(args.test)
    from clipshift.apps.margins import run as margins_folder

    record = margins_folder.margins(
        args.pool, tests, args.reference, args.out, args.device, args.screen, args.k, args.grid
    )
    print(f"{record['rows']} points; closer to a test image than the reference set:")
    for name, above in record["above_threshold"].items():
        share = above / record["rows"] if record["rows"] else 0
        print(f"  {name}: {above} ({100 * share:.2f} %)")


def _verify(args: argparse.Namespace) -> None:
    from clipshift.apps.margins import run as margins_folder

    checked = margins_folder.verify(args.out, args.sample, args.seed)
    print(f"{checked['points']} points ({checked['pairs']} pairs) agree with float64")


def _robustness(args: argparse.Namespace) -> None:
    from clipshift.apps.robustness.report import robustness

    print(robustness(args))


def _label(args: argparse.Namespace) -> None:
    from clipshift.apps.labelling import run as labelling

    labelling.label(args)


def main() -> None:
    # Two waiting OpenMP threads on busy cores slow each other down several times.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    parser = argparse.ArgumentParser(prog="clipshift", description=__doc__)
    parser.add_argument("--version", action="version", version=f"clipshift {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="validate a configuration; several files are merged")
    check.add_argument("files", type=Path, nargs="+")
    check.set_defaults(run=_check)
    docs = commands.add_parser("config-docs", help="write the page of all configuration keys")
    docs.add_argument("--out", type=Path)
    docs.set_defaults(run=_config_docs)
    recording = commands.add_parser("steps", help="versions and code digests of the steps")
    recording.add_argument("--record", type=Path, help="write the digests to this file")
    recording.set_defaults(run=_steps)
    planning = commands.add_parser("plan", help="what a study costs: jobs, hours, bytes")
    plan.add_arguments(planning)
    planning.set_defaults(run=_plan)
    audit = commands.add_parser("audit", help="near-duplicates of a test set in a training set")
    add_arguments(audit)
    audit.set_defaults(run=_audit)
    margins = commands.add_parser("margins", help="margins of an embedding folder to test sets")
    margins_options.add_arguments(margins)
    margins.set_defaults(run=_margins)
    verify = commands.add_parser("verify", help="compute a sample of finished margins again")
    verify.add_argument("out", type=Path, help="what `clipshift margins` wrote")
    verify.add_argument("--sample", type=int, default=1000, help="points of each shard")
    verify.add_argument("--seed", type=int, default=0)
    verify.set_defaults(run=_verify)
    robustness = commands.add_parser("robustness", help="effective robustness of your own models")
    robustness_options.add_arguments(robustness)
    robustness.set_defaults(run=_robustness)
    label = commands.add_parser("label", help="label pictures by hand on a page of this machine")
    labelling_options.add_arguments(label)
    label.set_defaults(run=_label)
    published = commands.add_parser("released", help="labels that the paper's authors published")
    released.add_arguments(published)
    published.set_defaults(run=released.command)
    args = parser.parse_args(sys.argv[1:])
    run(lambda: args.run(args))


if __name__ == "__main__":
    main()
