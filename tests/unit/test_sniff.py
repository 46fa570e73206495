"""What is no regular file is named without being opened."""

import os
import socket
from pathlib import Path

import pytest

from clipshift.core.errors import ClipshiftError
from clipshift.core.sniff import explain, file_or_folder, regular_file, special
from clipshift.datasets.any_images import open_images
from clipshift.datasets.formats import open_dataset


@pytest.mark.timeout(10)
def test_special_files_are_named_and_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    os.mkfifo("fifo")
    Path("folder").mkdir()
    Path("loop").symlink_to("loop")
    Path("broken").symlink_to("nowhere")
    Path("to-fifo").symlink_to("fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        for name, what in {
            "fifo": "pipe",
            "to-fifo": "pipe",
            "folder": "folder",
            "socket": "socket",
            "/dev/zero": "device",
            "loop": "symbolic links",
            "broken": "broken link",
            "missing": "is not there",
            "nul\0": "null",
            "n" * 300: "too long",
        }.items():
            assert what in (special(Path(name)) or ""), name
            assert what in (explain(Path(name)) or ""), name
            with pytest.raises(ClipshiftError, match=what):
                regular_file(Path(name))
            if what == "folder":
                assert file_or_folder(Path(name)) == Path(name)
                continue
            for read in (file_or_folder, open_dataset, open_images):
                with pytest.raises(ClipshiftError, match=what):
                    read(Path(name))


def test_a_file_and_a_link_to_one_are_read(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_bytes(b"x")
    link.symlink_to(file)
    assert special(file) is special(link) is None
    assert regular_file(link) == link
