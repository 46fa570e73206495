"""Where the files of study B lie, and the command-line words that its rules share.

As in `layout`, `made` alone looks at the disk; empty where the configuration has no block
`domains`.
"""

from typing import Any

from clipshift.core.brace_ranges import compact
from clipshift.study.config.domains import Clean
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
    def clean_sets(self) -> dict[str, Clean]:
        return dict(self.block.clean) if self.block else {}

    @property
    def evaluated(self) -> list[str]:
        """The labelled sets that have a clean version, each once."""
        return list(dict.fromkeys(clean.set for clean in self.clean_sets.values()))

    @property
    def labelled(self) -> list[str]:
        """The data sets that the classifiers learn from."""
        return list(self.block.labels.datasets) if self.block else []

    @property
    def datasets(self) -> list[str]:
        """Every data set that is scored, each once."""
        if self.block is None:
            return []
        names = [self.cfg.pool, self.cfg.reference, *self.cfg.test_sets, *self.labelled]
        return list(dict.fromkeys([*names, *self.evaluated, *self.block.datasets]))

    @property
    def measured(self) -> list[str]:
        """Test sets whose labels, if any, are only measured on.

        They are an axis: no rule before the verdicts on them may have a parameter, or an input that
        triggers, that names more of them than its own.
        """
        return [n for n in self.datasets if n not in [*self.cfg.pools, *self.labelled]]

    def classifiers(self, tuned: bool) -> str:
        """Wildcard pattern of the classifiers that read pictures (`tuned`), or embeddings."""
        every = self.block.classifiers.items() if self.block else ()
        return pattern(name for name, c in every if (c.kind == "finetune") == tuned)

    def classifier(self, name: str) -> dict[str, Any]:
        """A classifier's block, with the block of its encoder."""
        assert self.block is not None
        classifier = self.block.classifiers[name]
        encoder = self.cfg.encoders[classifier.encoder].model_dump(mode="json")
        if "folders" in encoder:  # of the data sets that it learns from
            folders = encoder["folders"].items()
            encoder["folders"] = {d: folder for d, folder in folders if d in self.labelled}
        return {
            "classifier": classifier.model_dump(mode="json"),
            "encoder": encoder,
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

    def label_files(self) -> list[str]:
        """The table of people's labels, where it is a file of the project: newer ones count."""
        file = self.block.labels.file if self.block else None
        return [file] if file and not file.startswith(EXTERNAL) else []

    def labels(self, dataset: str) -> str:
        return f"{self.home}/labels/{dataset}.parquet"

    def model(self, classifier: str) -> str:
        return f"{self.home}/classifiers/{classifier}/model.npz"

    def record(self, classifier: str) -> str:
        return f"{self.home}/classifiers/{classifier}/record.json"

    def parts(self, classifier: str) -> str:
        """What a classifier used each labelled picture for."""
        return f"{self.home}/classifiers/{classifier}/parts.parquet"

    def scores(self, classifier: str, dataset: str) -> list[str]:
        folder = f"{self.home}/scores/{classifier}/{dataset}"
        return [f"{folder}/{shard}.parquet" for shard in self.at.shards(dataset)]

    def learned_scores(self, classifier: str) -> list[str]:
        """Scores of all data sets that the classifiers learn from."""
        return [file for d in self.labelled for file in self.scores(classifier, d)]

    def point(self, classifier: str) -> str:
        return f"{self.home}/points/{classifier}.json"

    def verdicts(self, dataset: str) -> list[str]:
        folder = f"{self.home}/verdicts/{dataset}"
        return [f"{folder}/{shard}.parquet" for shard in self.at.shards(dataset)]

    def clean(self, name: str) -> str:
        return f"{self.home}/clean/{name}.parquet"

    # Inputs and words of rules --------------------------------------------------------------------

    def fit_inputs(self, classifier: str) -> list[str]:
        """Embeddings or pictures of the labelled data sets, and the encoder's weights."""
        assert self.block is not None
        spec = self.block.classifiers[classifier]
        weights = self.at.encoder_files(spec.encoder)
        if spec.kind == "finetune":
            return [*weights, *self.pictures()]
        vectors = (self.at.embeddings(d, spec.encoder) for d in self.labelled)
        return [*weights, *(file for files in vectors for file in files)]

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

    def pictures(self) -> list[str]:
        """Words of the tars of the labelled data sets."""
        return [w for d in self.labelled for w in self.dataset_tars(d)]

    def dataset_tars(self, dataset: str) -> list[str]:
        return list(dict.fromkeys(self.at.tars(dataset, s) for s in self.at.shards(dataset)))

    def fit_words(self, classifier: str) -> str:
        """The command line's words for what a classifier learns from."""
        assert self.block is not None
        spec = self.block.classifiers[classifier]
        words = [f"--labels {d}={self.labels(d)}" for d in self.labelled]
        if spec.kind != "finetune":
            folder = f"results/embeddings/{spec.encoder}"
            words += [f"--vectors {folder}/{d}" for d in self.labelled]
        return " ".join(words)

    def detector_scores(self, dataset: str, shard: str) -> list[str]:
        place = self.at.shards(dataset).index(shard)
        return [self.scores(classifier, dataset)[place] for classifier in self.used]

    def verdict_words(self, dataset: str, shard: str) -> str:
        """The command line's words for the two detectors."""
        place = self.at.shards(dataset).index(shard)
        return " ".join(
            f"--{domain} {self.point(c)},{self.scores(c, dataset)[place]}"
            for domain, c in self.detectors.items()
        )

    def composition_words(self) -> str:
        words = [f"--dataset '{d}={','.join(compact(self.verdicts(d)))}'" for d in self.datasets]
        words += [f"--learned {d}={self.labels(d)}" for d in self.labelled]
        words += [f"--measured {d}={self.labels(d)}" for d in self.measured]
        words.append(f"--parts {' '.join(self.parts(c) for c in self.used)}")
        return " ".join(words)

    def composition_inputs(self) -> list[str]:
        verdicts = [f for d in self.datasets for f in self.verdicts(d)]
        labels = [self.labels(d) for d in [*self.labelled, *self.measured]]
        return [*verdicts, *labels, *(self.parts(c) for c in self.used)]

    def split_verdicts(self, split: str) -> list[str]:
        """Verdicts on the points that a split by domain chooses among; other splits read none."""
        recipe = self.cfg.splits[split]
        datasets = [self.cfg.pool, *[self.cfg.reference] * bool(recipe.reference)]
        return [f for d in datasets * (recipe.recipe == "domains") for f in self.verdicts(d)]
