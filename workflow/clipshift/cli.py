"""The command `clipshift`: small verbs around the workflow.

`clipshift check FILE...` validates a configuration (several files are merged), `clipshift
config-docs` writes the page of all keys, `clipshift steps [--record FILE]` prints or records the
digests of the steps' code, `clipshift plan` previews what a study costs, `clipshift audit` says how
much of a test set lies in a training set.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from clipshift import __version__, config_docs, config_load, plan
from clipshift.audit.options import add_arguments, read_options
from clipshift.errors import run
from clipshift.files import read_json, write_json, write_text
from clipshift.steps import STEPS, digest


def _check(args: argparse.Namespace) -> None:
    config = config_load.load(*args.files)
    runs = sum(len(config.seeds_of(split)) for split in config.splits)
    names = ", ".join(map(str, args.files))
    print(f"{names}: valid; {len(config.splits)} splits, {runs} trainings")


def _config_docs(args: argparse.Namespace) -> None:
    if args.out:
        write_text(args.out, config_docs.page())
    else:
        print(config_docs.page(), end="")


def _steps(args: argparse.Namespace) -> None:
    digests: dict[str, dict[str, Any]] = {
        name: {"version": step.version, "digest": digest(name)} for name, step in STEPS.items()
    }
    if args.record:
        before = read_json(args.record) if args.record.exists() else {}
        write_json(args.record, digests)
        for name in digests:
            if before.get(name, {}).get("digest") != digests[name]["digest"]:
                print(f"{name}: recorded, version {digests[name]['version']}")
    else:
        for name, entry in digests.items():
            print(f"{name:10} version {entry['version']}  {entry['digest'][:16]}")


def _plan(args: argparse.Namespace) -> None:
    print(plan.preview(args))


def _audit(args: argparse.Namespace) -> None:
    options = read_options(args)
    from clipshift.audit.run import audit  # torch and its like take seconds

    audit(options, ["clipshift", *sys.argv[1:]])


def main() -> None:
    parser = argparse.ArgumentParser(prog="clipshift", description=__doc__)
    parser.add_argument("--version", action="version", version=f"clipshift {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="validate a configuration; several files are merged")
    check.add_argument("files", type=Path, nargs="+")
    check.set_defaults(run=_check)
    docs = commands.add_parser("config-docs", help="write the page of all configuration keys")
    docs.add_argument("--out", type=Path)
    docs.set_defaults(run=_config_docs)
    steps = commands.add_parser("steps", help="versions and code digests of the steps")
    steps.add_argument("--record", type=Path, help="write the digests to this file")
    steps.set_defaults(run=_steps)
    planning = commands.add_parser("plan", help="what a study costs: jobs, hours, bytes")
    plan.add_arguments(planning)
    planning.set_defaults(run=_plan)
    audit = commands.add_parser("audit", help="near-duplicates of a test set in a training set")
    add_arguments(audit)
    audit.set_defaults(run=_audit)
    args = parser.parse_args(sys.argv[1:])
    run(lambda: args.run(args))


if __name__ == "__main__":
    main()
