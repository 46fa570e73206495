"""The words of `clipshift robustness`; nothing heavy is imported for them."""

import argparse
from pathlib import Path

from clipshift.study.config.robustness import Robustness


def add_arguments(parser: argparse.ArgumentParser) -> None:
    default = Robustness()
    parser.add_argument(
        "--results", type=Path, nargs="+", required=True, metavar="FILE",
        help="results of your models, or folders of them: CLIP_benchmark's JSON or csv, "
        "open_clip's csv or results.jsonl, DataComp's eval_results.jsonl, clipshift's JSON",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--id", action="append", default=[], metavar="AXIS=ACCURACY",
        help="an in-distribution accuracy that the files lack, of their only model: "
        "val=63.3%% (ImageNet), val-on-imagenet-r-classes=0.88 (its 200 classes)",
    )  # fmt: skip
    parser.add_argument(
        "--axis", choices=["own", "full"], default="own",
        help="in-distribution axis of R, A and ObjectNet: ImageNet on their own classes, or (full) "
        "all of ImageNet, for the models and the line",
    )  # fmt: skip
    parser.add_argument(
        "--baseline", choices=list(default.baselines), default=default.baseline,
        help="baseline whose line is drawn; the table has all. `low` for models below 60 %%",
    )  # fmt: skip
    parser.add_argument("--space", choices=["logit", "probit", "linear"], default=default.space)
    parser.add_argument("--seed", type=int, default=default.seed, help="of the bootstrap")
