"""Tars: samples, formats, folder sets and pools, and the filter of the training."""

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from clipshift.core.files import read_json, read_parquet, sha256_bytes, write_npy
from tests.folder_case import write_pool, write_set
from tests.fuzz.reader import MustRefuse, Reader, as_text
from tests.fuzz.readers.images import pixels

LABELS = [0, 1, 1, 0]
# Last suffixes of members whose bytes are read.
READ = {"txt", "text", "caption", "json", "cls", "jpg", "jpeg", "png", "webp", "gif", "bmp", "tif"}
Samples = dict[str, dict[str, Any]]


def plain_samples(
    path: Path,
    told: Callable[[str, bytes], Any] = lambda suffix, data: sha256_bytes(data),
    strict: Callable[[str], bool] = lambda key: True,
) -> Samples:
    """Key -> suffix -> SHA-256 of its bytes (or what is `told`), as Python's tarfile reads a tar.

    Args:
        strict: whether a key may not occur in two places, nor a part of it twice; else parts that
            come again are told under `SUFFIX+`.

    Raises:
        MustRefuse: as `strict` says; or no mark of the end.
    """
    found: Samples = {}
    last = None
    with path.open("rb") as head:
        zipped = head.read(2) == b"\x1f\x8b"
    plain = io.BytesIO(unsparsed((gzip.decompress if zipped else bytes)(path.read_bytes())))
    with tarfile.open(fileobj=plain, mode="r:", errors="surrogateescape") as archive:
        for info in archive:
            folder, slash, name = info.name.removeprefix("./").rpartition("/")
            stem, dot, suffix = name.partition(".")
            if info.isdir() or not stem or not dot or info.name.startswith("__"):
                continue
            key = folder + slash + stem
            if key != last and key in found and strict(key):
                raise MustRefuse(f"{key!r} is in two places")
            last = key
            parts = found.setdefault(key, {})
            if not info.isreg():
                continue
            stream = archive.extractfile(info)
            data = stream.read() if stream else b""
            if len(data) != info.size:
                raise MustRefuse("a member is cut short")
            if suffix.lower() in parts and strict(key):
                raise MustRefuse(f"{key!r} has two {suffix}")
            while suffix.lower() in parts:
                suffix += "+"
            parts[suffix.lower()] = told(suffix.lower(), data)
        archive.fileobj.seek(archive.offset)  # type: ignore[union-attr]
        rest = archive.fileobj.read()  # type: ignore[union-attr]
        if any(rest) or len(rest) < 1024:
            raise MustRefuse("the tar does not end where it says")
    return found


def unsparsed(data: bytes) -> bytes:
    """A tar whose sparse members, of GNU or pax, are of a kind that nobody knows, without maps.

    tarfile would spell them out, which takes as much memory as they claim to be large.
    """
    made, at, sparse = bytearray(data), 0, False
    while at + 512 <= len(made) and any(made[at : at + 512]):
        size = made[at + 124 : at + 136].strip(b"\0 ")
        if not size or not all(48 <= digit < 56 for digit in size):
            break  # tarfile says what is wrong
        kind = bytes(made[at + 156 : at + 157])
        if kind in (b"x", b"X"):
            body = slice(at + 512, at + 512 + int(size, 8))
            sparse = b"GNU.sparse." in made[body]
            made[body] = made[body].replace(b"GNU.sparse.", b"GNU-sparse.")
        elif kind == b"S" or (sparse and kind in b"0\0" + b"7"):
            more, sparse = made[at + 482] if kind == b"S" else 0, False
            made[at + 156 : at + 157] = b"Z"
            made[at + 345 : at + 500] = bytes(155)
            made[at + 148 : at + 156] = b" " * 8
            made[at + 148 : at + 156] = b"%06o\0 " % sum(made[at : at + 512])
            while more and at + 1024 <= len(made):
                more = made[at + 512 + 504]
                del made[at + 512 : at + 1024]
        at += 512 + -(-int(size, 8) // 512) * 512
    return bytes(made)


class ReadTar(Reader):
    name = "tar.read_tar"

    def build(self, folder: Path) -> None:
        write_set(folder / "set", LABELS, tars=1)

    def targets(self, folder: Path) -> list[Path]:
        return [folder / "set/test/0.tar"]

    def read(self, folder: Path, out: Path) -> Any:
        from clipshift.datasets.tars import read_tar

        samples = [
            (s.key, {suffix: sha256_bytes(data) for suffix, data in s.parts.items()})
            for s in read_tar(folder / "set/test/0.tar")
        ]
        return {"samples": dict(samples), "count": len(samples)}

    def truth(self, folder: Path) -> Any:
        samples = plain_samples(folder / "set/test/0.tar")
        # Bytes of a name that are no UTF-8 are escaped; other members than images and texts are
        # counted, and not read.
        read = {
            escaped(key): {s: data for s, data in parts.items() if s.rpartition(".")[2] in READ}
            for key, parts in samples.items()
        }
        return {"samples": read, "count": len(samples)}


def escaped(key: str) -> str:
    return key.encode(errors="surrogateescape").decode(errors="backslashreplace")


def told(suffix: str, data: bytes) -> str:
    """A label as text, and the hash of what is none."""
    if suffix.startswith("cls"):
        return data.decode("utf-8-sig").strip()
    return sha256_bytes(data)


class Format(Reader):
    """Records of the format that recognises a folder of tars; what is left out has a reason."""

    name = "tar.dataset"

    def build(self, folder: Path) -> None:
        write_set(folder / "tars", LABELS, tars=1)
        (folder / "tars/test/0.tar").rename(folder / "tars/a.tar")
        write_set(folder / "tars", LABELS, tars=1, seed=50)
        (folder / "tars/test/0.tar").rename(folder / "tars/b.tar")
        for path in (folder / "tars").rglob("*.txt"):
            path.unlink()
        (folder / "tars/test").rmdir()

    def read(self, folder: Path, out: Path) -> Any:
        from clipshift.datasets.formats import open_dataset
        from clipshift.datasets.records import Record

        data = open_dataset(folder / "tars")
        found = [f for _, f in data.all_records()]
        return {
            "records": {
                f.key: [sha256_bytes(f.place.read()), f.label]
                for f in found
                if isinstance(f, Record)
            },
            "rejected": [f.key for f in found if not isinstance(f, Record)],
            "left_out": data.left_out.total(),  # files that are no part of it: counted
        }

    def truth(self, folder: Path) -> Any:
        records: dict[str, Any] = {}
        for path in sorted((folder / "tars").glob("*.tar")):
            if path.is_dir():
                continue
            # Here what comes again is a counted rejection.
            samples = plain_samples(path, told, lambda key: False)
            if samples.keys() & records.keys():
                raise MustRefuse("a key is in two tars")
            records |= samples
        return {"samples": records}

    def agrees(self, found: Any, wanted: Any) -> bool:
        if "records" in wanted:  # the original's
            return bool(found["records"].items() <= wanted["records"].items()) and (
                found["left_out"]
                or len(found["records"]) + len(found["rejected"]) >= len(wanted["records"])
            )
        samples = wanted["samples"]
        rejected = set(found["rejected"])
        stated = {k: set(parts.values()) for k, parts in samples.items()}
        labels = {k: {"cls", "cls+"} & parts.keys() for k, parts in samples.items()}
        return all(
            image in stated.get(key, ())
            and (label in stated[key] or (label is None and (key in rejected or not labels[key])))
            for key, (image, label) in found["records"].items()
        ) and all(
            key in found["records"] or any(key in r or r in key for r in rejected)
            for key in samples
        )


class FolderSet(Reader):
    """The table of a labelled set."""

    name = "tar.folder_set"

    def build(self, folder: Path) -> None:
        write_set(folder / "set", LABELS)

    def read(self, folder: Path, out: Path) -> Any:
        import os

        from clipshift.datasets import external_set
        from clipshift.datasets.tar_paths import DATA_VARIABLE
        from clipshift.study.config.folders import FolderSet as Spec

        os.environ[DATA_VARIABLE] = str(folder)
        spec = Spec(folder="set", classes=2, samples=4, obtain="ask for it")
        external_set.build("t", spec, out)
        rows = read_parquet(out / "samples.parquet").to_pylist()
        names = (out / "classnames.txt").read_text().split("\n")[:-1]
        left_out = sum(read_json(out / "manifest.json")["account"]["rejected"].values())
        found = {r["key"]: [r["sha256"], r["class_name"]] for r in rows}
        return found | {"names": names, "left out": left_out}

    def truth(self, folder: Path) -> Any:
        names = (folder / "set/classnames.txt").read_text(encoding="utf-8-sig").split("\n")
        names = [n.strip() for n in names if n.strip()]
        count = int((folder / "set/test/nshards.txt").read_text(encoding="utf-8-sig"))
        tars = [folder / f"set/test/{i}.tar" for i in range(count)]
        digits = {sha256_bytes(b"%d" % i): i for i in range(2)}
        rows: dict[str, Any] = {"names": names, "left out": 0}
        for tar in tars:
            for key, parts in plain_samples(tar).items():
                if key in rows:
                    raise MustRefuse("a key in two tars")
                image = next((parts[s] for s in parts if s in ("jpg", "jpeg", "png")), None)
                rows["left out"] += image is None
                if image:
                    rows[key] = [image, names[digits[parts["cls"]]]]
        return rows


class FolderPool(Reader):
    """The table of a pool that img2dataset downloaded."""

    name = "tar.folder_pool"

    def build(self, folder: Path) -> None:
        write_pool(folder / "pool", {0: 4, 1: 3})

    def read(self, folder: Path, out: Path) -> Any:
        from clipshift.datasets import external_pool

        tars = [folder / f"pool/{i:05d}.tar" for i in range(2)]
        external_pool.write_group("web", tars, out / "00000.parquet")
        rows = read_parquet(out / "00000.parquet").to_pylist()
        missing = read_json(out / "00000.json")["shard"]["missing"]
        found = [[r["key"], r["caption"], r["locator"]] for r in rows]
        return {"rows": found, "missing": missing}

    def truth(self, folder: Path) -> Any:
        rows: list[Any] = []
        missing: list[str] = []
        for i in range(2):
            if not (folder / f"pool/{i:05d}.parquet").exists():
                missing.append(f"{i:05d}")  # a gap in the numbers, as the record says
                continue
            if not (folder / f"pool/{i:05d}.tar").is_file():
                raise MustRefuse("a tar is gone")
            for row in pq.read_table(folder / f"pool/{i:05d}.parquet").to_pylist():
                r = {k: as_text(v) for k, v in row.items()}
                if not isinstance(r["key"], str) or not isinstance(r["url"], str):
                    raise MustRefuse("a key or URL that is no text")
                if r["status"] == "success":
                    rows.append([r["key"], r["caption"] or "", r["url"]])
        if len({r[0] for r in rows}) < len(rows):
            raise MustRefuse("a key occurs twice")
        return {"rows": rows, "missing": missing}


def seen(suffix: str, data: bytes) -> Any:
    """The mean colour of an image, None where Pillow sees none; the hash of what is no image."""
    if suffix not in ("jpg", "jpeg", "png", "webp"):
        return sha256_bytes(data)
    try:
        return pixels(data).mean(axis=(0, 1)).tolist()
    except Exception:
        return None


class Filter(Reader):
    """What the training reads of a tar."""

    name = "tar.filter"

    def build(self, folder: Path) -> None:
        write_pool(folder / "pool", {0: 6})
        keep = np.array([f"00000{i:04d}" for i in (0, 2, 3, 5)])
        write_npy(folder / "keep.npy", keep)

    def targets(self, folder: Path) -> list[Path]:
        return [folder / "pool/00000.tar"]

    def read(self, folder: Path, out: Path) -> Any:
        from clipshift.training.shards import LEFT_OUT, Shard, Shards, undecodable, write_shards

        tar, keep = (str(folder / name) for name in ("pool/00000.tar", "keep.npy"))
        write_shards(out / "shards.json", [Shard(tar, 0, 4, keep)])
        samples = [
            (s.key, {k: seen(k, v) for k, v in s.parts.items()})
            for _, s in Shards(out / "shards.json").read(0)
        ]
        left_out = list(undecodable(out / LEFT_OUT))
        return {"samples": dict(samples), "count": len(samples), "left_out": left_out}

    def truth(self, folder: Path) -> Any:
        keep = set(np.load(folder / "keep.npy").tolist())
        every = plain_samples(folder / "pool/00000.tar", seen, lambda key: key in keep)
        samples = {k: v for k, v in every.items() if k in keep}
        return {"samples": samples, "count": len(samples), "left_out": []}

    def agrees(self, found: Any, wanted: Any) -> bool:
        """Texts are equal, and images of an equal colour: they may be stored anew."""
        there, wished = found["samples"], wanted["samples"]
        same = all(k in wished and self._same(parts, wished[k]) for k, parts in there.items())
        lost = wished.keys() - there.keys() - set(found["left_out"])
        return same and not lost and found["count"] == len(there)

    @staticmethod
    def _same(parts: dict[str, Any], wished: dict[str, Any]) -> bool:
        images = [v for k, v in parts.items() if isinstance(v, list)]
        wanted = [v for k, v in wished.items() if isinstance(v, list)]
        return parts.get("txt") == wished.get("txt") and all(
            not wanted or np.allclose(image, wanted[0], rtol=0, atol=2) for image in images
        )
