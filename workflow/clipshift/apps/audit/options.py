"""The options of `clipshift audit`."""

import json
from dataclasses import dataclass
from functools import cached_property, partial
from math import inf
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from clipshift.apps.verbs import pair
from clipshift.core.errors import ClipshiftError
from clipshift.core.output_folder import refuse_inside

# From "same motif" to "same image" for EfficientNet-Lite0 and CLIP; no universal values.
THRESHOLDS = (0.85, 0.9, 0.95, 0.98)
SIDES = ("train", "test", "reference")
LITE0 = {"kind": "efficientnet_lite0"}
# What Python, torch and the fixed buffers need; the rest of the budget goes to the arrays.
BASE_BYTES = 768 << 20
MIN_BLOCK_BYTES = 4 << 20
MAX_BLOCK_BYTES = 48 << 20


@dataclass(frozen=True)
class Where:
    """Where one side lies: an embedding folder, images, or both (then joined by key)."""

    embeddings: Path | None
    images: Path | None


_input = partial(Option, rich_help_panel="Inputs")
_report = partial(Option, rich_help_panel="Report")
_computation = partial(Option, rich_help_panel="Computation")


def _embeddings(what: str) -> Any:
    return _input(
        metavar="EMB",
        help=f"Embeddings of the {what} set: a folder in clip-retrieval's layout, "
        "an npy (NPY::IDS), npz or h5, or a parquet with a column of lists.",
    )


def _images(what: str) -> Any:
    where = "files, tars or another format of data sets; beside embeddings only for the page."
    return _input(metavar="PATH", help=f"Images of the {what} set: {where}")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Near-duplicates of a test set in a training set.

    Each of them is embeddings, images, or both.
    """

    train: Annotated[Path | None, _embeddings("training")] = None
    train_images: Annotated[Path | None, _images("training")] = None
    test: Annotated[Path | None, _embeddings("test")] = None
    test_images: Annotated[Path | None, _images("test")] = None
    reference: Annotated[Path | None, _embeddings("reference")] = None
    reference_images: Annotated[Path | None, _images("reference")] = None
    normalise: Annotated[bool, _input(
        "--normalise", help="Divide each row of the embeddings by its norm."
    )] = False  # fmt: skip
    vectors: Annotated[str | None, _input(
        metavar="NAME", help="Array or column of the embeddings that holds the vectors."
    )] = None  # fmt: skip
    keys: Annotated[str | None, _input(
        metavar="NAME", help="Column of the embeddings that holds the keys."
    )] = None  # fmt: skip
    background: Annotated[str, _input(
        metavar="#RRGGBB", help="Colour behind transparent pixels of images."
    )] = "#ffffff"  # fmt: skip
    encoder: Annotated[str | None, _input(
        metavar="NAME|JSON", help="efficientnet_lite0 (default), MODEL:PRETRAINED of open_clip, "
        "or an encoder block of the configuration, e.g. "
        '{"kind": "open_clip", "model": ..., "pretrained": ...}.',
    )] = None  # fmt: skip
    predictions: Annotated[Path | None, _input(
        metavar="FILE",
        help="csv, tsv, json, jsonl or parquet: key, and correct, or label and predicted.",
    )] = None  # fmt: skip
    column: Annotated[list[str] | None, _input(
        metavar="FIELD=NAME...", help="Columns of --predictions that are not found by themselves: "
        "key, label, predicted, correct, class_name, test_set; e.g. label=TARGET.",
    )] = None  # fmt: skip
    test_set: Annotated[str | None, _input(
        metavar="NAME", help="Rows of --predictions with this in column test_set.",
    )] = None  # fmt: skip
    out: Annotated[Path, Option(metavar="DIR", help="Report folder.")]
    thresholds: Annotated[list[float], _report(
        metavar="S...", default_factory=lambda: list(THRESHOLDS),
        show_default=" ".join(map(str, THRESHOLDS)),
        help="Cosine similarities above which a pair counts as near-duplicate; they depend on "
        "the encoder.",
    )]  # fmt: skip
    main_threshold: Annotated[float | None, _report(
        metavar="S",
        help="The threshold of the headline and of remove.txt (default: the upper middle one).",
    )] = None  # fmt: skip
    neighbours: Annotated[int, _report(metavar="K", help="Training items per test item.")] = 5
    items: Annotated[int, _report(
        metavar="N", help="Worst test items shown, with images, on the page."
    )] = 300  # fmt: skip
    sample: Annotated[int, _report(
        metavar="N", help="Further test items on the page, drawn at random."
    )] = 100  # fmt: skip
    seed: Annotated[int, _report(help="Seed of that draw.")] = 0
    device: Annotated[str, _computation(help="auto, cpu, cuda, cuda:1 ...")] = "auto"
    memory: Annotated[float, _computation(metavar="GIB", help="Budget, GiB.")] = 1.5

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ClipshiftError: an option is missing, contradicts another or is out of range.
        """
        _check_sides(self.sides, self.encoder)
        given = [path for where in self.sides.values() for path in (where.embeddings, where.images)]
        refuse_inside(self.out, filter(None, given))
        object.__setattr__(self, "thresholds", sorted(set(self.thresholds)))
        shown = tuple(self.thresholds)
        if not all(-1 <= t <= 1 for t in shown):
            raise ClipshiftError(f"--thresholds are cosine similarities (-1 to 1), not {shown}")
        if self.main not in shown:
            raise ClipshiftError(f"--main-threshold {self.main} is none of --thresholds {shown}")
        for name, low in (("neighbours", 1), ("items", 1), ("sample", 0), ("seed", 0)):
            if getattr(self, name) < low:
                raise ClipshiftError(f"--{name} must be at least {low}")
        if self.test_set and not self.predictions:
            raise ClipshiftError("--test-set chooses rows of --predictions, which is not given")
        if self.column and not self.predictions:
            raise ClipshiftError("--column names columns of --predictions, which is not given")
        _ = self.columns, self.colour  # check --column and --background
        if self.predictions and not self.predictions.is_file():
            raise ClipshiftError(f"{self.predictions} (of --predictions) is no file")
        least = BASE_BYTES + (64 << 20)
        if not least <= self.memory * (1 << 30) < inf:  # NaN is in no range
            raise ClipshiftError("--memory must be at least 0.9 (GiB): Python and torch need that")
        _ = self.embedder  # checks --encoder

    @cached_property
    def sides(self) -> dict[str, Where]:
        """The sides that are given."""
        every = {s: Where(getattr(self, s), getattr(self, f"{s}_images")) for s in SIDES}
        return {side: where for side, where in every.items() if where != Where(None, None)}

    @cached_property
    def columns(self) -> dict[str, str]:
        """Field of the predictions -> the file's name of it."""
        return dict(pair(word, "--column FIELD=NAME") for word in self.column or [])

    @cached_property
    def colour(self) -> tuple[int, int, int]:
        """Of the background."""
        from clipshift.datasets.images import colour

        return colour(self.background)

    @property
    def main(self) -> float:
        """The threshold that the headline speaks of."""
        if self.main_threshold is None:
            return self.thresholds[len(self.thresholds) // 2]
        return self.main_threshold

    @cached_property
    def embedder(self) -> dict[str, Any] | None:
        """The encoder block where a side is to be embedded."""
        if all(where.embeddings for where in self.sides.values()):
            return None
        return encoder_block(self.encoder)

    @property
    def memory_bytes(self) -> int:
        return int(self.memory * (1 << 30))

    def outcome(self) -> dict[str, Any]:
        """The options that the outputs depend on."""
        names = ("thresholds", "neighbours", "test_set", "items", "sample", "seed")
        found = {name: getattr(self, name) for name in names} | {"main_threshold": self.main}
        found |= {"columns": self.columns} if self.columns else {}
        return found | ({"background": self.background} if self.background != "#ffffff" else {})


def _check_sides(sides: dict[str, Where], encoder: str | None) -> None:
    for side in ("train", "test"):
        if side not in sides:
            raise ClipshiftError(f"give --{side} EMB_DIR or --{side}-images DIR")
    for side, where in sides.items():
        if where.embeddings and not Path(str(where.embeddings).partition("::")[0]).exists():
            raise ClipshiftError(f"{where.embeddings} (of --{side}) is no folder and no file")
        if where.images and not where.images.exists():
            raise ClipshiftError(f"{where.images} (of --{side}-images) is no folder and no file")
    if encoder and all(where.embeddings for where in sides.values()):
        raise ClipshiftError("--encoder embeds images; here every side is given as embeddings")
    if len({where.embeddings is None for where in sides.values()}) > 1 and not encoder:
        raise ClipshiftError(
            "some sides are embeddings and some are images: name the encoder that made the "
            "embeddings by --encoder, or vectors of different encoders would be compared"
        )


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
