"""Foreign files: what cannot be read is one error that names the file and the remedy."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clipshift.core.errors import ClipshiftError
from clipshift.core.sniff import explain, regular_file


def unreadable(path: Path, kind: str, error: BaseException) -> ClipshiftError:
    """The error of a file that is not of its kind: what it is instead, where that is known."""
    if (why := explain(path)) and f"{kind} file" not in why:
        return ClipshiftError(f"{path} is not a readable {kind} file; it {why}")
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ClipshiftError(f"{path} is not a readable {kind} file: {said}; get it again")


def require_unicode(path: Path) -> None:
    """Raise `ClipshiftError` for a path that the libraries of tables cannot be told."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ClipshiftError(f"{str(path)!r} is no Unicode: rename the file, or folder") from None


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Whatever a library raises in the block is the fault of the file that it reads there.

    Damaged files raise nearly every kind of exception, so the block holds nothing but the reading.

    Raises:
        ClipshiftError: no regular file, or one that is damaged or of another kind.
    """
    regular_file(path)
    try:
        yield
    except ClipshiftError:
        raise
    except Exception as error:
        raise unreadable(path, kind, error) from error
