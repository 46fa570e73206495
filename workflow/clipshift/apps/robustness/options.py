"""The verb `clipshift robustness`; nothing heavy is imported for its options."""

from pathlib import Path
from typing import Annotated, Literal

from typer import BadParameter, Option

from clipshift.study.config.robustness import Robustness, Space

DEFAULT = Robustness()


def _known_baseline(name: str) -> str:
    if name not in DEFAULT.baselines:
        raise BadParameter(f"{name!r} is not one of {', '.join(DEFAULT.baselines)}.")
    return name


def robustness(
    results: Annotated[list[Path], Option(
        metavar="FILE...",
        help="Results of your models, or folders of them: CLIP_benchmark's JSON or csv, "
        "open_clip's csv or results.jsonl, DataComp's eval_results.jsonl, clipshift's JSON.",
    )],
    out: Annotated[Path, Option(metavar="DIR", help="Folder to write.")],
    accuracies: Annotated[list[str] | None, Option(
        "--id", metavar="AXIS=ACCURACY",
        help="An in-distribution accuracy that the files lack, of their only model: "
        "val=63.3% (ImageNet), val-on-imagenet-r-classes=0.88 (its 200 classes). "
        "May be given several times.",
    )] = None,
    axis: Annotated[Literal["own", "full"], Option(
        help="In-distribution axis of R, A and ObjectNet: ImageNet on their own classes, or all "
        "of ImageNet, for the models and the line.", rich_help_panel="Line",
    )] = "own",
    baseline: Annotated[str, Option(
        metavar="|".join(DEFAULT.baselines), callback=_known_baseline,
        autocompletion=lambda: list(DEFAULT.baselines), rich_help_panel="Line",
        help="Baseline whose line is drawn; the table has all. `low` for models below 60 %.",
    )] = DEFAULT.baseline,
    space: Annotated[Space, Option(
        help="Space in which accuracies are lines.", rich_help_panel="Line"
    )] = DEFAULT.space,
    seed: Annotated[int, Option(
        min=0, max=2**32 - 1, help="Seed of the bootstrap.", rich_help_panel="Line"
    )] = DEFAULT.seed,
) -> None:  # fmt: skip
    """Effective robustness of your own models."""
    from clipshift.apps.robustness import report

    cfg = Robustness(space=space, seed=seed, baseline=baseline)
    print(report.robustness(results, out, accuracies or [], cfg, axis == "full"))
