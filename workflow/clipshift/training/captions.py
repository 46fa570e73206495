"""Train one controlled CLIP model: open_clip's program on the captions of a corpus.

`python -m clipshift.training.captions --run NAME --chosen FILE --tar WORD... --training JSON --model JSON
--seed N --work FOLDER --out FOLDER [--text FILE]`: as `clipshift.training.clip`, whose outputs it writes.
"""

import argparse
import json
from pathlib import Path

from clipshift.core.brace_ranges import spread
from clipshift.core.errors import run
from clipshift.core.files import read_json, write_json
from clipshift.study.config.causes import Controlled
from clipshift.study.config.study import Training
from clipshift.training.clip import Filtered, plan, run_arguments, train


def amend(record: Path, run_name: str, spec: Controlled) -> None:
    """Say in a training's record whose split it was, and what is special about it."""
    split, _, _ = run_name.rsplit("-", 2)
    more = {"split": split, "controlled": spec.model_dump(mode="json")}
    write_json(record, read_json(record) | more)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    run_arguments(parser)
    parser.add_argument("--chosen", type=Path, required=True)
    parser.add_argument("--table", nargs="*", default=[], help="sample tables, for read: filter")
    parser.add_argument("--model", required=True, help="JSON of the controlled model's block")
    parser.add_argument("--text", type=Path, help="weights whose text tower it starts from")
    args = parser.parse_args()
    spec = Controlled.model_validate_json(args.model)
    training = Training.model_validate_json(args.training)
    if spec.text and spec.text.frozen:
        lock = [*training.arguments, "--lock-text", "--lock-text-freeze-layer-norm"]
        training = training.model_copy(update={"arguments": lock})
    tables = [path for word in args.table for path in spread(word)]
    how = Filtered(tables, None, "") if tables else None
    train(
        args.run, args.chosen, args.tar, training, args.seed, args.work, args.out, args.data, how,
        args.text,
    )  # fmt: skip
    amend(args.out / "record.json", args.run, spec)
    print(json.dumps({"run": args.run, "plan": plan(training)}))


if __name__ == "__main__":
    run(main)
