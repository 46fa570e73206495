# Controlled trainings (`causes`): captions and labels -> models -> evaluations by several heads.
#   in   sources' packages, sample tables, splits, shards and sets, as the rules before
#   out  results/captions/sources/{source}.parquet, pools/{pool}/{shard}.parquet: title, description, tags
#        results/corpora/{corpus}/{dataset}/{shard}.parquet   caption and labels, or why there is none
#        results/chosen/{split}-{corpus}.parquet              what a training reads, with its account
#        results/models/{split}-{model}-s{seed}/              model.pt, record.json, loss.csv
#        results/eval/{split}-{model}-s{seed}[-{head}].json, joined over seeds {split}-{model}[-{head}].json
#        results/tables/causes_{runs,models,corpora,labels}.csv
from clipshift.core.brace_ranges import compact
from clipshift.study.config.causes import asked


localrules:
    source_captions,


rule source_captions:
    """Title, description and tags of a source's samples; nothing is rendered again."""
    input:
        samples="results/sources/{source}/samples.parquet",
    output:
        "results/captions/sources/{source}.parquet",
    log:
        "results/logs/captions/{source}.log",
    params:
        **call(
            "datasets.captions.fields.source_fields",
            # Not the files of the rule `fetch`: made anew, they would have every image rendered again.
            packages=lambda w: causes.packages(w.source),
            spec=lambda w: cfg.sources[w.source],
            fields=lambda w: causes.recipe(w.source),
        ),
    shell:
        RUN


rule pool_captions:
    """The same of a group of img2dataset's tars, from its own tables."""
    input:
        lambda w: there([at.tars(w.pool, w.shard)], [".parquet"]),
    output:
        "results/captions/pools/{pool}/{shard}.parquet",
    log:
        "results/logs/captions/{pool}.{shard}.log",
    wildcard_constraints:
        pool=at.img2dataset_pattern(),
    resources:
        **needs(2000, 30),
    params:
        **call(
            "datasets.captions.fields.pool_fields",
            tars=lambda w: at.tars(w.pool, w.shard),
            fields=lambda w: causes.recipe(w.pool),
        ),
    shell:
        RUN


rule captioned_pool:
    """One shard of a pool of the user's pictures and a JSON of captions, joined by class and name."""
    input:
        lambda w: ancient(at.inventory(w.pool)),
    output:
        tar="results/pools/{pool}/{shard}.tar",
        table="results/pools/{pool}/{shard}.parquet",
        account="results/pools/{pool}/{shard}.json",
        fields="results/captions/pools/{pool}/{shard}.parquet",
    log:
        "results/logs/pool/{pool}.{shard}.log",
    wildcard_constraints:
        pool=at.captioned_pattern(),
    resources:
        **needs(4000, 240),
    params:
        **call(
            "datasets.captions.join.shard",
            captions=lambda w: cfg.pools[w.pool].captions,
            pictures=lambda w: cfg.pools[w.pool].folder,
            classes=lambda w: cfg.pools[w.pool].classes,
            shards=lambda w: cfg.pools[w.pool].shards,
        ),
    shell:
        RUN


rule captions_report:
    """What of the captions found a picture: counts, by reason and by class."""
    input:
        accounts=lambda w: [
            f"results/pools/{w.pool}/{s}.json" for s in at.shards(w.pool)
        ],
    output:
        "results/captions/{pool}.json",
    log:
        "results/logs/captions/{pool}.report.log",
    wildcard_constraints:
        pool=at.captioned_pattern(),
    resources:
        **needs(1000, 10),
    params:
        **call("datasets.captions.join.report"),
    shell:
        RUN


rule corpus:
    """Caption and labels of the pictures of a shard, as a corpus asks for them."""
    input:
        table=lambda w: at.table(w.dataset, w.shard),
        fields=lambda w: causes.corpus_fields(w.corpus, w.dataset, w.shard),
        classes=causes.class_files(),
    output:
        "results/corpora/{corpus}/{dataset}/{shard}.parquet",
    log:
        "results/logs/corpora/{corpus}.{dataset}.{shard}.log",
    resources:
        **needs(2000, 120),
    params:
        **call(
            "datasets.captions.corpora.corpus",
            corpus=lambda w: cfg.causes.corpora[w.corpus],
            matcher=lambda w: causes.matcher(w.corpus),
            classes=lambda w: causes.classes(),
        ),
    shell:
        RUN


rule chosen:
    """The images of a split that a corpus can use: the same for every model that reads it."""
    input:
        corpora=lambda w: causes.corpora(w.split, w.corpus),
        split="results/splits/{split}.parquet",
        guard="results/guard/{split}.parquet",
    output:
        "results/chosen/{split}-{corpus}.parquet",
        account="results/chosen/{split}-{corpus}.json",
    log:
        "results/logs/chosen/{split}-{corpus}.log",
    resources:
        **needs(64000, 1440),
    params:
        **call(
            "splits.usable.choose",
            corpora=lambda w: compact(causes.corpora(w.split, w.corpus)),
            guard=lambda w: at.guard(w.split) if cfg.guard == "drop" else None,
        ),
    shell:
        RUN


use rule train as train_captions with:
    """Train one controlled CLIP model, or continue its training, with open_clip's program."""
    input:
        lambda w: causes.filter_files(w.model),
        split=lambda w: causes.chosen(w.split, w.model),
        tars=lambda w: there(causes.tars(w.split)),
        start=lambda w: causes.start(w.model),
    wildcard_constraints:
        model=causes.models("clip"),
    params:
        **call(
            "training.clip.train",
            **TRAINING,
            spec=lambda w: causes.spec(w.model),
            tars=lambda w: causes.tars(w.split),
            how=lambda w: causes.filtered(w.model),
        ),


use rule train as train_vision with:
    """Train one vision tower by cross-entropy or SimCLR, or continue its training."""
    input:
        split=lambda w: causes.chosen(w.split, w.model),
        tars=lambda w: there(causes.tars(w.split)),
        start=lambda w: causes.start(w.model),
        classes=causes.class_files(),
    wildcard_constraints:
        model=causes.models("cross_entropy", "simclr"),
    params:
        **call(
            "training.vision.train",
            **TRAINING,
            spec=lambda w: causes.spec(w.model),
            tars=lambda w: causes.tars(w.split),
            classes=lambda w: causes.classes(),
        ),


rule causes_runs:
    """One row a run and head, and one a split, model and head, with n and intervals."""
    input:
        runs=at.evaluations(ev.controlled()),
        joined=at.evaluations(name for name, _ in asked(cfg.causes)),
        accounts=causes.accounts(),
    output:
        of_runs=report("results/tables/causes_runs.csv", category="Accuracy"),
        of_models=report("results/tables/causes_models.csv", category="Accuracy"),
        of_corpora=report("results/tables/causes_corpora.csv", category="Accuracy"),
    log:
        "results/logs/tables/causes.log",
    resources:
        **needs(1000, 10),
    params:
        **call(
            "figures.conditions_table.tables",
            # Their order is that of the rows, so they count.
            runs=at.evaluations(ev.controlled()),
            accounts=causes.accounts(),
            models=cfg.causes.models,
        ),
    shell:
        RUN


rule causes_labels:
    """In which fields of a caption the true class is named."""
    input:
        tables=[at.table(d, s) for d, s in causes.labelled()],
        fields=list(
            dict.fromkeys(f for d, s in causes.labelled() for f in causes.fields(d, s))
        ),
        classes=causes.class_files(),
    output:
        report("results/tables/causes_labels.csv", category="Accuracy"),
    log:
        "results/logs/tables/causes_labels.log",
    resources:
        **needs(2000, 120),
    params:
        **call(
            "datasets.captions.label_statistics.table",
            found=lambda w: cfg.causes.matchers[cfg.causes.found],
            tables=lambda w, input: compact(list(input.tables)),
            fields=lambda w, input: compact(list(input.fields)),
            classes=lambda w: causes.classes(),
        ),
    shell:
        RUN
