"""A small study of domains on disk, by the real functions; its files can be cut and shuffled."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter

from clipshift.classifiers import (
    classifier,
    composition,
    decisions,
    domain_labels,
    fit,
    score,
    thresholds,
)
from clipshift.core.files import read_parquet
from clipshift.datasets.shards import write_table
from clipshift.similarity.embeddings import write_shard
from clipshift.splits import split
from clipshift.splits.recipes import Margins
from clipshift.study.config.classifier_base import DOMAINS
from clipshift.study.config.domains import Classifier, Labels, Parts
from tests.conftest import row, unit

PARTS = Parts(validation=0.3, test=0.3)
LABELS = Labels(
    datasets=["pool", "photos"],
    table={"photo": "natural", "drawing": "rendition"},
    paths={"ambiguous": ["c/glow"]},
)
ENCODER = {"kind": "efficientnet_lite0"}
# Of each data set: images of each label.
SIZES = {"pool": (60, 240, 30), "photos": (80, 6, 4), "sketch": (4, 50, 2)}
SPREAD = 0.9


@dataclass(frozen=True)
class Case:
    """Folders and files of the study.

    Attributes:
        tables: data set -> its sample tables; embeddings: data set -> its folder.
        shards: data set -> the names of its shards.
    """

    folder: Path
    tables: dict[str, list[Path]]
    embeddings: dict[str, Path]
    shards: dict[str, list[str]]

    def labels(self, name: str) -> Path:
        return self.folder / f"labels/{name}.parquet"

    def scores(self, name: str) -> list[Path]:
        return [self.folder / f"scores/{name}/{shard}.parquet" for shard in self.shards[name]]

    @property
    def parts(self) -> Path:
        return self.folder / "parts.parquet"

    def part_sides(self) -> dict[str, dict[str, thresholds.Side]]:
        """Truth and scores of the parts that thresholds are chosen and measured on."""
        scores = [file for name in LABELS.datasets for file in self.scores(name)]
        parts = ("validation", "test")
        return {part: thresholds.read_sides(self.parts, scores, part) for part in parts}

    def set_sides(self, name: str = "sketch") -> dict[str, thresholds.Side]:
        """The same of a test set."""
        return thresholds.read_sides(self.labels(name), self.scores(name))

    def decisions(self, name: str) -> list[Path]:
        return [self.folder / f"verdicts/{name}/{shard}.parquet" for shard in self.shards[name]]


def make_case(
    folder: Path, seed: int = 0, shards: int = 1, order_seed: int | None = None,
    ambiguous: bool = True,
) -> Case:  # fmt: skip
    """Write sample tables and embeddings; `shards` and `order_seed` change how files are cut only.

    Without `ambiguous` there are images of two labels only.

    Embeddings are noisy copies of three directions. A concept has several images.
    """
    rng = np.random.default_rng(seed)
    means = np.eye(3, 12)
    tables: dict[str, list[Path]] = {}
    folders: dict[str, Path] = {}
    names: dict[str, list[str]] = {}
    for name, sizes in SIZES.items():
        rows, vectors = [], []
        for label, size in enumerate(sizes if ambiguous else sizes[:2]):
            for i in range(size):
                shared = {"concept": f"{DOMAINS[label]}-{i // 3}", "class_name": f"class {i % 4}"}
                domain = "photo" if label == 0 else "drawing"
                category = "c/glow/x" if label == 2 else "c/plain"
                if name == "sketch":
                    shared["concept"] = f"tested {DOMAINS[label]}-{i // 3}"
                rows.append(
                    row(name, f"{DOMAINS[label]}-{i:03d}", category, domain=domain, **shared)
                )
                vectors.append(means[label] + SPREAD / 3 * rng.normal(size=12))
        order = np.arange(len(rows))
        if order_seed is not None:
            order = np.random.default_rng(order_seed).permutation(len(rows))
        folders[name] = folder / f"embeddings/{name}"
        number = shards if name == "pool" else 1
        names[name] = [f"{i:05d}" for i in range(number)]
        tables[name] = []
        half = unit(np.array(vectors))
        for shard, part in zip(names[name], np.array_split(order, number), strict=True):
            tables[name].append(folder / f"tables/{name}/{shard}.parquet")
            write_table(tables[name][-1], [rows[i] for i in part])
            keys = pa.array([rows[i]["key"] for i in part])
            write_shard(folders[name], shard, half[part], pa.table({"image_path": keys}))
    return Case(folder, tables, folders, names)


def run_case(case: Case, kind: str = "linear", precision: float = 0.95, **keys: object) -> None:
    """From sample tables to decisions and composition, by the functions of the steps."""
    for name, files in case.tables.items():
        out = case.labels(name)
        domain_labels.write_labels(files, LABELS, out, out.with_suffix(".json"))
    own = TypeAdapter(Classifier).validate_python({"kind": kind, "encoder": "e"} | keys)
    spec = classifier.Spec(classifier=own, encoder=ENCODER, parts=PARTS)  # type: ignore[arg-type]
    learned = {name: case.labels(name) for name in LABELS.datasets}
    folders = [case.embeddings[name] for name in LABELS.datasets]
    model, record = case.folder / "model.npz", case.folder / "record.json"
    labels, tested = list(learned.values()), case.tables["sketch"]
    fit.write_fit(spec, labels, LABELS, tested, folders, [], model, record, case.parts)
    for name, shards in case.shards.items():
        for shard, out in zip(shards, case.scores(name), strict=True):
            files = (out, out.with_suffix(".json"))
            score.write_vector_scores(spec, model, record, case.embeddings[name], shard, *files)
    point = case.folder / "points.json"
    scores = [file for name in LABELS.datasets for file in case.scores(name)]
    thresholds.write_points(case.parts, scores, precision, None, point)
    for name in case.shards:
        for file, out in zip(case.scores(name), case.decisions(name), strict=True):
            sides = dict.fromkeys(("natural", "rendition"), (point, file))
            decisions.write_decisions(sides, out, out.with_suffix(".json"))
    every = {name: case.decisions(name) for name in case.shards}
    out, measured = case.folder / "composition.json", {"sketch": case.labels("sketch")}
    composition.write_composition(every, learned, measured, [case.parts], 200, 0, out)


def make_mix(case: Case, out: Path, reference: bool = True, **keys: object) -> list[dict]:  # type: ignore[type-arg]
    """Rows of a split by domain; the pool is not de-duplicated."""
    from clipshift.splits.recipes.domains import Mix

    recipe = Mix.model_validate({"recipe": "domains", "reference": reference} | keys)
    embedded = [
        case.embeddings["pool"] / f"metadata/metadata_{shard}.parquet"
        for shard in case.shards["pool"]
    ]
    judged = [*case.decisions("pool"), *(case.decisions("photos") if reference else [])]
    tables = case.tables["photos"] if reference else []
    verdicts_only = Margins({}, {}, judged)
    split.make(
        recipe,
        split.Scores(case.tables["pool"], embedded, verdicts_only, tables, Margins({}, {})),
        out,
    )
    rows: list[dict[str, object]] = read_parquet(out).to_pylist()
    return rows
