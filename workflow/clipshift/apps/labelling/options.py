"""The options of `clipshift label`, and the verbs `draw` and `released`; imports nothing heavy."""

import getpass
import ipaddress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, BadParameter, Option

from clipshift.apps.verbs import pair
from clipshift.core.errors import ClipshiftError

Order = Literal["key", "highest", "uncertain", "shuffled"]

# How rows find each other: the value that must be equal, and one that must be equal, too, where
# both sides have it. A pair that agrees in the first only is counted and not joined.
Join = Literal["url", "sample_id", "file", "sha256"]
JOINS: dict[Join, tuple[str, str | None]] = {
    "url": ("url", "text"),
    "sample_id": ("sample_id", "url"),
    "file": ("file", None),
    "sha256": ("sha256", None),
}
# Column names by role, without case, in order of preference.
ROLES = {
    "url": ("url", "image_url", "locator"),
    "text": ("text", "caption", "alt_text"),
    "sample_id": ("sample_id",),
    "file": ("file_name", "filename", "image_path", "path", "file", "key"),
    "image": ("image",),
    "sha256": ("sha256",),
    "label": ("label", "domain_label", "annotation", "nvr", "domain"),
}


_task = partial(Option, rich_help_panel="What to do (one of them)")
_labelling = partial(Option, rich_help_panel="Labelling")
_server = partial(Option, rich_help_panel="Server")
_theirs = partial(Option, rich_help_panel="Their tables")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Label images by hand on a page of this machine, or evaluate tables of labels."""

    images: Annotated[Path | None, _task(
        metavar="POOL", help="Label these images: a folder of shards (tars) or image files, or a "
        "data set of another format (parquet of Hugging Face, a table of paths, COCO ...)."
    )] = None  # fmt: skip
    study: Annotated[list[Path] | None, _task(
        metavar="FILE...", help="Label a data set of this study (its configurations), into the "
        "table that it reads (domains.labels.file); the next run uses the labels.",
    )] = None  # fmt: skip
    dataset: Annotated[str | None, _labelling(
        metavar="NAME", help="Data set of --study (default: the first that is labelled)."
    )] = None  # fmt: skip
    background: Annotated[str, _labelling(
        metavar="#RRGGBB", help="Colour behind transparent pixels."
    )] = "#ffffff"  # fmt: skip
    agreement: Annotated[list[Path] | None, _task(
        metavar="LABELS...",
        help="Print the annotators' agreement in these tables (--out: also as JSON).",
    )] = None  # fmt: skip
    consensus: Annotated[list[Path] | None, _task(
        metavar="LABELS...", help="Write one label per image of these tables to --out."
    )] = None  # fmt: skip
    out: Annotated[Path | None, Option(metavar="FILE", help="The table of labels, parquet.")] = None
    ties: Annotated[Literal["ambiguous", "drop"], Option(
        help="What --consensus does with a tie."
    )] = "ambiguous"  # fmt: skip
    annotator: Annotated[list[str] | None, _labelling(
        metavar="NAME", help="Annotator; give it several times for several people at one page "
        "(default: the login name).",
    )] = None  # fmt: skip
    scores: Annotated[Path | None, _labelling(
        metavar="FILE", help="Parquet (or a folder of them) with key and a score.",
    )] = None  # fmt: skip
    score_column: Annotated[str | None, _labelling(
        metavar="NAME", help="Column where --scores has several."
    )] = None  # fmt: skip
    order: Annotated[Order | None, _labelling(
        help="Highest or least certain score first, or at random by --seed "
        "(default: highest with --scores, else by key)."
    )] = None  # fmt: skip
    threshold: Annotated[float, _labelling(
        metavar="SCORE", help="Score that is least certain, for --order uncertain."
    )] = 0  # fmt: skip
    sample: Annotated[int | None, _labelling(metavar="N", help="Label a random sample.")] = None
    seed: Annotated[int, _labelling(help="Seed of --sample and --order.")] = 0
    port: Annotated[int, _server(help="0: any free one.")] = 8421
    host: Annotated[str, _server(help="Address to listen on.")] = "127.0.0.1"
    allow_remote: Annotated[bool, _server(
        "--allow-remote", help="With --host: let other machines reach the page, unencrypted."
    )] = False  # fmt: skip

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            BadParameter: not exactly one of images, study, agreement and consensus is given.
            ClipshiftError: an option of the page is missing, contradicts another or is out of
                range.
        """
        self._one_task()
        if not self.images:
            return
        if self.out is None:
            raise ClipshiftError("give --out FILE, the table that the labels are written to")
        require_parquet(self.out)
        if not self.images.exists():
            raise ClipshiftError(f"{self.images} (of --images) is no folder and no file")
        _ = self.colour  # checks --background
        if self.sample is not None and self.sample < 1:
            raise ClipshiftError("--sample must be at least 1")
        if self.score_column and not self.scores:
            raise ClipshiftError("--score-column names a column of --scores, which is not given")
        if self.order in ("highest", "uncertain") and not self.scores:
            raise ClipshiftError(f"--order {self.order} needs --scores")
        if self.threshold and self.order != "uncertain":
            raise ClipshiftError("--threshold is for --order uncertain")
        if not 0 <= self.port < 1 << 16:
            raise ClipshiftError("--port must be 0 to 65535")
        for name in self.annotators:
            check_annotator(name)
        if len(set(self.annotators)) < len(self.annotators):
            raise ClipshiftError("--annotator: a name is given twice")
        check_host(self.host, self.allow_remote)

    def _one_task(self) -> None:
        if sum(map(bool, (self.images, self.study, self.agreement, self.consensus))) != 1:
            raise BadParameter("give one of --images, --study, --agreement and --consensus.")
        if self.study and self.out:
            raise ClipshiftError("--out: with --study the labels go into the table that it reads")
        if self.dataset and not self.study:
            raise ClipshiftError("--dataset is a data set of --study, which is not given")

    @property
    def colour(self) -> tuple[int, int, int]:
        """Of the background."""
        from clipshift.datasets.images import colour

        return colour(self.background)

    @property
    def annotators(self) -> tuple[str, ...]:
        return tuple(self.annotator or [login_name()])


def draw(
    split: Annotated[Path, Argument(help="The split: results/splits/NAME.parquet.")],
    images: Annotated[Path, Option(
        metavar="DIR", help="The pool's tars, as img2dataset wrote them."
    )],
    out: Annotated[Path, Option(metavar="DIR", help="Gets tars and tables of the same layout.")],
) -> None:  # fmt: skip
    """Copy the images that a split keeps of a pool, to label them."""
    from clipshift.apps.labelling import draw as copied

    print(f"{out}: {copied.draw(split, images, out)} samples of {images}")


def released(
    folder: Annotated[Path, Argument(help="The downloaded data set.")],
    subset: Annotated[list[str], Option(
        metavar="FOLDER=LABEL",
        help="A folder (or file) of it: all its rows are natural, rendition or ambiguous, or, "
        "without =LABEL, as a column says; give it several times.",
    )],
    pool: Annotated[Path, Option(
        metavar="DIR", help="Sample tables of the pool or set: the project's, or img2dataset's."
    )],
    out: Annotated[Path, Option(metavar="FILE", help="Parquet of labels.")],
    join: Annotated[Join, _theirs(
        help="By URL (text decides between repeats), SAMPLE_ID (and URL), file name, or the "
        "image's SHA-256."
    )] = "url",
    column: Annotated[list[str] | None, _theirs(
        metavar="ROLE=NAME",
        help=f"A column of theirs that is not found by itself; roles: {', '.join(ROLES)}.",
    )] = None,
    value: Annotated[list[str] | None, _theirs(
        metavar="VALUE=LABEL",
        help="What a value of the label column means, where it is not clear.",
    )] = None,
    annotator: Annotated[str, Option(metavar="NAME", help="Annotator in the table.")] = "released",
    memory: Annotated[float, Option(metavar="GIB", help="Budget of the join, GiB.")] = 4.0,
    agree: Annotated[float, Option(
        metavar="SHARE", min=0, max=1,
        help="Share of the joined rows whose text (or URL) must agree; 0 checks nothing.",
    )] = 0.9,
) -> None:  # fmt: skip
    """Labels that the paper's authors published, for the keys of a pool or set."""
    from clipshift.apps.labelling import released as join_tables

    require_parquet(out)
    subsets = [join_tables.subset_of(word) for word in subset]
    columns = dict(pair(word, "--column ROLE=NAME") for word in column or [])
    if unknown := set(columns) - set(ROLES):
        raise ClipshiftError(f"--column: no such role {sorted(unknown)}; roles: {', '.join(ROLES)}")
    meanings = (pair(word, "--value VALUE=LABEL") for word in value or [])
    values = {name.lower(): join_tables.label_number(meaning) for name, meaning in meanings}
    step_counts = join_tables.released(
        folder, subsets, pool, out, join=join, columns=columns, values=values,
        annotator=annotator, memory=memory, agree=agree,
    )  # fmt: skip
    print(f"{out}: {step_counts['pool']['matched']} of {step_counts['pool']['rows']} keys labelled")
    for side in ("released", "pool", "labels"):
        counts = (f"{count} {name.replace('_', ' ')}" for name, count in step_counts[side].items())
        print(f"  {side}: {', '.join(counts)}")


def require_parquet(out: Path) -> None:
    if out.suffix != ".parquet":
        raise ClipshiftError(f"--out {out}: labels are a parquet file, NAME.parquet")


def login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return "annotator"


def check_annotator(name: str) -> None:
    if not name.strip() or not name.isprintable() or len(name) > 64:
        raise ClipshiftError(f"--annotator {name!r}: expected a name of 1 to 64 printable letters")
    from clipshift.apps.labelling.table import RESERVED

    if name in RESERVED:
        raise ClipshiftError(f"--annotator {name}: this name is kept for labels made of others")


def is_loopback(host: str) -> bool:
    """
    >>> [is_loopback(h) for h in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "10.0.0.1", "pc")]
    [True, True, True, False, False, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_host(host: str, allow_remote: bool) -> None:
    """Only loopback, unless told otherwise.

    Raises:
        ClipshiftError: another address without --allow-remote.
    """
    if not is_loopback(host) and not allow_remote:
        raise ClipshiftError(
            f"--host {host} would let other machines see the images and label them, without "
            "encryption. From another machine rather use `ssh -L 8421:localhost:8421 THIS`, or "
            "add --allow-remote if you mean it"
        )
