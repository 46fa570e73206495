"""Folders of image files against torchvision's ImageFolder, and the registry against its page."""

import json
import re
from pathlib import Path

import pytest
from torchvision.datasets import ImageFolder

from clipshift.core.errors import ClipshiftError
from clipshift.datasets.formats import FORMATS, open_dataset
from clipshift.datasets.formats.base import label_index
from tests.conftest import ROOT, photo
from tests.formats_case import files, read, tar


def test_class_folders_as_torchvision_reads_them(tmp_path: Path) -> None:
    real = files(tmp_path / "real", *(f"n{c}/{i}.JPEG" for c in range(4) for i in range(2)))
    folder = files(tmp_path / "in100", "n3/a.JPG", "n3/deep/b.png", "n3/c.webp")
    for c in range(2):
        (folder / f"n{c}").symlink_to(real / f"n{c}")
    (folder / "n3/up").symlink_to(folder)
    (folder / "n3/gone.jpg").symlink_to(tmp_path / "gone")
    (folder / "n3/._a.JPG").write_bytes(b"")
    (folder / "n3/notes.txt").write_text("")
    data, records, rejected = read(folder)
    theirs = ImageFolder(str(folder), is_valid_file=lambda p: Path(p).suffix.lower() in (
        ".jpeg", ".jpg", ".png", ".webp") and "/up/" not in p and Path(p).exists()
        and not Path(p).name.startswith("."))  # fmt: skip
    assert data.classes() == theirs.classes == ["n0", "n1", "n3"]
    names = data.classes() or []
    ours = [(r.key, label_index(r.label or "", names, data.numbered)) for r in records]
    assert ours == sorted((str(Path(p).relative_to(folder)), label) for p, label in theirs.samples)
    assert len(ours) == 7
    assert rejected == {}
    assert data.left_out == {
        "link to a folder above it": 1, "broken link": 1, "macOS's own file": 1, "txt": 1,
    }  # fmt: skip
    assert data.said == ["labels: folder 1 of the path, 3 names"]


def test_links_between_two_folders_end(tmp_path: Path) -> None:
    files(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "a/b").symlink_to(tmp_path / "b")
    (tmp_path / "b/a").symlink_to(tmp_path / "a")
    (tmp_path / "self.jpg").symlink_to(tmp_path / "self.jpg")
    data, records, _ = read(tmp_path)
    assert [r.key for r in records] == ["a/1.jpg", "a/b/2.jpg", "b/2.jpg", "b/a/1.jpg"]
    assert data.left_out == {"link to a folder above it": 2, "broken link": 1}


def test_flat_folder_and_labels_of_a_file(tmp_path: Path) -> None:
    files(tmp_path, "ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000002.JPEG", "3.JPEG")
    data, records, _ = read(tmp_path)
    assert [r.label for r in records] == [None] * 3
    assert (data.classes(), data.said) == (None, [])
    (tmp_path / "LOC_val_solution.csv").write_text(
        "ImageId,PredictionString\nILSVRC2012_val_00000001,n02 1 2 3 4 n02 5 6 7 8\n"
        "ILSVRC2012_val_00000002,n01 1 2 3 4 \n"
    )
    _, records, _ = read(tmp_path, label="file:LOC_val_solution.csv")
    assert [r.label for r in records] == [None, "n02", "n01"]
    (tmp_path / "val.txt").write_text("3.JPEG 65\nILSVRC2012_val_00000001.JPEG 970\n")
    _, records, _ = read(tmp_path, label="file:val.txt")
    assert [r.label for r in records] == ["65", "970", None]
    (tmp_path / "val.txt").write_text("3.JPEG 65\n3.JPEG 66\n")
    with pytest.raises(ClipshiftError, match=r"line 2: a second label"):
        read(tmp_path, label="file:val.txt")
    with pytest.raises(ClipshiftError, match="is not there"):
        read(tmp_path, label="file:no.txt")


def test_numbers_of_imagenet_v2_are_in_numeric_order(tmp_path: Path) -> None:
    data, records, _ = read(files(tmp_path, "0/a.jpeg", "10/a.jpeg", "2/a.jpeg"))
    names = data.classes() or []
    assert names == ["0", "2", "10"]
    assert [(r.label, label_index(r.label or "", names, data.numbered)) for r in records] == [
        ("0", 0), ("10", 2), ("2", 1),
    ]  # fmt: skip


def test_folders_of_domains_say_so_and_the_level_is_chosen(tmp_path: Path) -> None:
    folder = files(tmp_path, "sketch/dog/1.jpg", "real/cat/1.jpg", "real/dog/1.jpg")
    data, records, _ = read(folder)
    assert data.classes() == ["real", "sketch"]
    assert data.said[-1] == "there are folders below: label=folder:2 takes the next level"
    data, records, _ = read(folder, label="folder:2")
    assert data.classes() == ["cat", "dog"]
    assert [r.label for r in records] == ["cat", "dog", "dog"]
    with pytest.raises(ClipshiftError, match="folder:1 to folder:9"):
        read(folder, label="folder:x")


def test_folders_of_splits_are_no_classes(tmp_path: Path) -> None:
    folder = files(tmp_path, "train/n0/1.JPEG", "train/n1/1.JPEG", "val/n1/1.JPEG", "val/loose.jpg")
    data, records, _ = read(folder)
    assert [(u.name, u.samples) for u in data.units()] == [("train", 2), ("val", 2)]
    assert [(r.key, r.label) for r in records] == [
        ("train/n0/1.JPEG", "n0"), ("train/n1/1.JPEG", "n1"), ("val/loose.jpg", None),
        ("val/n1/1.JPEG", "n1"),
    ]  # fmt: skip
    assert data.classes() == ["n0", "n1"]
    assert data.said == [
        "splits: train, val", "labels: folder 2 of the path, 2 names",
        "1 image files lie in no class folder: they have no label",
    ]  # fmt: skip
    assert read(files(tmp_path / "flat", "train/1.jpg"))[1][0].label is None


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_metadata_of_hugging_face_beside_images(tmp_path: Path, suffix: str) -> None:
    folder = files(tmp_path, "train/1.png", "train/2.png", "train/sub/3.png", "test/4.png")
    rows = [
        {"file_name": "1.png", "text": "a, b", "label": "cat"},
        {"file_name": "sub/3.png", "text": "c", "label": "dog"},
        {"file_name": "gone.png", "text": "d", "label": "dog"},
        {"file_name": "1.png", "text": "again", "label": "cat"},
    ]
    lines = [json.dumps(r) for r in rows]
    if suffix == "csv":
        lines = [
            "file_name,text,label",
            *(f'{r["file_name"]},"{r["text"]}",{r["label"]}' for r in rows),
        ]
    (folder / f"train/metadata.{suffix}").write_text("\n".join(lines))
    data, records, rejected = read(folder)
    assert [(r.key, r.caption, r.label) for r in records] == [
        ("test/4.png", None, None), ("train/1.png", "a, b", "cat"), ("train/2.png", None, None),
        ("train/sub/3.png", "c", "dog"),
    ]  # fmt: skip
    assert rejected == {
        "train/gone.png": "image file is missing", "train/1.png": "image is listed again",
    }  # fmt: skip
    assert data.left_out == {}
    assert f"captions or labels: train/metadata.{suffix}" in data.said
    assert data.classes() is None


def test_columns_and_tables_that_are_not_used_are_said(tmp_path: Path) -> None:
    files(tmp_path, "a/1.png")
    (tmp_path / "photos.csv").write_text("photo_url\nhttp://x/1\n")
    with pytest.raises(ClipshiftError, match=r"no columns \{'caption': 'text'\}"):
        read(tmp_path, caption="text")
    (tmp_path / "metadata.csv").write_text("id,licence\n1,CC0\n")
    data, records, _ = read(tmp_path)
    assert [(r.key, r.label) for r in records] == [("a/1.png", "a")]
    assert data.left_out == {"csv": 2}
    assert data.said == [
        "metadata.csv has no column file_name (image=COLUMN)",
        "labels: folder 1 of the path, 1 names",
        "metadata.csv is not read: give its path to read it as a table",
        "photos.csv is not read: give its path to read it as a table",
    ]


def test_folders_that_hold_something_else(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(ClipshiftError, match=r"x\.zip is a zip archive: `unzip` it"):
        open_dataset(tmp_path)
    (tmp_path / "x.zip").rename(tmp_path / "x.tfrecord")
    (tmp_path / "x.tfrecord").write_bytes(b"1234")
    with pytest.raises(ClipshiftError, match=r"'tfrecord': 1"):
        open_dataset(tmp_path)
    files(tmp_path / "a", "1.jpg", "2.jpg")
    tar(tmp_path / "a/0.tar", [("9.jpg", photo(9))])
    with pytest.raises(ClipshiftError, match=r"1 tars and image files, e\.g\. 1\.jpg; name"):
        open_dataset(tmp_path / "a")
    data, records, _ = read(tmp_path / "a", "image_folder")
    assert (data.name, len(records), data.left_out) == ("image_folder", 2, {"tar": 1})
    data, records, _ = read(tmp_path / "a", "webdataset")
    assert (len(records), data.left_out) == (1, {"image file beside tars": 2})
    (tmp_path / "a/1.jpg").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ClipshiftError, match="git lfs pull"):
        read(tmp_path / "a", "image_folder")


def test_every_format_has_its_row_on_the_page() -> None:
    page = (ROOT / "docs/formats.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", page, re.MULTILINE))
    assert rows == {kind.name: kind.about for kind in FORMATS}
