"""The verbs `clipshift margins` and `clipshift verify`: read without importing torch."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import TypeAdapter, ValidationError
from typer import Argument, Option

from clipshift.core.errors import ClipshiftError
from clipshift.study.config.names import Name

# Folders of a run beside those of the test sets.
RESERVED = ("thresholds", "certificates", "given")


def margins(
    pool: Annotated[Path, Option(
        metavar="EMB", help="Embeddings of the pool: a folder in clip-retrieval's layout, an npy "
        "(NPY::IDS), npz or h5, or a parquet with a column of lists."
    )],
    test: Annotated[list[str], Option(
        metavar="NAME=EMB", help="Embeddings of a test set; may be given several times."
    )],
    reference: Annotated[Path, Option(metavar="EMB", help="Embeddings of the reference set.")],
    out: Annotated[Path, Option(metavar="DIR", help="Folder to write.")],
    normalise: Annotated[bool, Option(
        "--normalise", help="Divide each row by its norm.", rich_help_panel="Inputs"
    )] = False,
    vectors: Annotated[str | None, Option(
        metavar="NAME", help="Array or column that holds the vectors.", rich_help_panel="Inputs"
    )] = None,
    keys: Annotated[str | None, Option(
        metavar="NAME", help="Column that holds the keys.", rich_help_panel="Inputs"
    )] = None,
    k: Annotated[int, Option(
        min=0, help="Also the k nearest points of each test image.", rich_help_panel="Neighbours"
    )] = 0,
    grid: Annotated[list[float] | None, Option(
        metavar="S...", help="Also count points above these similarities.",
        rich_help_panel="Neighbours",
    )] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], Option(
        help="Where the pass runs.", rich_help_panel="Computation"
    )] = "auto",
    screen: Annotated[Literal["auto", "int8", "float32", "none"], Option(
        help="First estimate of similarities: changes the time, not the output.",
        rich_help_panel="Computation",
    )] = "auto",
) -> None:  # fmt: skip
    """Margins of an embedding folder to test sets."""
    tests = named_tests(test)
    from clipshift.apps.margins import run
    from clipshift.similarity.given import Names

    record = run.margins(
        pool, tests, reference, out, device, screen, k, grid, normalise, Names(vectors, keys)
    )
    print(f"{record['rows']} points; closer to a test image than the reference set:")
    for name, above in record["above_threshold"].items():
        share = above / record["rows"] if record["rows"] else 0
        print(f"  {name}: {above} ({100 * share:.2f} %)")


def verify(
    out: Annotated[Path, Argument(metavar="DIR", help="What `clipshift margins` wrote.")],
    sample: Annotated[int, Option(
        min=1, help="Points of each shard, and test images of the neighbours, against all others."
    )] = 1000,
    seed: Annotated[int, Option(min=0, help="Seed of their draw.")] = 0,
) -> None:  # fmt: skip
    """Check every file and number of finished margins; maxima by computing a sample again."""
    from clipshift.apps.margins import run

    checked = run.verify(out, sample, seed)
    print(f"{checked['points']} points ({checked['pairs']} pairs) agree with float64")


def named_tests(words: list[str]) -> dict[str, Path]:
    """`NAME=DIR` words; names become folders, so they are those of the configuration."""
    found: dict[str, Path] = {}
    for name, _, folder in (word.partition("=") for word in words):
        try:
            TypeAdapter(Name).validate_python(name)
        except ValidationError:
            raise ClipshiftError(
                f"--test {name!r}: expected NAME=DIR with a name of letters, digits and _"
            ) from None
        if not Path(folder.partition("::")[0]).exists() or name in RESERVED:
            raise ClipshiftError(
                f"--test {name}={folder}: no such folder or file, or a reserved name"
            )
        found[name] = Path(folder)
    if len(found) < len(words):
        raise ClipshiftError(f"--test: two sets have the same name, of {sorted(found)}")
    return found
