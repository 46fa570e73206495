"""The options of `clipshift label`."""

import argparse
import getpass
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from clipshift.apps.labelling.table import RESERVED
from clipshift.core.errors import ClipshiftError

PORT = 8421


@dataclass(frozen=True)
class Options:
    """Checked options of the page."""

    images: Path
    out: Path
    annotators: tuple[str, ...]
    scores: Path | None
    score_column: str | None
    sample: int | None
    seed: int
    host: str
    port: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--images", type=Path, metavar="POOL",
        help="label the pictures of this folder: shards (tars), or picture files",
    )  # fmt: skip
    what.add_argument(
        "--agreement", type=Path, nargs="+", metavar="LABELS",
        help="print the annotators' agreement in these tables (--out: also as JSON)",
    )  # fmt: skip
    what.add_argument(
        "--consensus", type=Path, nargs="+", metavar="LABELS",
        help="write one label per picture of these tables to --out",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FILE", help="the table of labels, parquet")
    parser.add_argument(
        "--annotator", action="append", metavar="NAME",
        help="who labels; give it several times for several people at one page "
        "(default: the login name)",
    )  # fmt: skip
    parser.add_argument(
        "--scores", type=Path, metavar="FILE",
        help="parquet (or a folder of them) with key and a score: highest first (default: by key)",
    )  # fmt: skip
    parser.add_argument("--score-column", metavar="NAME", help="where --scores has several")
    parser.add_argument("--sample", type=int, metavar="N", help="label a random sample")
    parser.add_argument("--seed", type=int, default=0, help="of --sample (default: 0)")
    parser.add_argument(
        "--ties", choices=("ambiguous", "drop"), default="ambiguous",
        help="what --consensus does with a tie (default: ambiguous)",
    )  # fmt: skip
    parser.add_argument("--port", type=int, default=PORT, help=f"(default: {PORT}; 0: any)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine only)"
    )
    parser.add_argument(
        "--allow-remote", action="store_true",
        help="with --host: let other machines reach the page, unencrypted",
    )  # fmt: skip


def read_options(args: argparse.Namespace) -> Options:
    """Check the arguments of the page.

    Raises:
        ClipshiftError: an argument is missing, contradicts another or is out of range.
    """
    if args.out is None:
        raise ClipshiftError("give --out FILE, the table that the labels are written to")
    if args.out.suffix != ".parquet":
        raise ClipshiftError(f"--out {args.out}: labels are a parquet file, NAME.parquet")
    if not args.images.is_dir():
        raise ClipshiftError(f"{args.images} (of --images) is no folder")
    if args.sample is not None and args.sample < 1:
        raise ClipshiftError("--sample must be at least 1")
    if args.score_column and not args.scores:
        raise ClipshiftError("--score-column names a column of --scores, which is not given")
    if not 0 <= args.port < 1 << 16:
        raise ClipshiftError("--port must be 0 to 65535")
    annotators = tuple(args.annotator or [login_name()])
    for name in annotators:
        check_annotator(name)
    if len(set(annotators)) < len(annotators):
        raise ClipshiftError("--annotator: a name is given twice")
    check_host(args.host, args.allow_remote)
    return Options(
        images=args.images, out=args.out, annotators=annotators, scores=args.scores,
        score_column=args.score_column, sample=args.sample, seed=args.seed, host=args.host,
        port=args.port,
    )  # fmt: skip


def login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return "annotator"


def check_annotator(name: str) -> None:
    if not name.strip() or not name.isprintable() or len(name) > 64:
        raise ClipshiftError(f"--annotator {name!r}: expected a name of 1 to 64 printable letters")
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
            f"--host {host} would let other machines see the pictures and label them, without "
            "encryption. From another machine rather use `ssh -L 8421:localhost:8421 THIS`, or "
            "add --allow-remote if you mean it"
        )
