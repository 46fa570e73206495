"""What the trainings of a split read: the pool's tars, or those that a group of splits shares.

Pure string work, as in `layout`.
"""

from typing import Any

from clipshift.core.brace_ranges import compact
from clipshift.study.layout.study import Layout


class Reading:
    """Words and files of the images that trainings read."""

    def __init__(self, at: Layout):
        self.at, self.cfg = at, at.cfg

    def resharded(self, split: str) -> str | None:
        """The folder of the tars that a split's trainings read instead of the pool."""
        group = self.cfg.group_of(split)
        return f"results/reshard/{group}" if group else None

    def splits(self, name: str) -> list[str]:
        return [f"results/splits/{split}.parquet" for split in self.cfg.reshard[name].splits]

    def tars(self, split: str) -> list[str]:
        """Words of the pool's images that the trainings of a split read."""
        folder = self.resharded(split)
        return [f"{folder}/manifest.json"] if folder else self.at.pool_tars()

    def tables(self, split: str) -> list[str]:
        """The tables of what `tars` names."""
        folder = self.resharded(split)
        shards = self.at.shards(self.cfg.pool)
        return [f"{folder}/{s}.parquet" for s in shards] if folder else self.at.pool_tables()

    def training_tars(self, split: str, model: str) -> list[str]:
        """Words of what a training reads; its captions are made on the way where it filters."""
        outside = self.filters(model) and self.cfg.reference in self.cfg.folders
        captioned = f"results/sets/{self.cfg.reference}/captioned.tar"
        reference = self.at.tars(self.cfg.reference) if outside else captioned
        return self.tars(split) + ([reference] if self.cfg.splits[split].reference else [])

    def training_words(self, split: str, model: str) -> list[str]:
        """The same for the step: a pool that is filtered is one word, the first."""
        tars = self.training_tars(split, model)
        return compact(tars) if self.filters(model) else tars

    def filters(self, model: str) -> bool:
        """Whether a model reads the pool's own tars through a filter."""
        return self.cfg.models[model].read == "filter"

    def filter_files(self, split: str, model: str) -> list[str]:
        """What such a filter is prepared from."""
        names = [f"results/sets/{self.cfg.reference}/classnames.txt"]
        return self.tables(split) + names if self.filters(model) else []

    def filtered(self, split: str, model: str) -> dict[str, Any] | None:
        """The same for the step (see `clipshift.training.clip.Filtered`)."""
        if not self.filters(model):
            return None
        return {
            "tables": compact(self.tables(split)),
            "classnames": f"results/sets/{self.cfg.reference}/classnames.txt",
            "template": self.cfg.reference_caption,
        }
