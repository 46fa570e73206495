"""What the report shows, and the files that it reads. Pure string work, as in `layout`."""

from typing import Any

from clipshift.study.config.folders import Outside
from clipshift.study.config.study import Config
from clipshift.study.layout.figures import FigureBlock
from clipshift.study.layout.study import Layout


def controlled_tables(cfg: Config) -> list[str]:
    """Tables that a study has because of its controlled trainings."""
    names = ["runs", "models", "corpora"] * bool(cfg.causes.runs)
    names += ["labels"] * (cfg.causes.found is not None)
    return [f"causes_{name}" for name in names]


def compared_sets(at: Layout) -> list[str]:
    """Sets that the pool is compared with: all but those of study B alone."""
    return [name for name, s in at.cfg.sets.items() if s.role != "domain"]


def sampled(at: Layout) -> list[str]:
    """Splits of which the report shows images: none where the pool is too large to search."""
    outside = isinstance(at.cfg.pools[at.pool], Outside)
    return [] if outside else list(at.cfg.splits)


def shown(block: FigureBlock, name: str) -> dict[str, Any]:
    """What the report has to know of a figure."""
    attributes = {key: getattr(block, key) for key in ("kind", "section", "caption")}
    return attributes | {"name": name, "image": block.image(name), "tables": block.tables(name)}


def report_contents(at: Layout, files: list[str]) -> dict[str, Any]:
    """What the report shows, by name; the step knows where each thing lies."""
    cfg = at.cfg
    sets = compared_sets(at)
    return {
        "study": cfg.study,
        "configuration": files,
        "sources": list(cfg.sources),
        "datasets": {name: at.sources(name) for name in [*cfg.pools, *sets]},
        "pools": {name: at.shards(name) for name in cfg.pools},
        "sets": sets,
        "pool": cfg.pool,
        "reference": cfg.reference,
        "encoder": cfg.encoder,
        "sampled": sampled(at),
        "splits": {name: bool(split.reference) for name, split in cfg.splits.items()},
        "runs": [run for split in cfg.trained for run in at.runs(split)],
        "figures": [shown(block, name) for _, name, block in cfg.figures.blocks()],
        "embedded": cfg.dedup.embed,
        "deduplicated": cfg.dedup.rule != "none",
        "controlled": controlled_tables(cfg),
        "contrasts": bool(cfg.figures.contrasts),
    }


def report_inputs(at: Layout) -> list[str]:
    cfg = at.cfg
    tables = ["accuracy"] * bool(cfg.trained) + ["contrasts"] * bool(cfg.figures.contrasts)
    embedded = f"results/embeddings/{cfg.encoder}"
    return [
        *(f"results/sources/{s}/manifest.json" for s in cfg.sources),
        *(f"results/pools/{p}/manifest.json" for p in cfg.pools),
        *(f"results/sets/{s}/manifest.json" for s in compared_sets(at)),
        *(
            f"{embedded}/{d}/account/account_{shard}.json"
            for d in [cfg.pool, *compared_sets(at)] * cfg.dedup.embed
            for shard in at.shards(d)
        ),
        *at.dedup_record(),
        *(f"results/splits/{s}.json" for s in cfg.splits),
        *(f"results/models/{run}/record.json" for s in cfg.trained for run in at.runs(s)),
        *(f"results/tables/{t}.csv" for t in tables),
        *(f"results/tables/{t}.csv" for t in controlled_tables(cfg)),
        *(f for _, n, block in cfg.figures.blocks() for f in [*block.image(n), *block.tables(n)]),
        *(f"results/figures/samples/source_{s}.jpg" for s in cfg.sources),
        *(f"results/figures/samples/split_{s}.jpg" for s in sampled(at)),
    ]
