"""Commands and steps that faults are put into: a small input each, and another valid one."""

import os
import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.audit_case import sides
from tests.conftest import photo, svg, tied_vectors
from tests.folder_case import write_classes, write_pool, write_set
from tests.fuzz.reader import cli
from tests.fuzz.readers.tables import Labels, Released, Results, Urls


class Command(ABC):
    """One command or step.

    Attributes:
        name: of the table's line.
        private: beginnings of outputs that say nothing of the result (caches, notes of time).
        renews: whether a run over the outputs of other inputs makes them anew, or refuses; else the
            caller sees to it (a training names its folder by what it is made from).
    """

    name: ClassVar[str]
    private: ClassVar[tuple[str, ...]] = ()
    renews: ClassVar[bool] = True

    @abstractmethod
    def build(self, folder: Path) -> None:
        """Write the input; the same bytes each time."""

    @abstractmethod
    def alter(self, folder: Path) -> None:
        """Make it another valid input: each file that changes is replaced at once."""

    @abstractmethod
    def run(self, folder: Path, out: Path) -> None:
        """Do it in this process; `out` is an empty folder, or one that was left."""


def replaced(path: Path, write: Any) -> None:
    """Replace a file by what `write(PATH)` writes, at once."""
    part = path.with_name(f".new{path.suffix}")
    write(part)
    part.replace(path)


def other_rows(path: Path) -> None:
    """Another order of the vectors: the keys get other neighbours."""
    vectors = np.load(path)[::-1].copy()
    replaced(path, lambda part: np.save(part, vectors))


class Margins(Command):
    name = "margins"

    def build(self, folder: Path) -> None:
        sides(folder)

    def alter(self, folder: Path) -> None:
        other_rows(folder / "train/img_emb/img_emb_2.npy")
        other_rows(folder / "train/img_emb/img_emb_10.npy")

    def run(self, folder: Path, out: Path) -> None:
        cli("margins", "--pool", folder / "train", "--test", f"t={folder / 'test'}", "--reference",
            folder / "reference", "--out", out / "m", "--device", "cpu", "--k", 2,
            "--grid", 0.5)  # fmt: skip


class MarginsReference(Margins):
    """The same; what changes is the reference."""

    name = "margins-reference"

    def alter(self, folder: Path) -> None:
        vectors = tied_vectors(7, 15, 8)
        path = folder / "reference/img_emb/img_emb_0.npy"
        replaced(path, lambda part: np.save(part, vectors))


class Verify(Margins):
    name = "verify"

    def run(self, folder: Path, out: Path) -> None:
        super().run(folder, out)
        cli("verify", out / "m")


class Audit(Margins):
    name = "audit"
    private = ("a/work", "a/index.html", "a/summary.json")

    def run(self, folder: Path, out: Path) -> None:
        cli("audit", "--train", folder / "train", "--test", folder / "test", "--reference",
            folder / "reference", "--out", out / "a", "--thresholds", 0.5, 0.9,
            "--device", "cpu", "--memory", 1)  # fmt: skip


class Robustness(Command):
    name = "robustness"

    def build(self, folder: Path) -> None:
        Results().build(folder)

    def alter(self, folder: Path) -> None:
        for path in folder.glob("imagenet*.json"):
            text = path.read_text().replace("0.4", "0.3").replace("0.5", "0.4")
            replaced(path, lambda part, text=text: part.write_text(text))

    def run(self, folder: Path, out: Path) -> None:
        cli("robustness", "--results", folder, "--out", out / "r", "--axis", "full")


class Label(Command):
    name = "label"

    def build(self, folder: Path) -> None:
        Labels().build(folder)

    def alter(self, folder: Path) -> None:
        path = folder / "ben.parquet"
        rows = pq.read_table(path).slice(0, 9)
        replaced(path, lambda part: pq.write_table(rows, part))

    def run(self, folder: Path, out: Path) -> None:
        cli("label", "--agreement", folder / "ann.parquet", folder / "ben.parquet",
            "--out", out / "agreement.parquet")  # fmt: skip


class ReleasedLabels(Command):
    name = "released"

    def build(self, folder: Path) -> None:
        Released().build(folder)

    def alter(self, folder: Path) -> None:
        path = folder / "given/natural/part-0.parquet"
        rows = pq.read_table(path).slice(2)
        replaced(path, lambda part: pq.write_table(rows, part))

    def run(self, folder: Path, out: Path) -> None:
        Released().read(folder, out)


class Inspect(Command):
    name = "inspect"

    def build(self, folder: Path) -> None:
        write_classes(folder / "data", 8)

    def alter(self, folder: Path) -> None:
        replaced(folder / "data/a/0.jpg", lambda part: part.write_bytes(photo(50)))

    def run(self, folder: Path, out: Path) -> None:
        cli("inspect", folder / "data", "--page", out / "page.html")


class Init(Inspect):
    name = "init"

    def run(self, folder: Path, out: Path) -> None:
        cli("init", folder / "data", "--out", out / "study.yaml")


class Check(Command):
    name = "check"

    def build(self, folder: Path) -> None:
        from tests.conftest import ROOT

        shutil.copyfile(ROOT / "config/test.yaml", folder / "c.yaml")

    def alter(self, folder: Path) -> None:
        text = (folder / "c.yaml").read_text() + "\n# another line\n"
        replaced(folder / "c.yaml", lambda part: part.write_text(text))

    def run(self, folder: Path, out: Path) -> None:
        cli("check", folder / "c.yaml")


class UrlList(Command):
    name = "step urls"

    def build(self, folder: Path) -> None:
        Urls().build(folder)

    def alter(self, folder: Path) -> None:
        rows = pa.table({"url": ["http://x.org/new.jpg"], "caption": ["new"]})
        replaced(folder / "c.parquet", lambda part: pq.write_table(rows, part))

    def run(self, folder: Path, out: Path) -> None:
        from clipshift.datasets.urls.listing import write_list

        files = [folder / name for name in ("a.csv", "b.tsv", "c.parquet")]
        write_list("p", files, ("url", "caption"), 2, out / "list.parquet")


class FolderPool(Command):
    name = "step pool"

    def build(self, folder: Path) -> None:
        write_pool(folder, {0: 4, 1: 3})

    def alter(self, folder: Path) -> None:
        path = folder / "00001.parquet"
        table = pq.read_table(path)
        table = table.set_column(
            table.column_names.index("caption"), "caption", pa.array(["new"] * len(table))
        )
        replaced(path, lambda part: pq.write_table(table, part))

    def run(self, folder: Path, out: Path) -> None:
        from clipshift.datasets import external_pool

        tars = [folder / f"{i:05d}.tar" for i in range(2)]
        external_pool.write_group("web", tars, out / "00000.parquet")


class FolderSet(Command):
    name = "step set"

    def build(self, folder: Path) -> None:
        write_set(folder / "set", [0, 1, 1, 0])

    def alter(self, folder: Path) -> None:
        path = folder / "set/classnames.txt"
        replaced(path, lambda part: part.write_text("bird\nfish\n"))

    def run(self, folder: Path, out: Path) -> None:
        from clipshift.datasets import external_set
        from clipshift.datasets.tar_paths import DATA_VARIABLE
        from clipshift.study.config.folders import FolderSet as Spec

        os.environ[DATA_VARIABLE] = str(folder)
        spec = Spec(folder="set", classes=2, samples=4, obtain="ask for it")
        external_set.build("t", spec, out)


class Source(Command):
    name = "step source"

    def build(self, folder: Path) -> None:
        self.write(folder / "p.tgz", ("red", "blue", "teal"))

    def write(self, path: Path, colours: tuple[str, ...]) -> None:
        from tests.unit.packages import pack

        files: dict[str, Any] = {f"p/s/{i}.svg": svg(c) for i, c in enumerate(colours)}
        files |= {f"p/s/{i}.txt": f"title {i}" for i in range(3)}
        pack(path, files)

    def alter(self, folder: Path) -> None:
        replaced(folder / "p.tgz", lambda part: self.write(part, ("green", "navy", "pink")))

    def run(self, folder: Path, out: Path) -> None:
        from tests.unit.packages import run_build, source

        spec = source("sidecar", package="p", folder="p", suffix=".svg", caption="{kind}, {title}")
        run_build(spec, {"p": folder / "p.tgz"}, out / "s")


class Copy(Command):
    """The copy of a split that a training reads."""

    name = "step copy"
    renews = False

    def build(self, folder: Path) -> None:
        write_pool(folder, {0: 6, 1: 5}, failed=0)
        self.write(folder / "split.parquet", 2)

    def write(self, path: Path, every: int) -> None:
        keys = [f"{t:05d}{i:04d}" for t, n in ((0, 6), (1, 5)) for i in range(n)]
        kept = [i % every == 0 for i in range(len(keys))]
        pq.write_table(pa.table({"key": keys, "kept": kept}), path)

    def alter(self, folder: Path) -> None:
        replaced(folder / "split.parquet", lambda part: self.write(part, 3))

    def run(self, folder: Path, out: Path) -> None:
        from clipshift.training.local_copy import copy_split

        tars = [folder / f"{i:05d}.tar" for i in range(2)]
        copy_split(folder / "split.parquet", tars, 4, 0, out / "copy")


class Split(Command):
    name = "step split"

    def build(self, folder: Path) -> None:
        from tests.unit.study import make_study

        make_study(folder)

    def alter(self, folder: Path) -> None:
        path = folder / "sketch.limits.parquet"
        table = pq.read_table(path)
        lower = pa.compute.subtract(table["similarity"], 0.5)
        table = table.set_column(table.column_names.index("similarity"), "similarity", lower)
        replaced(path, lambda part: pq.write_table(table, part))

    def run(self, folder: Path, out: Path) -> None:
        from pydantic import TypeAdapter

        from clipshift.splits import split
        from clipshift.splits.recipes import Margins as Files
        from clipshift.study.config.splits import Split as Spec
        from tests.unit.study import KEPT_BY_DEDUP

        spec = TypeAdapter(Spec).validate_python({"recipe": "pruned", "sets": ["sketch"]})
        names = ("sketch", "photo")
        limits = {n: folder / f"{n}.limits.parquet" for n in names}
        scores = split.Scores(
            [folder / f"{i:05d}.parquet" for i in range(3)],
            [folder / f"dropped-{KEPT_BY_DEDUP}.parquet"],
            Files({n: [folder / f"{n}.{i}.parquet" for i in range(3)] for n in names}, limits),
            [folder / "reference.parquet"],
            Files({n: [folder / f"{n}.reference.parquet"] for n in names}, limits),
        )
        split.make(spec, scores, out / "split.parquet")


class Embed(Command):
    name = "step embed"

    def build(self, folder: Path) -> None:
        write_pool(folder, {0: 4}, failed=0)

    def alter(self, folder: Path) -> None:
        def write(part: Path) -> None:
            write_pool(folder / "new", {0: 4}, failed=0, images=[photo(70 + i) for i in range(4)])
            (folder / "new/00000.tar").replace(part)

        replaced(folder / "00000.tar", write)

    def run(self, folder: Path, out: Path) -> None:
        from clipshift.datasets import external_pool
        from clipshift.similarity import embed, encoders

        external_pool.write_group("web", [folder / "00000.tar"], out / "00000.parquet")
        encoder = encoders.load(self.block(), "cpu")
        embed.embed(encoder, [folder / "00000.tar"], out / "00000.parquet", "00000", out / "e")

    @staticmethod
    def block() -> Any:
        from pydantic import TypeAdapter

        from clipshift.study.config.encoders import Encoder

        return TypeAdapter(Encoder).validate_python({"kind": "efficientnet_lite0"})


def _below(base: type[Command]) -> list[type[Command]]:
    return [kind for sub in base.__subclasses__() for kind in (sub, *_below(sub))]


COMMANDS: dict[str, Command] = {kind.name: kind() for kind in _below(Command)}
