"""What `clipshift inspect` says of a path, against what was put there."""

from pathlib import Path

import pytest
import yaml

from clipshift.apps.inspect.look import look
from clipshift.apps.inspect.report import page, text, write_page
from clipshift.core.errors import ClipshiftError
from clipshift.datasets.formats.base import columns_of
from clipshift.datasets.shards import write_tar
from clipshift.datasets.tars import Sample
from tests.conftest import photo


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "My photos"
    for number, name in enumerate(["cat", "cat", "cat", "dog", "dog", "fox"]):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / f"{number}.jpg").write_bytes(photo(number, (40, 30)))
    (folder / "dog/torn.jpg").write_bytes(photo(9)[:100])
    (folder / "notes.txt").write_text("x")
    return folder


def test_class_folders(photos: Path) -> None:
    found = look(photos)
    assert (found.samples, found.whole) == (7, True)
    assert found.labels == {"cat": 3, "dog": 3, "fox": 1}
    assert found.broken == {"dog/torn.jpg": "undecodable image"}
    assert len(found.images) == 6
    said = text(found)
    assert "classes     3: cat 3, dog 3, fox 1" in said
    assert "broken      dog/torn.jpg: undecodable image" in said
    assert "left out    txt 1" in said
    assert "40 x 30 to 40 x 30 pixels" in said


def test_the_printed_block_is_valid_yaml(photos: Path) -> None:
    block = text(look(photos)).partition("In a configuration:\n")[2]
    pool = yaml.safe_load(block)["pools"]["my_photos"]
    assert pool["folder"] == str(photos) and pool["samples"] == 7
    assert pool["template"] == "a photo of a {class}"


def test_many_parts_are_estimated_from_those_read(tmp_path: Path) -> None:
    for tar in range(4):
        samples = [Sample(f"{tar}-{i}", {"jpg": photo(i), "txt": b"a cap"}) for i in range(3)]
        write_tar(tmp_path / f"{tar}.tar", samples)
    found = look(tmp_path, seconds=0)
    assert (found.read, found.units, found.captions) == (1, 4, 3)
    assert "about 12: 3 in the first 1 of 4 parts" in text(found)
    assert look(tmp_path).whole


def test_thumbnails_in_the_terminal_and_on_a_page(photos: Path) -> None:
    found = look(photos)
    assert text(found, colours=True).count("\N{UPPER HALF BLOCK}") == 6 * 20 * 10
    assert page(found).count("data:image/jpeg") == 6


def test_a_page_replaces_pages_only(photos: Path, tmp_path: Path) -> None:
    found = look(photos)
    data = tmp_path / "data.csv"
    data.write_text("path,label")
    with pytest.raises(ClipshiftError, match=r"data\.csv is there, and no page of ours"):
        write_page(found, data)
    assert data.read_text() == "path,label"
    for _ in range(2):
        write_page(found, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == page(found)


def test_fields_of_columns() -> None:
    assert columns_of(["caption=TEXT", "key=a=b"]) == {"caption": "TEXT", "key": "a=b"}
    with pytest.raises(ClipshiftError, match="'title=x': expected FIELD=NAME"):
        columns_of(["title=x"])


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ClipshiftError, match="is not there"):
        look(tmp_path / "no")
