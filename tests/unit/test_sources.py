"""Each adapter on a tiny package of the real shape: items, concepts, counted rejections."""

import json
from pathlib import Path
from typing import Any

import pytest

from clipshift.core.errors import ClipshiftError
from clipshift.datasets.shards import write_tar
from clipshift.datasets.sources import openclipart, sidecar
from clipshift.datasets.sources.base import Item
from clipshift.datasets.tars import Sample
from tests.conftest import photo, svg
from tests.unit.packages import label, pack, run_build, source

LABELS = [
    label("1F986", "duck", tags="bird"),
    label("1F426", "bird", openmoji_tags="wing", tags="fly"),
    label("1F9D1-200D-1F373", "cook", "person-role", group="people-body"),
    label("1F469-200D-1F373", "woman cook", "person-role", group="people-body"),
    label("1F468-1F3FB", "man: light skin", "person", skintone="1"),
    label("23-FE0F-20E3", "keycap", "keycap"),
    label("1F4A9", "pile", "face"),
]


@pytest.fixture
def emoji_packages(tmp_path: Path) -> dict[str, Path]:
    labels = {"package/data/openmoji.json": json.dumps(LABELS)}
    files: dict[str, Any] = {
        "package/color/svg/1F986.svg": svg("red"),
        "package/color/svg/1F9D1-200D-1F373.svg": svg("green"),
        "package/color/svg/1F469-200D-1F373.svg": svg("blue"),
        "package/color/svg/1F468-1F3FB.svg": svg("pink"),
        "package/color/svg/0023-FE0F-20E3.svg": svg("black"),
        "package/color/svg/FFFFF.svg": svg("grey"),
        "package/color/svg/1F4A9.svg": svg("red"),  # the same image as the duck
        "package/color/svg/readme.txt": "not an image",
    }
    icons = {
        "icons": {
            "duck": {"body": svg("red").decode().split(">", 1)[1].removesuffix("</svg>")},
            "wide": {"body": '<circle cx="20" cy="8" r="7" fill="red"/>', "width": 40},
            "broken": {"body": "<g>"},
        },
        "width": 16,
        "height": 16,
    }
    chars = {"1f986": "duck", "1f426": "wide", "1f4a9": "broken", "23-20e3": "alias", "1": "duck"}
    iconify = {"package/icons.json": json.dumps(icons), "package/chars.json": json.dumps(chars)}
    return {
        "labels": pack(tmp_path / "labels.tgz", labels),
        "files": pack(tmp_path / "files.tgz", files),
        "icons": pack(tmp_path / "icons.tgz", iconify),
    }


EMOJI = {"labels": "labels", "caption": "{subgroup}, {annotation}, {tags}"}


def test_emoji_from_files(emoji_packages: dict[str, Path], tmp_path: Path) -> None:
    spec = source(
        "emoji", pictures="files", layout="files", folder="package/color/svg",
        drop=["fam/animals-nature/keycap"], **EMOJI
    )  # fmt: skip
    step_counts, rows = run_build(spec, emoji_packages, tmp_path / "out")
    # 1F4A9 comes first in the order of locators, so the duck is the copy.
    assert set(rows) == {"1F4A9.svg", "1F9D1-200D-1F373.svg", "1F469-200D-1F373.svg"}
    assert step_counts.rejected == {
        "skin-tone variant": 1,
        "no label for this code point": 1,
        "left out by `drop`": 1,
        "same image as an earlier one": 1,
    }
    cook = rows["1F9D1-200D-1F373.svg"]
    assert cook["concept"] == rows["1F469-200D-1F373.svg"]["concept"] == "1f9d1-1f373"
    assert cook["category"] == "fam/people-body/person-role/1f9d1-1f373"
    assert cook["caption"] == "person role, cook"
    assert cook["key"].startswith("mine-1f9d1-200d-1f373-")


def test_emoji_from_iconify(emoji_packages: dict[str, Path], tmp_path: Path) -> None:
    spec = source("emoji", pictures="icons", layout="iconify", **EMOJI)
    step_counts, rows = run_build(spec, emoji_packages, tmp_path / "out")
    assert step_counts.rejected == {
        "alias of another icon": 1,
        "no label for this code point": 1,
        "unrenderable svg": 1,
    }
    assert set(rows) == {"duck", "wide"}
    assert rows["duck"]["caption"] == "animal bird, duck, bird"
    assert rows["wide"]["caption"] == "animal bird, bird, fly, wing"


def test_emoji_without_its_labels_table(emoji_packages: dict[str, Path], tmp_path: Path) -> None:
    spec = source("emoji", pictures="icons", layout="iconify", labels="icons", caption="x")
    with pytest.raises(ClipshiftError, match=r"openmoji\.json is not in the labels package"):
        run_build(spec, emoji_packages, tmp_path / "out")


def test_sidecar(tmp_path: Path) -> None:
    files: dict[str, Any] = {
        "p/animals/birds/robin.png": photo(0, kind="PNG"),
        "p/animals/birds/robin.txt": "A robin.\nEin Rotkehlchen.",
        "p/animals/birds/robin_2.png": photo(1, kind="PNG"),
        "p/animals/birds/robin_2.txt": "Another robin",
        "p/animals/birds/cartoon/robin.png": photo(2, kind="PNG"),
        "p/animals/birds/cartoon/robin.txt": "Drawn robin",
        "p/animals/link.png": Path("birds/robin.png"),
        "p/animals/alone.png": photo(3, kind="PNG"),
        "p/animals/silent.png": photo(4, kind="PNG"),
        "p/animals/silent.txt": "\n",
        "p/animals/torn.png": photo(5, kind="PNG")[:60],
        "p/animals/torn.txt": "Torn",
        "p/animals/text.png": "no image",
        "p/animals/text.txt": "Text",
        "p/animals/white.png": plain(),
        "p/animals/white.txt": "White",
        "p/animals/clear.png": plain((0, 0, 0, 0)),
        "p/animals/clear.txt": "Clear",
        "p/123.png": photo(6, kind="PNG"),
        "p/123.txt": "A number",
        "p/other.svg": svg(),
        "p/other.txt": "Another suffix",
    }
    spec = source(
        "sidecar",
        package="p",
        folder="p",
        suffix=".png",
        caption="{title}",
        only="^(?!.*/cartoon/)",
    )
    packages = {"p": pack(tmp_path / "p.tgz", files)}
    step_counts, rows = run_build(spec, packages, tmp_path / "out")
    assert step_counts.rejected == {
        "symbolic link": 1,
        "no caption file": 1,
        "no caption": 1,
        "undecodable image": 2,
        "blank image": 2,
        "left out by `only`": 1,
    }
    assert {name: r["concept"] for name, r in rows.items()} == {
        "robin.png": "robin", "robin_2.png": "robin", "123.png": "123",
    }  # fmt: skip
    assert rows["robin.png"]["caption"] == "A robin"
    assert rows["robin.png"]["category"] == "fam/animals/birds/robin"


def plain(colour: tuple[int, ...] = (255, 255, 255)) -> bytes:
    import io

    from PIL import Image

    out = io.BytesIO()
    Image.new("RGBA" if len(colour) == 4 else "RGB", (9, 9), colour).save(out, "PNG")
    return out.getvalue()


def test_file_at_the_top_has_no_category(tmp_path: Path) -> None:
    """`.` is no name of a folder, neither in the path nor in a caption."""
    (tmp_path / "p").mkdir()
    (tmp_path / "p/dog.svg").write_bytes(svg())
    (tmp_path / "p/dog.txt").write_text("Dog")
    side = source("sidecar", package="p", folder="p", suffix=".svg", caption="{title}")
    clip = source("openclipart", package="p", folder="p", caption="{title}")
    for adapter, spec in ((sidecar, side), (openclipart, clip)):
        (item,) = adapter.read(spec, {"p": tmp_path})
        assert isinstance(item, Item)
        assert item.category == ""
        assert item.fields["category"] == ""


RDF = """<metadata><rdf:RDF xmlns:rdf="r" xmlns:dc="d" xmlns:cc="c"><cc:Work>
{title}<dc:description>Une  grue &amp; son nid</dc:description>
<dc:creator><cc:Agent><dc:title>Ann Author</dc:title></cc:Agent></dc:creator>
<dc:subject><rdf:Bag><rdf:li>bird</rdf:li><rdf:li></rdf:li><rdf:li>pond
life</rdf:li></rdf:Bag></dc:subject></cc:Work></rdf:RDF></metadata>"""


def test_openclipart(tmp_path: Path) -> None:
    crane = svg(body=RDF.format(title="<dc:title>Grey\n crane</dc:title>"))
    files: dict[str, Any] = {
        "u/svg/animals/big_birds/Crane.svg": crane,
        "u/svg/animals/link.svg": Path("big_birds/Crane.svg"),
        "u/svg/animals/untitled.svg": svg("blue"),
        "u/svg/animals/copy.svg": crane,
    }
    spec = source(
        "openclipart", package="u", folder="u/svg", caption="{category}, {title}, {keywords}"
    )
    step_counts, rows = run_build(spec, {"u": pack(tmp_path / "u.tgz", files)}, tmp_path / "out")
    assert step_counts.rejected == {"symbolic link": 1, "same image as an earlier one": 1}
    (name,) = set(rows) - {"untitled.svg"}
    assert rows[name]["caption"].endswith(", Grey crane, bird, pond life")
    assert rows[name]["author"] == "Ann Author"
    assert rows["untitled.svg"]["caption"] == "animals"


@pytest.mark.parametrize("title", ["", "<dc:title/>", '<dc:title id="t" />'])
def test_openclipart_without_a_title_takes_no_other(tmp_path: Path, title: str) -> None:
    """The author's name is a `dc:title` too, but not the image's."""
    (tmp_path / "crane.svg").write_bytes(svg(body=RDF.format(title=title)))
    spec = source("openclipart", package="u", folder=".", caption="{title}")
    (item,) = openclipart.read(spec, {"u": tmp_path})
    assert isinstance(item, Item)
    assert item.fields["title"] == ""
    assert item.fields["description"] == "Une grue & son nid"
    assert item.author == "Ann Author"


def test_table(tmp_path: Path) -> None:
    images: dict[str, Any] = {
        "package/assets/A001.jpeg": photo(0),
        "package/assets/B002.jpeg": photo(1),
        "package/assets/Z999.jpeg": photo(2),
        "package/assets/A001.png": photo(3),
    }
    table = 'code,name,scie\nA001,"Rice, raw",Oryza\nB002,Bean,\nC003,Lost,\n'
    packages = {
        "pics": pack(tmp_path / "pics.tgz", images),
        "csv": pack(tmp_path / "csv.tgz", {"package/index.csv": table}),
    }
    keys = {"pictures": "pics", "folder": "package/assets", "suffix": ".jpeg", "table": "csv",
            "csv": "package/index.csv", "code": "code", "concept": "name"}  # fmt: skip
    spec = source("table", caption="{name}, {scie}", **keys)
    step_counts, rows = run_build(spec, packages, tmp_path / "out")
    assert step_counts.rejected == {"no row in the table": 1}
    rice, bean = rows["A001.jpeg"], rows["B002.jpeg"]
    assert (rice["caption"], bean["caption"]) == ("Rice, raw, Oryza", "Bean")
    assert (rice["category"], bean["category"]) == ("fam/A/rice", "fam/B/bean")
    for key in ("code", "concept"):
        with pytest.raises(
            ClipshiftError, match=r"index\.csv of the package csv has no column 'nix'"
        ):
            run_build(
                source("table", caption="x", **keys | {key: "nix"}), packages, tmp_path / "no"
            )


def test_webdataset(tmp_path: Path) -> None:
    samples = [
        Sample(
            "0",
            {
                "jpg": photo(0),
                "txt": b" a cat ",
                "json": b'{"category": "x/y", "concept": "cat"}',
            },
        ),
        Sample("1", {"webp": photo(1, kind="WEBP"), "txt": b"a dog"}),
        Sample("2", {"txt": b"no image"}),
        Sample("3", {"jpg": b"torn", "txt": b"torn"}),
        Sample("4", {"jpg": photo(4), "json": b"{}"}),
        Sample(
            "5",
            {
                "jpg": photo(5),
                "txt": b"null",
                "json": b'{"category": null, "concept": null}',
            },
        ),
    ]
    write_tar(tmp_path / "wds/00000.tar", samples)
    spec = source("webdataset", folder=str(tmp_path / "wds"), caption="{text}")
    step_counts, rows = run_build(spec, {}, tmp_path / "out")
    assert step_counts.rejected == {
        "no image in the sample": 1, "undecodable image": 1, "no caption": 1,
    }  # fmt: skip
    assert {k: (r["category"], r["caption"]) for k, r in rows.items()} == {
        "0": ("fam/x/y/cat", "a cat"),
        "1": ("fam/1", "a dog"),
        "5": ("fam/5", "null"),
    }


def test_webdataset_with_damaged_json_names_the_sample(tmp_path: Path) -> None:
    parts = {"jpg": photo(0), "txt": b"x", "json": b"{"}
    write_tar(tmp_path / "wds/0.tar", [Sample("bad", parts)])
    spec = source("webdataset", folder=str(tmp_path / "wds"), caption="{text}")
    with pytest.raises(ClipshiftError, match="bad"):
        run_build(spec, {}, tmp_path / "out")


def test_webdataset_with_text_that_is_none(tmp_path: Path) -> None:
    deep, half = b"[" * 200_000, b'{"concept": "\\ud800"}'
    write_tar(tmp_path / "wds/0.tar", [Sample("deep", {"jpg": photo(0), "json": deep})])
    spec = source("webdataset", folder=str(tmp_path / "wds"), caption="{text}")
    with pytest.raises(ClipshiftError, match="deep"):
        run_build(spec, {}, tmp_path / "out")
    half_parts = {"jpg": photo(0), "txt": b"x", "json": half}
    good = Sample("good", {"jpg": photo(1), "txt": b"x"})
    write_tar(tmp_path / "wds/0.tar", [Sample("half", half_parts), good])
    step_counts, rows = run_build(spec, {}, tmp_path / "out")
    assert step_counts.rejected == {"text is not Unicode": 1}
    assert list(rows) == ["good"]


def test_empty_webdataset_folder(tmp_path: Path) -> None:
    spec = source("webdataset", folder=str(tmp_path), caption="{text}")
    with pytest.raises(ClipshiftError, match=r"no \*\.tar in"):
        run_build(spec, {}, tmp_path / "out")
