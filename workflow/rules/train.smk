# Training: split x model x seed -> weights. Every model of a study sees as many samples.
#   in   results/splits/{split}.parquet, the shards of the pool and of the reference set
#   out  results/guard/{split}.parquet, {split}.json   test images among its samples
#        results/models/{split}-{model}-s{seed}/model.pt, record.json, loss.csv
# Checkpoints live in results/work, which no rule declares: Snakemake deletes the declared outputs
# of a killed job, and a training continues where it was.


rule guard:
    """Test images among the samples of a split.

    A list waits for the test sets when it is first made. A set that comes later plans neither it
    nor a training; `--forcerun guard` makes lists, and the trainings on them, anew.
    """
    input:
        split="results/splits/{split}.parquet",
        tests=lambda w: at.guard_waits_for(w.split),
    output:
        "results/guard/{split}.parquet",
        account="results/guard/{split}.json",
    log:
        "results/logs/guard/{split}.log",
    resources:
        **needs(3000, 60),
    params:
        **call(
            "splits.guard.write_list",
            # Of no rerun's concern: parameters that take `input` trigger none.
            tests=lambda w, input: {n: at.table(n) for n in at.guarded(w.split)},
        ),
    shell:
        RUN


rule caption_reference:
    """The reference set with its template captions, as training data."""
    input:
        tars=there([at.tars(cfg.reference)]),
        table=at.table(cfg.reference),
    output:
        f"results/sets/{cfg.reference}/captioned.tar",
    log:
        "results/logs/sets/captioned.log",
    resources:
        **needs(1000, 20),
    params:
        **call(
            "datasets.captions.template.caption",
            tars=[at.tars(cfg.reference)],
            template=lambda w: cfg.reference_caption,
        ),
    shell:
        RUN


# Parameters that every training has.
TRAINING = {
    "training": lambda w: causes.training(w.model),
    "run": "{split}-{model}-s{seed}",
    "work": "results/work/{split}-{model}-s{seed}",
}


rule train:
    """Train one model, or continue its training, with open_clip's program."""
    input:
        lambda w: at.filter_files(w.model),
        split="results/splits/{split}.parquet",
        guard="results/guard/{split}.parquet",
        tars=lambda w: there(at.training_tars(w.split, w.model)),
    output:
        model="results/models/{split}-{model}-s{seed}/model.pt",
        record="results/models/{split}-{model}-s{seed}/record.json",
        loss="results/models/{split}-{model}-s{seed}/loss.csv",
    log:
        "results/logs/train/{split}-{model}-s{seed}.log",
    benchmark:
        "results/benchmarks/train/{split}-{model}-s{seed}.tsv"
    wildcard_constraints:
        model=at.model_pattern(),
    retries: 1
    threads: lambda w: causes.training(w.model).processes
    resources:
        # A killed training goes on at its last checkpoint: a shorter time only needs more starts.
        **needs(
            memory=lambda w: 256000 if causes.training(w.model).gpus else 8000,
            minutes=lambda w: 10080 if causes.training(w.model).gpus else 240,
            gpus=lambda w: causes.training(w.model).gpus,
        ),
    params:
        **call(
            "training.clip.train",
            **TRAINING,
            tars=lambda w: at.training_words(w.split, w.model),
            how=lambda w: at.filtered(w.model),
            guard=lambda w: at.guard(w.split) if cfg.guard == "drop" else None,
        ),
    shell:
        RUN
