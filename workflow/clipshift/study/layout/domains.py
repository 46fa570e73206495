"""Where the files of study B lie, and what its rules read.

As in `layout`, `made` alone looks at the disk; empty where the configuration has no block
`domains`.
"""

from typing import Any

from clipshift.study.config.domains import Clean, Labels
from clipshift.study.config.folders import EXTERNAL
from clipshift.study.layout.study import Layout
from clipshift.study.wildcards import pattern


class DomainLayout:
    """Paths of study B, all below `results/domains/{name}`."""

    def __init__(self, at: Layout):
        self.at = at
        self.cfg = at.cfg
        self.block = at.cfg.domains
        self.home = f"results/domains/{self.block.name if self.block else 'NONE'}"

    # What there is --------------------------------------------------------------------------------

    @property
    def part(self) -> bool:
        """Whether of the pool only the points of a split are labelled and scored."""
        return bool(self.block and self.block.pool_of)

    @property
    def clean_sets(self) -> dict[str, Clean]:
        return dict(self.block.clean) if self.block else {}

    @property
    def evaluated(self) -> list[str]:
        """The labelled sets that have a clean version, each once."""
        return list(dict.fromkeys(clean.set for clean in self.clean_sets.values()))

    @property
    def labelled(self) -> list[str]:
        """The data sets that the classifiers learn from, each once."""
        return list(dict.fromkeys(self.block.labels.datasets)) if self.block else []

    @property
    def datasets(self) -> list[str]:
        """Every data set that is scored, each once."""
        if self.block is None:
            return []
        names = [self.cfg.pool, self.cfg.reference, *self.cfg.test_sets, *self.labelled]
        return list(
            dict.fromkeys([*names, *self.evaluated, *self.block.benchmarks, *self.block.datasets])
        )

    @property
    def measured(self) -> list[str]:
        """Test sets whose labels, if any, are only measured on.

        They are an axis: no rule before the decisions on them may have a parameter, or an input
        that triggers, that names more of them than its own.
        """
        return [n for n in self.datasets if n not in [*self.cfg.pools, *self.labelled]]

    def classifiers(self, tuned: bool) -> str:
        """Wildcard pattern of the classifiers that read images (`tuned`), or embeddings."""
        names = self.block.classifiers if self.block else ()
        return pattern(name for name in names if self.tuned(name) == tuned)

    def tuned(self, classifier: str) -> bool:
        """Whether a classifier tunes its encoder on images."""
        assert self.block is not None
        return self.block.classifiers[classifier].tunes

    def encoder(self, classifier: str) -> str:
        """The name of a classifier's encoder."""
        assert self.block is not None
        return self.block.classifiers[classifier].encoder

    def classifier(self, name: str) -> dict[str, Any]:
        """A classifier's block, with the block of its encoder."""
        assert self.block is not None
        classifier = self.block.classifiers[name]
        encoder = self.cfg.encoders[classifier.encoder].only(self.labelled)
        return {
            "classifier": classifier.model_dump(mode="json"),
            "encoder": encoder.model_dump(mode="json"),
            "parts": self.block.parts.model_dump(mode="json"),
        }

    @property
    def detectors(self) -> dict[str, str]:
        """Detected domain -> its classifier."""
        return self.block.detectors if self.block else {}

    @property
    def used(self) -> list[str]:
        """The classifiers of the two detectors."""
        return list(dict.fromkeys(self.detectors.values()))

    # Files ----------------------------------------------------------------------------------------

    def tables(self, dataset: str) -> list[str]:
        return list(dict.fromkeys(self.at.table(dataset, s) for s in self.at.shards(dataset)))

    def label_rule(self, dataset: str) -> Labels:
        """By what the images of a data set are labelled."""
        assert self.block is not None
        labels = self.block.labels
        file = self.block.benchmarks.get(dataset)
        return labels if file is None else Labels(datasets=labels.datasets, file=file)

    def label_files(self, dataset: str) -> list[str]:
        """The table of people's labels, where it is a file of the project: newer ones count."""
        file = self.label_rule(dataset).file
        watched = file and not file.startswith(EXTERNAL) and not set("{}") & set(file)
        return [file] if file and watched else []

    def kept(self, dataset: str) -> list[str]:
        """The split of whose points alone a data set is labelled and scored, if there is one."""
        split = self.block.pool_of if self.block and dataset == self.cfg.pool else None
        return [f"results/splits/{split}.parquet"] if split else []

    def labels(self, dataset: str) -> str:
        return f"{self.home}/labels/{dataset}.parquet"

    def model(self, classifier: str) -> str:
        return f"{self.home}/classifiers/{classifier}/model.npz"

    def record(self, classifier: str) -> str:
        return f"{self.home}/classifiers/{classifier}/record.json"

    def parts(self, classifier: str) -> str:
        """What a classifier used each labelled image for."""
        return f"{self.home}/classifiers/{classifier}/parts.parquet"

    def scores(self, classifier: str, dataset: str) -> list[str]:
        folder = f"{self.home}/scores/{classifier}/{dataset}"
        return [f"{folder}/{shard}.parquet" for shard in self.at.shards(dataset)]

    def learned_scores(self, classifier: str) -> list[str]:
        """Scores of all data sets that the classifiers learn from."""
        return [file for d in self.labelled for file in self.scores(classifier, d)]

    def point(self, classifier: str) -> str:
        return f"{self.home}/points/{classifier}.json"

    def decisions(self, dataset: str) -> list[str]:
        folder = f"{self.home}/verdicts/{dataset}"
        return [f"{folder}/{shard}.parquet" for shard in self.at.shards(dataset)]

    def clean(self, name: str) -> str:
        return f"{self.home}/clean/{name}.parquet"

    # What rules read ------------------------------------------------------------------------------

    def fit_inputs(self, classifier: str) -> list[str]:
        """Embeddings or images of the labelled data sets, and the encoder's weights."""
        weights = self.at.encoder_files(self.encoder(classifier))
        if self.tuned(classifier):
            return [*weights, *self.tars(classifier)]
        vectors = (self.at.embeddings(d, self.encoder(classifier)) for d in self.labelled)
        return [*weights, *(file for files in vectors for file in files)]

    def score_inputs(self, classifier: str, dataset: str, shard: str) -> list[str]:
        """Embeddings of a shard; or its images, and the weights of the encoder that is tuned."""
        encoder, kept = self.encoder(classifier), self.kept(dataset)
        kept += [self.at.table(dataset, shard)] * len(kept)
        if self.tuned(classifier):
            return [*self.at.encoder_files(encoder), self.at.tars(dataset, shard), *kept]
        return [*self.at.embeddings(dataset, encoder, [shard]), *kept]

    def kept_out(self, classifier: str) -> list[str]:
        """Tables of the test sets whose concepts a classifier does not learn from.

        A set that came after the classifier was fitted is none of them: it fits nothing anew.
        """
        tables = [self.at.table(d) for d in self.measured]
        return [t for t in tables if not self.fitted(classifier) or self.at.made(t)]

    def fitted(self, classifier: str) -> bool:
        """Whether a classifier was there when the run was planned, or what was made of it."""
        files = (self.model(classifier), self.record(classifier), self.parts(classifier))
        return all(map(self.at.made, files)) or self.at.made(self.point(classifier))

    def waits_for(self, classifier: str) -> list[str]:
        """Those of the tables that a first fit waits for; a later one takes them as they are.

        Not `ancient`: Snakemake overlooks changed parameters of all that lies behind a job that
        runs, even where the link is an ancient one.
        """
        return [] if self.fitted(classifier) else self.kept_out(classifier)

    def tars(self, classifier: str) -> list[str]:
        """Words of the tars that a tuned classifier learns from; others read none."""
        datasets = self.labelled * self.tuned(classifier)
        return [w for d in datasets for w in self.dataset_tars(d)]

    def vectors(self, classifier: str) -> list[str]:
        """Folders of the embeddings that a classifier learns from; a tuned one reads none."""
        datasets = self.labelled * (not self.tuned(classifier))
        return [f"results/embeddings/{self.encoder(classifier)}/{d}" for d in datasets]

    def dataset_tars(self, dataset: str) -> list[str]:
        return list(dict.fromkeys(self.at.tars(dataset, s) for s in self.at.shards(dataset)))

    def detector_scores(self, dataset: str, shard: str) -> list[str]:
        place = self.at.shards(dataset).index(shard)
        return [self.scores(classifier, dataset)[place] for classifier in self.used]

    def detector_files(self, dataset: str, shard: str) -> dict[str, list[str]]:
        """Detected domain -> the operating point of its detector, and the scores of a shard."""
        place = self.at.shards(dataset).index(shard)
        return {
            d: [self.point(c), self.scores(c, dataset)[place]] for d, c in self.detectors.items()
        }

    def composition_inputs(self) -> list[str]:
        decisions = [f for d in self.datasets for f in self.decisions(d)]
        labels = [self.labels(d) for d in [*self.labelled, *self.measured]]
        return [*decisions, *labels, *(self.parts(c) for c in self.used)]

    def split_decisions(self, split: str) -> list[str]:
        """Decisions on the points that a split by domain chooses among; other splits read none."""
        recipe = self.cfg.splits[split]
        datasets = [self.cfg.pool, *[self.cfg.reference] * bool(recipe.reference)]
        return [f for d in datasets * recipe.by_domain for f in self.decisions(d)]
