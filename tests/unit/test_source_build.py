"""Building a source: captions, drawing, unpacking, and the same bytes for the same input."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet
from clipshift.datasets.sources.base import caption
from clipshift.datasets.sources.build import key_of, unpack
from clipshift.datasets.sources.render import Undrawable, render
from clipshift.datasets.tars import read_tar
from clipshift.study.config.data import Rendering
from tests.conftest import photo, svg
from tests.unit.packages import RENDERING, pack, run_build, source


@pytest.fixture
def package(tmp_path: Path) -> Path:
    files: dict[str, Any] = {f"p/s/{i}.svg": svg(c) for i, c in enumerate(("red", "blue", "teal"))}
    files |= {f"p/s/{i}.txt": f"title {i}" for i in range(3)}
    return pack(tmp_path / "p.tgz", files)


SIDECAR = source("sidecar", package="p", folder="p", suffix=".svg", caption="{kind}, {title}")


def test_two_builds_give_the_same_bytes(package: Path, tmp_path: Path) -> None:
    for name in "ab":
        run_build(SIDECAR, {"p": package}, tmp_path / name)
    for file in ("samples.tar", "samples.parquet", "manifest.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_tar_table_and_manifest_agree(package: Path, tmp_path: Path) -> None:
    run_build(SIDECAR, {"p": package}, tmp_path / "out")
    rows = read_parquet(tmp_path / "out/samples.parquet").to_pylist()
    samples = list(read_tar(tmp_path / "out/samples.tar"))
    assert [s.key for s in samples] == [r["key"] for r in rows]
    assert [s.parts["txt"].decode() for s in samples] == [r["caption"] for r in rows]
    manifest = read_json(tmp_path / "out/manifest.json")
    assert manifest["account"]["out"] == manifest["shard"]["samples"] == 3
    assert manifest["licence"] == "CC0-1.0"


def test_source_without_a_sample_is_refused(package: Path, tmp_path: Path) -> None:
    spec = SIDECAR.model_copy(update={"folder": "p/elsewhere"})
    with pytest.raises(ClipshiftError, match=r"none of 0 candidates.*folder"):
        run_build(spec, {"p": package}, tmp_path / "out")


def test_caption_recipe_with_an_unknown_field(package: Path, tmp_path: Path) -> None:
    spec = SIDECAR.model_copy(update={"caption": "{titel}"})
    with pytest.raises(ClipshiftError, match=r"'titel'.*'title'"):
        run_build(spec, {"p": package}, tmp_path / "out")


@pytest.mark.parametrize(
    ("recipe", "text"),
    [
        ("{a}, {b}, {c}", "dog, pet"),
        ("{b}, {a}", "dog"),
        ("{b}, {b}", ""),
        ("an image of a {a}", "an image of a dog"),
        ("{a} {b}, {c}", "dog, pet"),
    ],
)
def test_caption_recipe_with_empty_fields(recipe: str, text: str) -> None:
    assert caption(recipe, {"a": "dog", "b": "", "c": "pet"}) == text


def test_keys_are_readable_and_distinct() -> None:
    a, b = key_of("noto", "p:x/Dog!.svg"), key_of("noto", "p:y/Dog!.svg")
    assert a.startswith("noto-dog-") and b.startswith("noto-dog-") and a != b
    assert key_of("s", "p:icons.json#rice ball").startswith("s-rice-ball-")


def pixels(data: bytes, spec: Rendering = RENDERING) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(render(data, spec)))).astype(int)


@pytest.mark.parametrize(
    ("head", "right"),
    [
        ('width="15pt" height="15pt"', 'viewBox="0 0 20 20"'),
        ('width="20" height="20"', 'viewBox="0 0 20 20"'),
        ("width='20px' height='30px'", 'viewBox="0 0 20 30"'),
        ('width="2in" height="2in"', 'viewBox="0 0 192 192"'),
        ('width="10mm" height="20mm"', 'viewBox="0 0 37.795 75.591"'),
        ('width="15pt" height="15pt" viewBox="0 0 20 20"', 'viewBox="0 0 20 20"'),
    ],
)
def test_size_of_an_svg_without_view_box(head: str, right: str) -> None:
    """Lengths in other units mean user units, so nothing is cut off or shrunk."""
    body = '<path d="M0 0 H19 V5 H0 Z" fill="navy"/>'
    difference = pixels(svg(head=head, body=body)) - pixels(svg(head=right, body=body))
    assert abs(difference).mean() < 3


def test_svg_with_a_prolog_and_single_quotes() -> None:
    text = b"<?xml version='1.0'?>\n<!DOCTYPE svg>\n" + svg(head="viewBox='0 0 20 20'")
    np.testing.assert_array_equal(pixels(text), pixels(svg()))


def rgba(box: tuple[int, int, int, int], size: tuple[int, int] = (60, 60)) -> bytes:
    """Transparent but for a red box."""
    image = Image.new("RGBA", size, (0, 0, 255, 0))
    image.paste((255, 0, 0, 255), box)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("box", [(5, 40, 25, 50), (30, 5, 36, 45), (0, 0, 60, 60)])
def test_cut_out_is_cropped_centred_and_padded(box: tuple[int, int, int, int]) -> None:
    spec = Rendering(px=100, margin=0.1, quality=100)
    red = pixels(rgba(box), spec)[..., 1] < 128
    rows, columns = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
    height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    assert max(height, width) == pytest.approx(80, abs=1)
    assert width / height == pytest.approx((box[2] - box[0]) / (box[3] - box[1]), rel=0.05)
    for found in (rows, columns):
        assert (found[0] + found[-1]) / 2 == pytest.approx(49.5, abs=1)


def test_background_is_the_one_asked_for() -> None:
    corner = pixels(rgba((20, 20, 40, 30)), Rendering(px=32, background="#102030", quality=100))[
        0, 0
    ]
    assert abs(corner - [0x10, 0x20, 0x30]).max() <= 3


def test_opaque_picture_is_cropped_to_its_central_square() -> None:
    image = Image.new("RGB", (90, 30), "blue")
    image.paste((255, 0, 0), (30, 0, 60, 30))
    image.paste((0, 255, 0), (40, 10, 50, 20))
    out = io.BytesIO()
    image.save(out, "PNG")
    found = pixels(out.getvalue(), Rendering(px=30, quality=100))
    assert found[..., 2].max() < 60, "nothing of the blue sides is left"
    assert found[15, 15, 1] > 200 and found[2, 2, 0] > 200


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "svg"])
def test_same_input_gives_the_same_bytes(kind: str) -> None:
    data = (
        svg(body="<text x='2' y='18' font-size='5'>abc</text>")
        if kind == "svg"
        else photo(1, kind=kind)
    )
    assert render(data, RENDERING) == render(data, RENDERING)
    assert pixels(data).shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "undecodable image"),
        (b"\x89PNG\r\n\x1a\n", "undecodable image"),
        (photo(0)[:200], "undecodable image"),
        (b"<svg><unclosed>", "unrenderable svg"),
        (b"<x/> <svg ", "no svg element"),
        (b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"/>', "blank image"),
        (b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 0 0"/>', "unrenderable svg|blank"),
    ],
)
def test_what_gives_no_picture(data: bytes, reason: str) -> None:
    with pytest.raises(Undrawable, match=reason):
        render(data, RENDERING)


@pytest.mark.parametrize("filters", [True, False], ids=["filters", "before-3.11.4"])
def test_unpack_refuses_a_path_that_leaves_its_folder(
    tmp_path: Path, filters: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not filters:
        monkeypatch.delattr("tarfile.data_filter", raising=False)
    for number, name in enumerate(("../escaped.txt", "a/../../escaped.txt")):
        file = pack(tmp_path / f"{number}.tgz", {name: "x"})
        with pytest.raises(ClipshiftError, match=rf"{number}\.tgz.*cannot be unpacked|escaped"):
            unpack(file, tmp_path / f"folder{number}")
    link = pack(tmp_path / "link.tgz", {"out": Path("../.."), "out/escaped.txt": "x"})
    with pytest.raises(ClipshiftError, match="link"):
        unpack(link, tmp_path / "linked")
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as wheel:
        wheel.writestr("../escaped.txt", "x")
    unpack(tmp_path / "w.whl", tmp_path / "wheel")
    assert [f.parent.name for f in tmp_path.rglob("escaped.txt")] in ([], ["wheel"])


def test_unpack_without_filters_gives_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"p/a/robin.txt": "A robin", "p/link.txt": Path("a/robin.txt"), "p/b.txt": "b"}
    package = pack(tmp_path / "p.tgz", files)
    unpack(package, tmp_path / "new")
    monkeypatch.delattr("tarfile.data_filter", raising=False)
    unpack(package, tmp_path / "old")
    new, old = (
        {f.relative_to(root): (f.is_symlink(), f.read_bytes()) for f in root.rglob("*.txt")}
        for root in (tmp_path / "new", tmp_path / "old")
    )
    assert new == old and len(new) == 3


@pytest.mark.parametrize("size", [0, 40, -20])
def test_truncated_package_is_refused(package: Path, tmp_path: Path, size: int) -> None:
    package.write_bytes(package.read_bytes()[:size])
    with pytest.raises(ClipshiftError, match=r"p\.tgz"):
        unpack(package, tmp_path / "p")


def test_truncated_wheel_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.whl").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ClipshiftError, match=r"w\.whl"):
        unpack(tmp_path / "w.whl", tmp_path / "w")
