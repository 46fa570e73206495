"""Building a source: captions, drawing, unpacking, and the same bytes for the same input."""

import base64
import contextlib
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet
from clipshift.core.limited import Limited
from clipshift.datasets.sources import svg as drawings
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


@pytest.mark.parametrize(
    "links",
    [
        {"out": Path("/")},
        {"out": Path("a/../..")},
        {"a/b/out": Path("../../..")},
        {"here": Path(), "out": Path("here/..")},  # lexically inside
        {"d/here": Path(".."), "out": Path("d/here/..")},
        {"a": Path("b"), "b/c": "x", "a/out": Path("../..")},
    ],
)
def test_links_that_lead_out_are_refused_also_through_links(
    links: dict[str, Path | str], tmp_path: Path
) -> None:
    file = pack(tmp_path / "link.tgz", links)
    with pytest.raises(ClipshiftError, match=r"link\.tgz is no package that can be unpacked"):
        unpack(file, tmp_path / "folder")


def test_a_chain_of_links_that_is_too_long_to_be_resolved(tmp_path: Path) -> None:
    """Fools the data filter of Python before 3.11.13 (CVE-2025-4517)."""
    deep, steps = "d" * 247, "abcdefghijklmnop"
    at = ""
    with tarfile.open(tmp_path / "p.tgz", "w:gz") as tar:
        for step in steps:
            for name, target in ((f"{at}{deep}", None), (f"{at}{step}", deep)):
                member = tarfile.TarInfo(name)
                member.type = tarfile.SYMTYPE if target else tarfile.DIRTYPE
                member.linkname = target or ""
                tar.addfile(member)
            at += f"{deep}/"
        last = "/".join(steps) + "/" + "l" * 254
        for name, target in (
            (last, "../" * len(steps)), ("escape", f"{last}/../../escaped"),
        ):  # fmt: skip
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
        member = tarfile.TarInfo("escape/file.txt")
        tar.addfile(member)
    (tmp_path / "escaped").mkdir()
    with pytest.raises(ClipshiftError, match="no package that can be unpacked"):
        unpack(tmp_path / "p.tgz", tmp_path / "folder")
    assert not list((tmp_path / "escaped").iterdir())


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


SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
SVG += 'viewBox="0 0 20 20">{}<rect width="6" height="6" fill="navy"/>{}</svg>'
PLAIN = SVG.format("", "")
TEXT = "<text x='2' y='18' font-size='5'>abc</text>"


def outward(place: str) -> list[str]:
    """Drawings that ask for a file or an address."""
    image = f'<image width="20" height="20" {{}}="{place}"/>'
    return [
        SVG.format("", image.format("href")),
        SVG.format("", image.format("xlink:href")),
        SVG.format("", f"<image width='20' height='20' href =\n ' {place}'/>"),
        SVG.format("", image.format("href").replace(place, f"&#{ord(place[0])};{place[1:]}")),
        f'<!DOCTYPE svg [<!ENTITY e "{place}">]>' + SVG.format("", image.format("href")
                                                              .replace(place, "&e;")),
        f'<!DOCTYPE svg [<!ENTITY e SYSTEM "{place}">]>' + SVG.format("", "&e;"),
        SVG.format("", f'<use href="{place}#x"/>'),
        SVG.format("", f"<style>@import url({place});rect{{fill:url({place}#x) navy}}</style>"),
        SVG.format(
            f'<filter id="f"><feImage href="{place}"/></filter>',
            '<g filter="url(#f)"><path d="M0 0"/></g>',
        ),
        SVG.format("", f'<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="{place}"/>'),
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(len(outward("x"))))
@pytest.mark.parametrize("text", ["", TEXT], ids=["drawn", "with text"])
def test_a_drawing_reads_no_file_and_asks_nobody(number: int, text: str, tmp_path: Path) -> None:
    """With the file it is drawn as without."""
    drawing = outward(str(tmp_path / "secret.png"))[number].replace("</svg>", f"{text}</svg>")

    def seen() -> list[Any]:
        found: list[Any] = []
        for data in (drawing.encode(), nested(drawing)):
            try:
                found.append(render(data, RENDERING))
            except Undrawable as reason:
                found.append(str(reason))
        return found

    without = seen()
    (tmp_path / "secret.png").write_bytes(photo(3, kind="PNG"))
    assert seen() == without
    refused = {"unrenderable svg", "svg with markup in an entity"}
    assert all(isinstance(each, bytes) or each in refused for each in without)


def nested(drawing: str) -> bytes:
    """A drawing inside of another one."""
    inner = base64.b64encode(drawing.encode()).decode()
    image = f'<image width="20" height="20" href="data:image/svg+xml;base64,{inner}"/>'
    return SVG.format("", image).encode()


def test_an_image_inside_a_drawing_is_drawn() -> None:
    inner = base64.b64encode(photo(3, kind="PNG")).decode()
    image = f'<image width="20" height="20" href="data:image/png;base64,{inner}"/>'
    assert np.abs(pixels(SVG.format("", image).encode()) - pixels(PLAIN.encode())).max() > 50
    shape = '<path id="s" d="M0 9H20V12H0Z"/><use xlink:href="#s" y="5"/>'
    assert np.abs(pixels(SVG.format("", shape).encode()) - pixels(PLAIN.encode())).max() > 50


BLUR = '<filter id="f" x="-9" y="-9" width="99" height="99">{}</filter>'
COSTLY = {
    "blur": SVG.format(
        BLUR.format("".join(
            f'<feGaussianBlur stdDeviation="{n}"/><feTurbulence numOctaves="9"/>'
            for n in range(100, 400)
        )), '<g filter="url(#f)"><rect width="20" height="20"/></g>',
    ),
    "copies": SVG.format("".join(
        f'<g id="a{n}">' + f'<use href="#a{n - 1}"/>' * 10 + "</g>" for n in range(1, 12)
    ) + '<path id="a0" d="M0 0H9V9Z"/>', '<use href="#a11"/>'),
    "entities": "<!DOCTYPE svg [<!ENTITY a0 'lol'>" + "".join(
        f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 12)
    ) + "]>" + SVG.format("<desc>&a11;</desc>", ""),
    "depth": SVG.format("<g>" * 100_000, "</g>" * 100_000),
    "tags": "<svg" * 300_000,
    "height": PLAIN.replace("0 0 20 20", "0 0 0.00001 20000000"),
    "dashes": SVG.format("", '<path d="M0 0H1e9" stroke="red" stroke-dasharray="1e-5"/>'),
    "pattern": SVG.format(
        '<pattern id="p" width="1e-6" height="1e-6" patternUnits="userSpaceOnUse">'
        '<circle r="1"/></pattern>', '<rect width="20" height="20" fill="url(#p)"/>'),
}  # fmt: skip


@pytest.mark.parametrize("name", COSTLY)
@pytest.mark.timeout(120)
def test_a_costly_drawing_ends_and_the_next_one_is_drawn(name: str) -> None:
    right = pixels(PLAIN.encode())
    start = os.times()
    with contextlib.suppress(Undrawable):
        render(COSTLY[name].encode(), RENDERING)
    end = os.times()
    assert sum(end[:4]) - sum(start[:4]) < 10
    np.testing.assert_array_equal(pixels(PLAIN.encode()), right)


def test_costly_drawings_take_little_memory() -> None:
    """In a process of its own, whose only children are those that draw."""
    lines = [
        "import contextlib, resource",
        "from clipshift.datasets.sources.render import Undrawable, render",
        "from tests.unit.packages import RENDERING",
        "from tests.unit.test_source_build import COSTLY",
        "for text in COSTLY.values():",
        "    with contextlib.suppress(Undrawable):",
        "        render(text.encode(), RENDERING)",
        "from clipshift.datasets.sources import svg",
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)",
    ]
    program = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(program, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 1 << 10 < int(done.stdout) < 1 << 20  # KiB


def test_costly_drawings_are_counted_and_named(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawings, "_draw", Limited(f"{drawings.__name__}:drawn", 1, 256 << 20))
    files: dict[str, Any] = {f"p/s/{i}.svg": svg(c) for i, c in enumerate(("red", "blue"))}
    files |= {f"p/s/{i}.txt": f"title {i}" for i in range(2)}
    files |= {"p/s/9.svg": COSTLY["blur"], "p/s/9.txt": "costly"}
    run_build(SIDECAR, {"p": pack(tmp_path / "q.tgz", files)}, tmp_path / "out")
    manifest = read_json(tmp_path / "out/manifest.json")
    (reason,) = manifest["account"]["rejected"]
    assert reason.startswith("svg that takes more than")
    assert manifest["too_costly"] == {"p:p/s/9.svg": reason}
    assert manifest["shard"]["samples"] == 2
