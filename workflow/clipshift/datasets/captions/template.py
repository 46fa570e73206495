"""Give a labelled set captions from a template, so that it can be training data.

`python -m clipshift.datasets.captions.template --tar WORD --table FILE --template TEXT --out FILE`.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from clipshift.core.errors import ClipshiftError, run
from clipshift.core.files import read_parquet
from clipshift.datasets.shards import Sample, write_tar
from clipshift.datasets.tar_paths import add_arguments, read_tars, tars_of


def captioned(
    tars: Path | Sequence[Path], rows: dict[str, dict[str, str]], template: str
) -> Iterator[Sample]:
    """Samples with picture and caption.

    Args:
        rows: `class_name` and `caption` of each key.
        template: with `{class}`, and `{caption}` for the source's own.
    """
    for sample in read_tars(tars):
        row = rows[sample.key]
        text = template.replace("{class}", row["class_name"]).replace("{caption}", row["caption"])
        yield Sample(sample.key, {"jpg": sample.image, "txt": text.encode()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--template", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if "{class}" not in args.template:
        raise ClipshiftError(f"reference_caption {args.template!r} has no {{class}}")
    table = read_parquet(args.table, ["key", "class_name", "caption"]).to_pylist()
    rows = {row["key"]: row for row in table}
    count = write_tar(args.out, captioned(tars_of(args.tar, args.data), rows, args.template))
    print(f"{count} samples captioned")


if __name__ == "__main__":
    run(main)
