"""Files with the name of a class on each line."""

from pathlib import Path

from clipshift.core.errors import ClipshiftError

FILE = "classnames.txt"


def read_class_names(file: Path) -> list[str]:
    """The names in order. Marks of the encoding, ends of lines and last blank lines are not theirs.

    Raises:
        ClipshiftError: not UTF-8, no name, or a blank line between names.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ClipshiftError(
            f"{file}, line {line}: not UTF-8; convert it, e.g. `iconv -f latin1 -t utf-8`"
        ) from None
    names = [line.strip() for line in text.rstrip().split("\n")]
    if "" in names:
        line = names.index("") + 1
        raise ClipshiftError(f"{file}, line {line}: no name of a class; remove the blank line")
    return names


def class_names_beside(*folders: Path) -> list[str] | None:
    """Those of the first folder that has a `classnames.txt`."""
    for folder in folders:
        if (folder / FILE).is_file():
            return read_class_names(folder / FILE)
    return None
