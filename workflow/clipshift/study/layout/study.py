"""Where every file of a study lies: the paths that rules share, as functions of the configuration.

Pure string work, imported while the Snakefile is parsed; `made` alone looks at the disk.
"""

from collections.abc import Iterable
from functools import cached_property
from typing import Any

from clipshift.core.brace_ranges import compact
from clipshift.study.config.folders import (
    EXTERNAL,
    CaptionedPool,
    ConvertedPool,
    FolderPool,
    FolderSet,
    Tars,
    takes,
)
from clipshift.study.config.study import Config
from clipshift.study.layout.made import Made
from clipshift.study.wildcards import pattern


class Layout:
    """Paths of one study. A *data set* is a pool or a labelled set."""

    def __init__(self, cfg: Config, made: Made | None = None):
        self.cfg = cfg
        self.made = made or Made()
        self.pool = cfg.pool
        self.reference = cfg.reference

    # Data sets -----------------------------------------------------------------------------------

    def shards(self, dataset: str) -> list[str]:
        """Names of a data set's shards."""
        count = self.cfg.pools[dataset].shards if dataset in self.cfg.pools else 1
        return [f"{i:05d}" for i in range(count)]

    def tars(self, dataset: str, shard: str = "00000") -> str:
        """The images of a shard, as a word (see `clipshift.datasets.tar_paths`)."""
        block = self.cfg.pools.get(dataset) or self.cfg.sets[dataset]
        if isinstance(block, Tars):
            return block.word(*block.group(int(shard)))
        if isinstance(block, FolderSet):
            if block.in_place:
                return f"{EXTERNAL}{block.folder}/{block.split}"
            return f"results/sets/{dataset}/{block.written_split}/0.tar"
        if dataset in self.cfg.pools:
            return f"results/pools/{dataset}/{shard}.tar"
        return f"results/sets/{dataset}/{self.cfg.sets[dataset].split}/{int(shard)}.tar"

    def table(self, dataset: str, shard: str = "00000") -> str:
        """The sample table of a shard."""
        if dataset in self.cfg.pools:
            return f"results/pools/{dataset}/{shard}.parquet"
        return f"results/sets/{dataset}/samples.parquet"

    def checked_keys(self, dataset: str, encoder: str, shard: str) -> list[str]:
        """What a shard's embedding waits for: the check that no two downloads share a key."""
        made = self.made(self.embeddings(dataset, encoder, [shard])[0])
        waits = isinstance(self.cfg.pools.get(dataset), FolderPool) and not made
        return [f"results/pools/{dataset}/manifest.json"] if waits else []

    def pool_tars(self) -> list[str]:
        """The images of the whole pool, as words."""
        block = self.cfg.pools[self.pool]
        if isinstance(block, Tars):
            return [block.word(0, block.tars - 1)]
        return [self.tars(self.pool, shard) for shard in self.shards(self.pool)]

    def pool_tables(self) -> list[str]:
        return [self.table(self.pool, shard) for shard in self.shards(self.pool)]

    def set_pattern(self, *roles: str) -> str:
        """Wildcard pattern of the built sets in some roles."""
        sets = self.cfg.sets.items()
        return pattern(n for n, s in sets if s.role in roles and n not in self.cfg.folders)

    def pool_pattern(self) -> str:
        """Wildcard pattern of the built pools."""
        return pattern(name for name, block in self.cfg.pools.items() if takes(block))

    def img2dataset_pattern(self) -> str:
        """Wildcard pattern of the pools that img2dataset wrote."""
        return pattern(n for n, b in self.cfg.pools.items() if isinstance(b, Tars))

    def captioned_pattern(self) -> str:
        """Wildcard pattern of the pools that are made of images and a JSON of captions."""
        return pattern(n for n, b in self.cfg.pools.items() if isinstance(b, CaptionedPool))

    def converted_pools(self) -> str:
        """Wildcard pattern of the folder pools whose images are copied into shards."""
        return pattern(n for n, b in self.cfg.pools.items() if isinstance(b, ConvertedPool))

    def folder_sets(self, in_place: bool, *roles: str) -> str:
        """Wildcard pattern of the sets in some roles that are folders, read in place or copied."""
        sets = [(n, s) for n, s in self.cfg.sets.items() if isinstance(s, FolderSet)]
        return pattern(n for n, s in sets if s.in_place == in_place and s.role in roles)

    def model_pattern(self, by_epoch: bool = False) -> str:
        """Wildcard pattern of the models that differ in nothing but their split, with `epoch_sets`
        or without."""
        return pattern(n for n, m in self.cfg.models.items() if bool(m.by_epoch[1]) == by_epoch)

    def inventory(self, dataset: str) -> str:
        """The record of a folder of the user's; it stands for the folder among a rule's inputs."""
        return f"results/external/{dataset}.json"

    def inventories(self, words: Iterable[str]) -> list[str]:
        """The records of the user's folders that some paths lie in."""
        outside = [f"{word}/" for word in words if word.startswith(EXTERNAL)]
        return [
            self.inventory(name)
            for name in self.cfg.folders
            if any(word.startswith(self.folder_word(name)) for word in outside)
        ]

    def folder_passes(self) -> list[list[str]]:
        """Folders that one job looks for at once, none of which was looked for yet.

        Those of study B alone are apart, so that no other study waits for them.
        """
        lacking = [n for n in self.cfg.folders if not self.made(self.inventory(n))]
        alone = self.cfg.domain_folders
        groups = [n for n in lacking if n not in alone], [n for n in lacking if n in alone]
        return [group for group in groups if len(group) > 1]

    def folder_word(self, dataset: str) -> str:
        """How every path of a folder begins."""
        return f"{EXTERNAL}{self.cfg.folders[dataset].folder}/"

    # Sources -------------------------------------------------------------------------------------

    def sources(self, dataset: str) -> list[str]:
        """Names of a data set's sources."""
        block = self.cfg.pools.get(dataset) or self.cfg.sets[dataset]
        return sorted({take.source for take in takes(block)})

    def source_files(self, dataset: str) -> list[str]:
        return [
            f"results/sources/{source}/samples.{suffix}"
            for source in self.sources(dataset)
            for suffix in ("tar", "parquet")
        ]

    def source_folders(self, dataset: str) -> dict[str, str]:
        return {source: f"results/sources/{source}" for source in self.sources(dataset)}

    # Similarity ----------------------------------------------------------------------------------

    def embeddings(self, dataset: str, encoder: str, shards: list[str] | None = None) -> list[str]:
        folder = f"results/embeddings/{encoder}/{dataset}"
        return [
            f"{folder}/{part}_{shard}.{suffix}"
            for shard in shards or self.shards(dataset)
            for part, suffix in (("img_emb/img_emb", "npy"), ("metadata/metadata", "parquet"))
        ]

    def encoder_files(self, encoder: str) -> list[str]:
        """The weights of an encoder that this study trains."""
        trained = self.cfg.encoders[encoder].trained
        if trained is None:
            return []
        return [f"results/models/{trained.run}/{name}" for name in ("record.json", "model.pt")]

    def encoder_pattern(self, folders: bool) -> str:
        """Wildcard pattern of the encoders whose embeddings the user has, or of the others."""
        encoders = self.cfg.encoders.items()
        return pattern(n for n, e in encoders if (e.vectors is not None) == folders)

    def embedding_folder(self, encoder: str, dataset: str) -> str:
        """The folder of the user's embeddings of a data set, as a word."""
        vectors = self.cfg.encoders[encoder].vectors
        assert vectors is not None
        return EXTERNAL + vectors[dataset]

    def clusters(self, pool: str, encoder: str) -> list[str]:
        """Clusters of a pool's shards; none where all pairs are compared."""
        if self.cfg.dedup.clusters == 1:
            return []
        return [f"results/dedup/{pool}/{encoder}/clusters/{s}.npy" for s in self.shards(pool)]

    def duplicates(self, part: str = "dropped") -> list[str]:
        """Tables of the de-duplication (scores, pairs or dropped), one per group of clusters."""
        folder = f"results/dedup/{self.pool}/{self.cfg.encoder}/{part}"
        return [f"{folder}/{group:05d}.parquet" for group in range(self.cfg.dedup.jobs)]

    def dedup_record(self) -> list[str]:
        """Record and sweep of the de-duplication; none where nothing is dropped."""
        folder = f"results/dedup/{self.pool}/{self.cfg.encoder}"
        deduplicates = self.cfg.dedup.rule != "none"
        return [f"{folder}/{name}" for name in ("record.json", "sweep.csv") if deduplicates]

    def embedded(self) -> list[str]:
        """Which points have an embedding, and are no duplicates: what splits choose from."""
        if self.cfg.dedup.rule != "none":
            return self.duplicates()
        if not self.cfg.dedup.embed:
            return self.pool_tables()
        return [f for f in self.embeddings(self.pool, self.cfg.encoder) if "/metadata/" in f]

    def thresholds(self, testset: str, encoder: str | None = None) -> str:
        folder = f"results/thresholds/{encoder or self.cfg.encoder}"
        return f"{folder}/{self.reference}/{testset}.parquet"

    def margin_files(self, testsets: Iterable[str], piece: str) -> dict[str, dict[str, str]]:
        """Per test set what a margins step reads and writes: embeddings, thresholds, margins."""
        encoder = piece.split("/", maxsplit=1)[0]
        return {
            t: {
                "embeddings": f"results/embeddings/{encoder}/{t}",
                "thresholds": self.thresholds(t, encoder),
                "margins": self.piece(t, piece),
            }
            for t in testsets
        }

    def piece(self, testset: str, piece: str) -> str:
        """The margins of a shard, `encoder/dataset/shard`, to a test set."""
        return f"results/margins/{testset}/{piece}.parquet"

    def of_piece(self, piece: str) -> tuple[str, str, list[str]]:
        """Data set, encoder and shard of a piece."""
        encoder, dataset, shard = piece.split("/")
        return dataset, encoder, [shard]

    def margin_passes(self) -> list[tuple[list[str], list[str]]]:
        """What one job makes at once: (test sets, pieces), none of which is made yet.

        Sets that were there before have files of their own already, and are left alone. Only what
        splits and figures of the study read.
        """
        read: dict[tuple[str, str], list[str]] = {}
        study_encoder = self.cfg.encoder
        for split in self.cfg.splits:
            read.setdefault((study_encoder, self.pool), []).extend(self.driving_sets(split))
            read.setdefault((study_encoder, self.reference), []).extend(
                self.reference_driving_sets(split)
            )
        for _, _, figure in self.cfg.figures.blocks():
            for encoder, sets in figure.margins(self):
                read.setdefault((encoder, self.pool), []).extend(sets)
        groups: dict[tuple[str, ...], list[str]] = {}
        for (encoder, dataset), sets in read.items():
            for shard in self.shards(dataset):
                piece = f"{encoder}/{dataset}/{shard}"
                wanted = [s for s in self.cfg.test_sets if s in sets]
                lacking = [s for s in wanted if not self.made(self.piece(s, piece))]
                groups.setdefault(tuple(lacking), []).append(piece)
        return [(list(sets), pieces) for sets, pieces in groups.items() if len(sets) > 1]

    def margins(
        self, testset: str, dataset: str | None = None, encoder: str | None = None
    ) -> list[str]:
        """The margins of the pool's (or another data set's) shards."""
        dataset = dataset or self.pool
        place = f"{encoder or self.cfg.encoder}/{dataset}"
        return [self.piece(testset, f"{place}/{shard}") for shard in self.shards(dataset)]

    def neighbours(self, base: str, testset: str, encoder: str | None = None) -> str:
        """Nearest points of each test image in a base: a data set, or a split's pool."""
        return f"results/neighbours/{encoder or self.cfg.encoder}/{base}/{testset}.parquet"

    def density(self, base: str, testset: str, encoder: str | None = None) -> str:
        """Counts of a base's points above a grid of similarities to each test image."""
        return self.neighbours(base, testset, encoder).replace(".parquet", ".density.parquet")

    def base_shards(self, base: str) -> tuple[str, list[str]]:
        """The data set that a base of neighbours is part of, and its shards."""
        dataset = self.pool if base in self.cfg.splits else base
        return dataset, self.shards(dataset)

    def base_split(self, base: str) -> list[str]:
        return [f"results/splits/{base}.parquet"] if base in self.cfg.splits else []

    # Splits and models ---------------------------------------------------------------------------

    def recipe(self, split: str) -> dict[str, Any]:
        """What makes the split; what is trained on it is left out, for it changes no row of it."""
        return dict(self.cfg.splits[split].model_dump(mode="json", exclude={"seeds", "model"}))

    def driving_sets(self, split: str) -> list[str]:
        """Test sets whose similarities a split's recipe reads."""
        return self.cfg.splits[split].driving_sets()

    def reference_driving_sets(self, split: str) -> list[str]:
        """The same for the reference set, where the recipe prunes it."""
        return self.cfg.splits[split].reference_driving_sets()

    def split_margins(self, split: str) -> list[str]:
        pool = [f for name in self.driving_sets(split) for f in self.margins(name)]
        pruned = self.reference_driving_sets(split)
        return pool + [f for name in pruned for f in self.margins(name, self.reference)]

    def split_thresholds(self, split: str) -> dict[str, str]:
        names = {*self.driving_sets(split), *self.reference_driving_sets(split)}
        return {name: self.thresholds(name) for name in sorted(names)}

    def margin_ranges(
        self, testsets: Iterable[str], dataset: str | None = None
    ) -> dict[str, list[str]]:
        """Per test set the margins of the pool's (or another data set's) shards, as ranges."""
        return {name: compact(self.margins(name, dataset)) for name in testsets}

    def like(self, split: str) -> list[str]:
        """Counts of the split that this one is to be as large as, if any."""
        like = self.cfg.splits[split].like
        return [f"results/splits/{like}.json"] if like else []

    def reference_tables(self, split: str) -> list[str]:
        return [self.table(self.reference)] if self.cfg.splits[split].reference else []

    def guard(self, split: str) -> str:
        """The list of test images among a split's samples."""
        return f"results/guard/{split}.parquet"

    def listed(self, split: str) -> bool:
        """Whether a split had its list, or a model that was trained by one that is lost."""
        runs = self.runs(split)
        for r in self.cfg.causes.runs:
            runs += [f"{r.split}-{r.model}-s{seed}" for seed in r.seeds if r.split == split]
        models = (f"results/models/{run}/model.pt" for run in runs)
        return self.made(self.guard(split)) or any(map(self.made, models))

    def guarded(self, split: str) -> list[str]:
        """Test sets that the list of a split knows; a set that came after it is none of them."""
        listed = self.listed(split)
        return [s for s in self.cfg.test_sets if not listed or self.made(self.table(s))]

    def guard_waits_for(self, split: str) -> list[str]:
        """Tables that a first list waits for; a later one takes them as they are.

        Not `ancient`: Snakemake overlooks changed parameters of all that lies behind a job that
        runs, even where the link is an ancient one.
        """
        return [] if self.listed(split) else [self.table(s) for s in self.cfg.test_sets]

    def split_tars(self, split: str) -> list[str]:
        """Images that a split chooses among."""
        chosen = self.cfg.splits[split].chooses_reference
        return self.pool_tars() + ([self.tars(self.reference)] if chosen else [])

    def runs(self, split: str, model: str | None = None) -> list[str]:
        """The runs of a split with a model (default: its own), one per seed."""
        name = model or self.cfg.model_of(split)
        return [f"{split}-{name}-s{seed}" for seed in self.cfg.seeds_of(split)]

    @cached_property
    def _clean_sets(self) -> dict[str, list[str]]:
        sets: dict[str, list[str]] = {}
        clean = self.cfg.domains.clean if self.cfg.domains else {}
        for _, _, figure in self.cfg.figures.blocks():
            for split, names in figure.on_clean().items():
                labelled_sets = [clean[name].set for name in names if name in clean]
                sets[split] = list(dict.fromkeys([*sets.get(split, []), *labelled_sets]))
        return sets

    def clean_sets(self, split: str) -> list[str]:
        """Labelled sets whose clean versions study B's figures show a split on."""
        return self._clean_sets.get(split, [])

    def evaluations(self, names: Iterable[str]) -> list[str]:
        """What is reported of conditions and evaluations."""
        return [f"results/eval/{name}.json" for name in names]
