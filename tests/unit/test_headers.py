"""The gate for tars: what tarfile reads of good ones, and at once a named refusal of all others."""

import bz2
import gzip
import io
import lzma
import os
import random
import tarfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from clipshift.core.errors import ClipshiftError
from clipshift.datasets import archives, records, tars
from clipshift.datasets.formats import open_dataset
from clipshift.datasets.headers import MAX_HEADER, MAX_NAME, headers
from clipshift.datasets.images import Undecodable
from clipshift.datasets.listing import walk
from clipshift.datasets.records import Place, Rejected
from clipshift.datasets.tars import image_places, members, read_tar
from tests.conftest import photo
from tests.formats_case import read, tar

LONG = "d/" * 150 + "0001.jpg"


def info(name: str, size: int = 0, **more: object) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    for field, value in more.items():
        setattr(member, field, value)
    return member


def raw(name: str, data: bytes = b"", kind: bytes = b"0", size: bytes | None = None) -> bytes:
    """A member as it lies in a tar, with any size and a right checksum."""
    head = bytearray(info(name, len(data), type=kind).tobuf(tarfile.USTAR_FORMAT))
    if size is not None:
        head[124:136] = size
    return checked(head) + data + bytes(-len(data) % 512)


def checked(head: bytearray) -> bytes:
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


def pax(*records: bytes, kind: bytes = b"x") -> bytes:
    """A pax header of records `KEY=VALUE`."""
    text = b""
    for record in records:
        length = len(record) + 3
        while len(b"%d" % length) + len(record) + 2 != length:
            length += 1
        text += b"%d %s\n" % (length, record)
    return raw("pax", text, kind)


END = bytes(1024)
GOOD = raw("0.jpg", b"image")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_those_of_tarfile(form: int, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    names = ["a/0.jpg", "a/0.txt", "\u00fc/\u00e9 1.JPEG", "p/" * 60 + "x" * 30 + ".png", "README"]
    if form != tarfile.USTAR_FORMAT:
        names += [LONG, "n" * 300 + ".jpg", "\u65e5" * 90 + ".jpg"]
    with tarfile.open(path, "w", format=form) as out:
        out.addfile(info("folder", type=tarfile.DIRTYPE))
        for size, name in enumerate(names):
            out.addfile(info(name, 700 * size, mtime=1.5), io.BytesIO(bytes(700 * size)))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            out.addfile(info(f"{kind.decode()}.jpg", type=kind, linkname="l" * 90))
        if form == tarfile.GNU_FORMAT:
            out.addfile(info("k.jpg", type=tarfile.SYMTYPE, linkname="l" * 900))
            out.addfile(info("uid.jpg", uid=1 << 40, mtime=1 << 40))
    with tarfile.open(path) as archive, path.open("rb") as stream:
        right = [(m.name, m.offset_data, m.size, m.isdir(), m.isreg()) for m in archive]
        ours = [
            (h.name, h.offset, h.size, h.is_folder, not (h.is_folder or h.odd))
            for h in headers(stream)
        ]
    assert ours == right
    assert len(ours) > len(names)


def test_names_of_old_writers_and_of_combined_headers(tmp_path: Path) -> None:
    v7 = bytearray(raw("old/0.jpg"))
    v7[257:265] = bytes(8)
    v7[156] = 0
    signed = bytearray(raw("\u00e9.jpg"))
    signed[148:156] = b"%06o\0 " % (sum(signed[:148]) + 256 + sum(signed[156:512]) - 512)
    v7_folder = bytearray(raw("old/x"))
    v7_folder[4:6] = b"/\0"
    v7_folder[156] = 0
    path = tmp_path / "x.tar"
    path.write_bytes(
        checked(v7) + bytes(signed) + checked(v7_folder)
        + raw("L", b"long.jpg\0", b"L") + pax(b"path=pax.jpg", b"comment=x") + raw("short", b"1")
        + pax(b"path=pax.jpg", b"size=3") + raw("L", b"long.jpg\0", b"L") + raw("short", b"abc")
        + pax(b"comment=git", kind=b"g") + raw("x.jpg", b"22") + END
    )  # fmt: skip
    with tarfile.open(path) as archive, path.open("rb") as stream:
        right = [(m.name, m.offset_data, m.size, m.isdir()) for m in archive]
        assert [(h.name, h.offset, h.size, h.is_folder) for h in headers(stream)] == right
    assert [name for name, *_ in right[3:]] == ["long.jpg", "pax.jpg", "x.jpg"]


HOSTILE = {
    "negative size": raw("1.jpg", size=b"\xff" * 12),
    "negative octal": raw("1.jpg", size=b"-0000000777\0"),
    "size of 2^87": raw("1.jpg", size=b"\x80" + b"\xff" * 11),
    "size of 2^63": raw("1.jpg", size=b"\x80\0\0\0" + b"\x7f" + b"\xff" * 7),
    "size of the bytes that follow and one": raw("1.jpg", size=b"%011o\0" % 1025),
    "size in other digits": raw("1.jpg", size="\u00b2\u00b2\u00b2".encode() + bytes(6)),
    "size with an underscore": raw("1.jpg", size=b"0000000001_0"),
    "long name of 8 GiB": raw("L", kind=b"L", size=b"77777777777\0"),
    "long name of 2^87": raw("L", kind=b"L", size=b"\x80" + b"\xff" * 11),
    "long name that is negative": raw("L", kind=b"L", size=b"\xff" * 12),
    "long name beyond the bound": raw("L", b"a" * (MAX_HEADER + 1), b"L") + raw("1.jpg"),
    "name longer than paths are": raw("L", b"a/" * MAX_NAME + b"1.jpg", b"L") + raw("1.jpg"),
    "many long names": raw("L", b"a" * 500, b"L") * 5000 + raw("1.jpg"),
    "nothing after a long name": raw("L", b"a" * 500, b"L"),
    "pax header of 8 GiB": raw("p", kind=b"x", size=b"77777777777\0"),
    "nothing after a pax header": pax(b"path=1.jpg"),
    "huge pax size": pax(b"size=" + b"9" * 18) + raw("1.jpg"),
    "pax size of 5000 digits": pax(b"size=" + b"9" * 5000) + raw("1.jpg"),
    "negative pax size": pax(b"size=-1") + raw("1.jpg"),
    "pax size that is none": pax("size=\u00b2".encode()) + raw("1.jpg"),
    "pax record without end": raw("p", b"99999 path=1.jpg\n", b"x") + raw("1.jpg"),
    "pax record of length 0": raw("p", b"0 path=1.jpg\n", b"x") + raw("1.jpg"),
    "pax record of a length of 4000 digits": raw("p", b"9" * 4000 + b" a=b\n", b"x"),
    "global name": pax(b"path=0.jpg", kind=b"g") + raw("1.jpg"),
    "global size": pax(b"size=1", kind=b"g") + raw("1.jpg", b"1"),
    "map of a sparse file without end": raw("1.jpg", kind=b"S")[:482] + b"\1" + bytes(29),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.timeout(10)
def test_hostile_headers_are_named_at_once(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    block = bytearray(HOSTILE[name])
    if name.startswith("map"):
        block = bytearray(checked(block))
    path.write_bytes(GOOD + block + END)
    start = time.process_time()
    tracemalloc.start()
    for reader in (read_tar, members, image_places):
        with pytest.raises(ClipshiftError, match=r"x\.tar is truncated or damaged after .*'0'"):
            list(reader(path))
    with pytest.raises(ClipshiftError, match="truncated or damaged"):
        read(path)
    assert tracemalloc.get_traced_memory()[1] < 50 << 20
    tracemalloc.stop()
    assert time.process_time() - start < 5


def test_sparse_files_are_named_and_what_follows_is_read(tmp_path: Path) -> None:
    old = bytearray(raw("1.jpg", b"packed", b"S"))
    old[482] = 1  # a block of its map follows
    old_sparse = checked(old[:512]) + bytes(512) + bytes(old[512:])
    new = pax(b"GNU.sparse.major=1", b"GNU.sparse.minor=0", b"GNU.sparse.name=2.jpg",
              b"GNU.sparse.realsize=99999999999")  # fmt: skip
    path = tmp_path / "x.tar"
    path.write_bytes(GOOD + old_sparse + new + raw("2.jpg", b"packed") + raw("3.jpg", b"3") + END)
    found = list(members(path))
    assert [(f.key, f.reason) for f in found if isinstance(f, Rejected)] == [
        ("1.jpg", "sparse file"),
        ("2.jpg", "sparse file"),
    ]
    samples = {s.key: s for s in read_tar(path)}
    assert samples["0"].image == b"image"
    assert samples["3"].image == b"3"
    with pytest.raises(Undecodable, match="sparse file"):
        _ = samples["1"].image


def test_flipped_bits_give_the_members_or_an_error(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", [(f"{n}.jpg", bytes([n]) * 600) for n in range(6)])
    whole, rng = path.read_bytes(), random.Random(0)
    right = list(read_tar(path))
    outcomes = set()
    for _ in range(400):
        broken = bytearray(whole)
        header = 512 * rng.choice([0, 3, 6, 9, 12, 15, 18, 19])
        broken[header + rng.randrange(512)] ^= 1 << rng.randrange(8)
        path.write_bytes(broken)
        try:
            found = list(read_tar(path))
        except ClipshiftError as error:
            assert str(path) in str(error)
            outcomes.add("error")
        else:
            assert found == right
            outcomes.add("whole")
    assert outcomes == {"error"}


def test_a_key_in_two_places_is_refused(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", [("0.jpg", b"0"), ("a/b/c/0.txt", b"x"), ("0.txt", b"x")])
    with pytest.raises(ClipshiftError, match=r"x\.tar: the key '0' occurs twice"):
        list(read_tar(path))


SECRET = b"\x80\x04never"


def test_only_images_and_texts_are_handed_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "clipshift")
    odd = ("pyd", "pkl", "pickle", "pth", "pt", "py", "npy", "npz", "tar", "zip", "gz", "ten",
           "jpg.pyd", "safetensors", "")  # fmt: skip
    parts = [("0.jpg", photo(0)), ("0.txt", b"text"), ("0.json", b"{}"), ("0.cls", b"0"),
             ("0.seg.png", b"seg"), ("0.CAPTION", b"text")]  # fmt: skip
    path = tar(tmp_path / "x.tar", [*parts, *((f"0.{suffix}", SECRET) for suffix in odd)])
    (sample,) = read_tar(path)
    assert list(sample.parts) == ["jpg", "txt", "json", "cls", "seg.png", "caption"]
    for suffix in odd:
        assert f"1 for the suffix {suffix!r}" in caplog.text
    (record,) = read(path)[1]
    assert record.place.read() == photo(0)
    list(read_tar(path))
    assert caplog.text.count("members are not read") == 1


def test_members_beyond_the_bounds_are_rejected_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tars, "MAX_BYTES", 2 << 20)
    monkeypatch.setattr(tars, "MAX_TEXT", 1 << 20)
    big, text = bytes((2 << 20) + 1), bytes((1 << 20) + 1)
    path = tar(
        tmp_path / "x.tar",
        [("0.jpg", big), ("0.txt", b"x"), ("1.jpg", photo(1)), ("1.txt", text), ("2.jpg", photo(2)),
         ("2.b.png", big[:-3])],
    )  # fmt: skip
    first, second, third = read_tar(path)
    with pytest.raises(Undecodable, match="larger than 2 MiB"):
        _ = first.image
    assert (list(second.parts), list(third.parts)) == (["jpg"], ["jpg"])
    reasons = [(f.key, f.reason) for f in image_places(path) if isinstance(f, Rejected)]
    assert ("0", "larger than 2 MiB") in reasons
    data = open_dataset(path)
    found = [f for _, f in data.all_records() if isinstance(f, Rejected)]
    assert ("1", "larger than 1 MiB") in [(f.key, f.reason) for f in found]


def test_text_that_is_none_is_rejected(tmp_path: Path) -> None:
    deep, digits = b"[" * 200_000, b'{"a": ' + b"9" * 5000 + b"}"
    members_ = [("0.jpg", photo(0)), ("0.json", deep), ("1.jpg", photo(1)), ("1.json", digits),
                ("2.jpg", photo(2)), ("2.json", b'{"caption": "\\ud800"}')]  # fmt: skip
    _, kept, rejected = read(tar(tmp_path / "x.tar", members_))
    assert not kept
    assert rejected == {
        "0": "its json is not JSON", "1": "its json is not JSON", "2": "text is not Unicode"
    }  # fmt: skip


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.timeout(60)
def test_compressed_bombs_stop_early(
    pack: Callable[[bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "SPARE", 1 << 20)
    path = tmp_path / "x.tar"
    path.write_bytes(pack(raw("0.jpg", bytes(100 << 20)) + END))
    with pytest.raises(ClipshiftError, match=r"x\.tar becomes more than 100 times as large"):
        list(read_tar(path))


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tar(tmp_path / "x.tar", [("0.jpg", random.Random(0).randbytes(3 << 20))], "w:gz")
    _, hard = before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(ClipshiftError, match=r"does not fit in .*TMPDIR"):
            list(read_tar(path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.timeout(10)
def test_what_is_no_file_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "0.tar")
    os.mkfifo(tmp_path / "0.jpg")
    (tmp_path / "1.tar").mkdir()
    (tmp_path / "2.tar").symlink_to("2.tar")
    for name, what in (("0.tar", "pipe"), ("1.tar", "folder"), ("2.tar", "symbolic links")):
        with pytest.raises(ClipshiftError, match=what):
            list(read_tar(tmp_path / name))
    with pytest.raises(OSError, match="no regular file"):
        Place(tmp_path / "0.jpg").read()
    left: Counter[str] = Counter()
    assert not list(walk(tmp_path, left))
    assert left == {"no regular file": 2, "broken link": 1}
    monkeypatch.setattr(records, "MAX_BYTES", 10)
    (tmp_path / "big.jpg").write_bytes(bytes(11))
    with pytest.raises(OSError, match="too large"):
        Place(tmp_path / "big.jpg").read()
