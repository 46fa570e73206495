"""The options of `clipshift audit`."""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipshift.core.errors import ClipshiftError

# From "same motif" to "same picture" for EfficientNet-Lite0 and CLIP; no universal values.
THRESHOLDS = (0.85, 0.9, 0.95, 0.98)
SIDES = ("train", "test", "reference")
LITE0 = {"kind": "efficientnet_lite0"}
# What Python, torch and the fixed buffers need; the rest of the budget goes to the arrays.
BASE_BYTES = 768 << 20
MIN_BLOCK_BYTES = 4 << 20
MAX_BLOCK_BYTES = 48 << 20


@dataclass(frozen=True)
class Where:
    """Where one side lies: an embedding folder, pictures, or both (then joined by key)."""

    embeddings: Path | None
    images: Path | None


@dataclass(frozen=True)
class Options:
    """Checked options. `thresholds` ascend; `main` is the one that the headline speaks of."""

    sides: dict[str, Where]
    out: Path
    predictions: Path | None
    test_set: str | None
    thresholds: tuple[float, ...]
    main: float
    neighbours: int
    encoder: dict[str, Any] | None
    items: int
    sample: int
    seed: int
    device: str
    memory: int

    def outcome(self) -> dict[str, Any]:
        """The options that the outputs depend on."""
        return {
            "thresholds": list(self.thresholds),
            "main_threshold": self.main,
            "neighbours": self.neighbours,
            "test_set": self.test_set,
            "items": self.items,
            "sample": self.sample,
            "seed": self.seed,
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for side, what in zip(SIDES, ("training set", "test set", "reference set"), strict=True):
        parser.add_argument(
            f"--{side}",
            type=Path,
            metavar="EMB_DIR",
            help=f"embeddings of the {what} (clip-retrieval's layout)",
        )
        parser.add_argument(
            f"--{side}-images",
            type=Path,
            metavar="DIR",
            help=f"pictures of the {what}: files or tars; beside embeddings only for the page",
        )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="report folder")
    parser.add_argument(
        "--predictions",
        type=Path,
        metavar="FILE",
        help="parquet or csv: key (or test_key), and correct, or label and predicted",
    )
    parser.add_argument(
        "--test-set", metavar="NAME", help="rows of --predictions with this in column test_set"
    )
    parser.add_argument(
        "--thresholds",
        type=float,
        nargs="+",
        default=list(THRESHOLDS),
        metavar="S",
        help="cosine similarities above which a pair counts as near-duplicate; they depend on the "
        "encoder (default: %(default)s)",
    )
    parser.add_argument(
        "--main-threshold",
        type=float,
        metavar="S",
        help="the threshold of the headline and of remove.txt (default: the upper middle one)",
    )
    parser.add_argument(
        "--neighbours", type=int, default=5, metavar="K", help="per test item (default: 5)"
    )
    parser.add_argument(
        "--encoder",
        metavar="NAME|JSON",
        help="efficientnet_lite0 (default), MODEL:PRETRAINED of open_clip, or an encoder block "
        'of the configuration, e.g. {"kind": "open_clip", "model": ..., "pretrained": ...}',
    )
    parser.add_argument(
        "--items",
        type=int,
        default=300,
        metavar="N",
        help="worst test items shown, with pictures, on the page (default: 300)",
    )
    parser.add_argument(
        "--sample",
        type=int,
        default=100,
        metavar="N",
        help="further test items on the page, drawn at random (default: 100)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of that draw (default: 0)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...")
    parser.add_argument(
        "--memory", type=float, default=1.5, metavar="GIB", help="budget, GiB (default: 1.5)"
    )


def read_options(args: argparse.Namespace) -> Options:
    """Check the arguments.

    Raises:
        ClipshiftError: an argument is missing, contradicts another or is out of range.
    """
    sides = {
        side: Where(getattr(args, side), getattr(args, f"{side}_images"))
        for side in SIDES
        if getattr(args, side) or getattr(args, f"{side}_images")
    }
    for side in ("train", "test"):
        if side not in sides:
            raise ClipshiftError(f"give --{side} EMB_DIR or --{side}-images DIR")
    _require_folders(sides)
    embedded = [where.embeddings is None for where in sides.values()]
    if any(embedded) and not all(embedded) and not args.encoder:
        raise ClipshiftError(
            "some sides are embeddings and some are pictures: name the encoder that made the "
            "embeddings by --encoder, or vectors of different encoders would be compared"
        )
    thresholds, main = _thresholds(args)
    for name, low in (("neighbours", 1), ("items", 1), ("sample", 0), ("seed", 0)):
        if getattr(args, name) < low:
            raise ClipshiftError(f"--{name} must be at least {low}")
    if args.test_set and not args.predictions:
        raise ClipshiftError("--test-set chooses rows of --predictions, which is not given")
    if args.predictions and not args.predictions.is_file():
        raise ClipshiftError(f"{args.predictions} (of --predictions) is no file")
    memory = int(args.memory * (1 << 30))
    if memory < BASE_BYTES + (64 << 20):
        raise ClipshiftError("--memory must be at least 0.9 (GiB): Python and torch need that")
    return Options(
        sides=sides,
        out=args.out,
        predictions=args.predictions,
        test_set=args.test_set,
        thresholds=thresholds,
        main=main,
        neighbours=args.neighbours,
        encoder=encoder_block(args.encoder) if any(embedded) else None,
        items=args.items,
        sample=args.sample,
        seed=args.seed,
        device=args.device,
        memory=memory,
    )


def _require_folders(sides: dict[str, Where]) -> None:
    for side, where in sides.items():
        for path in (where.embeddings, where.images):
            if path is not None and not path.is_dir():
                raise ClipshiftError(f"{path} (of --{side}) is no folder")


def _thresholds(args: argparse.Namespace) -> tuple[tuple[float, ...], float]:
    """The thresholds, ascending, and the main one."""
    thresholds = tuple(sorted(set(args.thresholds)))
    if not all(-1 <= t < 1.01 for t in thresholds):
        raise ClipshiftError(f"--thresholds are cosine similarities (-1 to 1), not {thresholds}")
    main = thresholds[len(thresholds) // 2] if args.main_threshold is None else args.main_threshold
    if main not in thresholds:
        raise ClipshiftError(f"--main-threshold {main} is none of --thresholds {thresholds}")
    return thresholds, main


def encoder_block(text: str | None) -> dict[str, Any]:
    """The encoder block that a name or a JSON stands for.

    >>> encoder_block("ViT-B-32:openai")["model"]
    'ViT-B-32'
    """
    from pydantic import TypeAdapter, ValidationError

    from clipshift.study.config.encoders import Encoder

    if text is None or text == LITE0["kind"]:
        block: Any = LITE0
    elif text.lstrip().startswith("{"):
        try:
            block = json.loads(text)
        except ValueError as error:
            raise ClipshiftError(f"--encoder is not JSON: {error}") from error
    else:
        model, _, pretrained = text.partition(":")
        if not pretrained:
            raise ClipshiftError(
                f"--encoder {text!r}: expected efficientnet_lite0, MODEL:PRETRAINED or JSON"
            )
        block = {"kind": "open_clip", "model": model, "pretrained": pretrained}
    try:
        spec = TypeAdapter(Encoder).validate_python(block)
    except ValidationError as error:
        raise ClipshiftError(f"--encoder {text}: {error}") from error
    dumped: dict[str, Any] = spec.model_dump()
    return dumped
