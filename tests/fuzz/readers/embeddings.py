"""Embedding folders: margins, their continuation and verification, and the audit."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from tests.audit_case import folder as embedded
from tests.audit_case import sides
from tests.conftest import photo
from tests.fuzz.reader import MustRefuse, Reader, as_text, cli

ROUNDING = 1e-6
Rows = dict[str, np.ndarray]


def rows_of(path: Path) -> Rows:
    """Key -> float64 vector of an embedding folder, by numpy and pyarrow alone.

    Raises:
        MustRefuse: no vectors of length 1, a key twice or none, or other numbers of rows.
    """
    found: Rows = {}
    arrays = sorted((path / "img_emb").glob("*.npy"))
    tables = sorted((path / "metadata").glob("*.parquet"))
    if [a.stem.rsplit("_", 1)[1] for a in arrays] != [t.stem.rsplit("_", 1)[1] for t in tables]:
        raise MustRefuse("shards of vectors and of metadata differ")
    for array, table in zip(arrays, tables, strict=True):
        vectors = np.load(array)
        names = pq.read_table(table)["image_path"]
        names.validate(full=True)
        keys = [as_text(k) for k in names.to_pylist()]
        if len(keys) != len(vectors) or not all(isinstance(k, str) for k in keys):
            raise MustRefuse("other numbers of rows, or a key that is no text")
        vectors = vectors.astype(np.float64)
        if not (np.abs(np.linalg.norm(vectors, axis=1) - 1) < 0.02).all():
            raise MustRefuse("a vector whose length is not 1")
        for key, vector in zip(keys, vectors, strict=True):
            if key in found:
                raise MustRefuse(f"the key {key!r} occurs twice")
            found[key] = vector
    return found


def best(rows: Rows, tests: Rows) -> dict[str, float]:
    """Key -> highest similarity to the tests."""
    columns = np.array(list(tests.values())).T
    return {key: float((row @ columns).max()) for key, row in rows.items()}


def close(found: dict[str, Any], wanted: dict[str, Any], slip: float = ROUNDING) -> bool:
    return found.keys() == wanted.keys() and all(
        np.allclose(found[key], wanted[key], rtol=0, atol=slip) for key in found
    )


class Margins(Reader):
    """`clipshift margins`: similarity to the nearest test image, and its margin."""

    name = "margins.run"

    def build(self, folder: Path) -> None:
        sides(folder)

    def words(self, folder: Path, out: Path) -> list[Any]:
        test = f"t={folder / 'test'}"
        return ["--pool", folder / "train", "--test", test, "--reference", folder / "reference",
                "--out", out / "m", "--device", "cpu"]  # fmt: skip

    def read(self, folder: Path, out: Path) -> Any:
        cli("margins", *self.words(folder, out))
        return self.found(out / "m")

    def found(self, out: Path) -> Any:
        tables = [pq.read_table(p).to_pylist() for p in sorted((out / "t").glob("*.parquet"))]
        return {r["key"]: [r["max_similarity"], r["margin"]] for table in tables for r in table}

    def truth(self, folder: Path) -> Any:
        pool, tests, reference = (rows_of(folder / n) for n in ("train", "test", "reference"))
        limit = np.array(list(best(tests, reference).values()))
        columns = np.array(list(tests.values())).T
        every = {key: row @ columns for key, row in pool.items()}
        return {key: [float(s.max()), float((s - limit).max())] for key, s in every.items()}

    def agrees(self, found: Any, wanted: Any) -> bool:
        return close(found, wanted)


class Again(Margins):
    """The same command over outputs that were damaged in between: right again, or refused."""

    name = "resume.margins"

    def build(self, folder: Path) -> None:
        sides(folder)
        cli("margins", *self.words(folder, folder))
        # What the run names by a path that is another one for every mutant.
        (folder / "home").write_text(str(folder))

    def targets(self, folder: Path) -> list[Path]:
        return sorted(p for p in (folder / "m").rglob("*") if p.is_file())

    def read(self, folder: Path, out: Path) -> Any:
        with contextlib.chdir(folder):
            self.settle(folder)
            cli("margins", *self.words(folder, folder))
        return self.left(folder)

    def left(self, folder: Path) -> Any:
        """The values that lie there; that they cannot be read is a value, too, and a wrong one."""
        try:
            return self.found(folder / "m")
        except Exception as error:
            return {"unreadable": str(error)}

    def settle(self, folder: Path) -> None:
        """The paths of the run become this folder's."""
        home = (folder / "home").read_text()
        for path in (folder / "m").rglob("*.json"):
            if path.is_file() and path.name == "run.json":
                data = path.read_bytes()
                path.write_bytes(data.replace(home.encode(), str(folder).encode()))


class Verify(Again):
    """`clipshift verify` passes only what has the values of the inputs."""

    name = "verify.margins"

    def read(self, folder: Path, out: Path) -> Any:
        with contextlib.chdir(folder):
            self.settle(folder)
            cli("verify", folder / "m")
        return {"passed": True, "values": self.left(folder)}

    def truth(self, folder: Path) -> Any:
        return {"passed": True, "values": super().truth(folder)}

    def agrees(self, found: Any, wanted: Any) -> bool:
        return bool(found["passed"]) and close(found["values"], wanted["values"])


class Audit(Reader):
    """`clipshift audit` of embeddings: each test image's nearest training image."""

    name = "audit.embeddings"

    def build(self, folder: Path) -> None:
        sides(folder)

    def read(self, folder: Path, out: Path) -> Any:
        cli("audit", "--train", folder / "train", "--test", folder / "test", "--reference",
            folder / "reference", "--out", out / "a", "--thresholds", 0.5, 0.9,
            "--device", "cpu", "--memory", 1, "--sample", 2, "--items", 2)  # fmt: skip
        table = pq.read_table(out / "a/nearest.parquet").to_pylist()
        return {r["test_key"]: r["similarity"] for r in table if r["rank"] == 1}

    def truth(self, folder: Path) -> Any:
        pool, tests, reference = (rows_of(folder / n) for n in ("train", "test", "reference"))
        if {len(v) for rows in (pool, tests, reference) for v in rows.values()} != {8}:
            raise MustRefuse("dimensions differ")
        return best(tests, pool)

    def agrees(self, found: Any, wanted: Any) -> bool:
        return close(found, wanted, 1e-3)  # float32 is rounded to float16 first


class AuditImages(Reader):
    """Images beside embeddings: for the page only; what is none must not stop it."""

    name = "audit.images"

    def build(self, folder: Path) -> None:
        names = [f"{i}.jpg" for i in range(6)]
        rows = np.eye(6, 8, dtype=np.float16)
        embedded(folder / "train", {"0": rows}, names)
        embedded(folder / "test", {"0": rows[::-1].copy()}, names)
        (folder / "images").mkdir()
        for i, name in enumerate(names):
            (folder / "images" / name).write_bytes(photo(i))

    def targets(self, folder: Path) -> list[Path]:
        return sorted((folder / "images").iterdir())

    def read(self, folder: Path, out: Path) -> Any:
        images = folder / "images"
        cli("audit", "--train", folder / "train", "--train-images", images, "--test",
            folder / "test", "--test-images", images, "--out", out / "a", "--device", "cpu",
            "--memory", 1)  # fmt: skip
        table = pq.read_table(out / "a/nearest.parquet").to_pylist()
        assert (out / "a/index.html").stat().st_size
        return {r["test_key"]: r["similarity"] for r in table if r["rank"] == 1}

    def truth(self, folder: Path) -> Any:
        return {f"{i}.jpg": 1.0 for i in range(6)}

    def agrees(self, found: Any, wanted: Any) -> bool:
        return close(found, wanted, 1e-3)
