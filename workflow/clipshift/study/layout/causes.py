"""Where the files of controlled trainings lie, and what their rules read; pure string work.

A *run* is split x model x seed. Models of `causes.models` are controlled; those of `models` may be
evaluated by further protocols, too.
"""

from typing import Any

from clipshift.core.brace_ranges import compact
from clipshift.study.config import causes
from clipshift.study.config.causes import Fields, Matcher
from clipshift.study.config.data import Package
from clipshift.study.config.folders import CaptionedPool, Tars
from clipshift.study.config.objective_base import Controlled
from clipshift.study.config.study import source_packages
from clipshift.study.config.trainings import Training
from clipshift.study.layout.reading import Reading
from clipshift.study.layout.study import Layout
from clipshift.study.wildcards import pattern

RUN = "results/models/{run}"


class Causes:
    """Paths of the controlled trainings of a study."""

    def __init__(self, at: Layout):
        self.at, self.cfg, self.block = at, at.cfg, at.cfg.causes
        self.reading = Reading(at)

    # Captions and labels -------------------------------------------------------------------------

    def recipe(self, name: str) -> Fields:
        """Which fields of a source or a folder pool are captions; by default none."""
        return self.block.fields.get(name, Fields())

    def packages(self, source: str) -> dict[str, Package]:
        return {n: self.cfg.packages[n] for n in source_packages(self.cfg.sources[source])}

    def fields(self, dataset: str, shard: str) -> list[str]:
        """Tables of the captions of a shard's images; none for a set that is a folder."""
        block = self.cfg.pools.get(dataset)
        if isinstance(block, CaptionedPool | Tars):
            return [f"results/captions/pools/{dataset}/{shard}.parquet"]
        return [f"results/captions/sources/{s}.parquet" for s in self.at.sources(dataset)]

    def classes(self) -> str | list[str]:
        """The classes of the training data, or the file that lists them.

        A class that only a test set's sources know is none of them.
        """
        data = self.cfg.pools[self.cfg.pool], self.cfg.sets[self.cfg.reference]
        paths = self.cfg.class_paths(*data)
        known = [name for name in self.cfg.classes if name in paths] or list(self.cfg.classes)
        return next(iter(self.class_files()), known)

    def class_files(self) -> list[str]:
        """Where classes are those of the reference set: the file that lists them."""
        if self.cfg.classes:
            return []
        return [f"results/sets/{self.cfg.reference}/classnames.txt"]

    def matcher(self, corpus: str) -> Matcher | None:
        """How a corpus finds its labels, if it does."""
        return self.block.matchers.get(self.block.corpora[corpus].labels or "")

    def read_by(self, split: str) -> list[tuple[str, str]]:
        """Shards that a split chooses among: (data set, shard)."""
        pool = [(self.cfg.pool, shard) for shard in self.at.shards(self.cfg.pool)]
        return pool + [(self.cfg.reference, "00000")] * bool(self.cfg.splits[split].reference)

    def corpus_fields(self, corpus: str, dataset: str, shard: str) -> list[str]:
        """Tables of captions that a corpus reads: none where it asks for images alone."""
        block = self.block.corpora[corpus]
        reads = block.fields or block.labels or block.banned
        return self.fields(dataset, shard) if reads else []

    def corpora(self, split: str, corpus: str) -> list[str]:
        folder = f"results/corpora/{corpus}"
        return [f"{folder}/{dataset}/{shard}.parquet" for dataset, shard in self.read_by(split)]

    # Trainings -----------------------------------------------------------------------------------

    def models(self, trainer: str, by_epoch: bool = False) -> str:
        """Wildcard pattern of the controlled models of a trainer, with `epoch_sets` or without."""
        names = [n for n, m in self.block.models.items() if m.trainer == trainer]
        return pattern(n for n in names if bool(self.training(n).by_epoch[1]) == by_epoch)

    def spec(self, model: str) -> Controlled:
        return self.block.models[model]

    def training(self, model: str) -> Training:
        """The settings of any model."""
        if model in self.block.models:
            return causes.training(self.cfg, model)
        return self.cfg.models[model]

    def chosen(self, split: str, model: str) -> str:
        return f"results/chosen/{split}-{self.spec(model).corpus}.parquet"

    def tars(self, split: str) -> list[str]:
        """Words of the images that a split chooses among."""
        return self.at.pool_tars() + self._reference(split)

    def read_tars(self, split: str) -> list[str]:
        """Words of what the trainings of a split read."""
        return self.reading.tars(split) + self._reference(split)

    def _reference(self, split: str) -> list[str]:
        return [self.at.tars(self.cfg.reference)] * bool(self.cfg.splits[split].reference)

    def filter_files(self, split: str, model: str) -> list[str]:
        """Sample tables, where open_clip reads tars through a filter."""
        filters = self.training(model).read == "filter"
        return self.reading.tables(split) if filters else []

    def filtered(self, split: str, model: str) -> dict[str, Any] | None:
        """The same for the step (see `clipshift.training.clip.Filtered`)."""
        files = self.filter_files(split, model)
        return {"tables": compact(files)} if files else None

    def start(self, model: str) -> list[str]:
        """Weights that a model starts from."""
        run = self.spec(model).initial
        return [f"{RUN.format(run=run.run)}/model.pt"] if run else []

    # Tables ------------------------------------------------------------------------------------

    def counts(self) -> list[str]:
        """Counts of the images that the trainings read."""
        files = [
            self.chosen(r.split, r.model).replace(".parquet", ".json")
            for r in self.block.runs
            if r.model in self.block.models
        ]
        return list(dict.fromkeys(files))

    def labelled(self) -> list[tuple[str, str]]:
        """Shards whose captions are looked through for the true label."""
        pool = [(self.cfg.pool, shard) for shard in self.at.shards(self.cfg.pool)]
        built = self.cfg.reference not in self.cfg.folders
        return pool + [(self.cfg.reference, "00000")] * built
