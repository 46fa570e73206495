"""Where the answers of a shard's downloads lie. Standard library only."""

from pathlib import Path

# Digits of a block's number and of a row within it, as in img2dataset's names and keys.
BLOCK_DIGITS = 5


def attempt_folder(work: Path, attempt: int) -> Path:
    return work / f"attempt-{attempt:03d}"


def attempt_folders(work: Path) -> list[Path]:
    return sorted(work.glob("attempt-*"))


def tar_of(work: Path, attempt: int, number: str) -> Path:
    """The tar that holds a sample: the first digits of its number are its block."""
    return attempt_folder(work, attempt) / f"{number[:BLOCK_DIGITS]}.tar"
