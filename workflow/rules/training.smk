# Training: split x model x seed -> weights. Every model of a study sees as many samples.
#   in   results/splits/{split}.parquet, the shards of the pool and of the reference set
#   out  results/models/{split}-{model}-s{seed}/model.pt, record.json, loss.csv
#        results/weights/{model}.json    the user's file that a text tower begins with
# Checkpoints live in results/work, which no rule declares: Snakemake deletes the declared outputs
# of a killed job, and a training continues where it was.


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
        **needs(1000),
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
    "training": lambda w: causes.training(w.model).of_weights(),
    "run": "{split}-{model}-s{seed}",
    "work": "results/work/{split}-{model}-s{seed}",
    **cfg.rendering.shared,
}


rule train:
    """Train one model, or continue its training, with open_clip's program."""
    input:
        lambda w: reading.filter_files(w.split, w.model),
        split="results/splits/{split}.parquet",
        guard="results/guard/{split}.parquet",
        tars=lambda w: there(reading.training_tars(w.split, w.model)),
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
    retries: 1  # of starts that get no further (clipshift.study.continuing)
    threads: lambda w: causes.training(w.model).processes
    resources:
        # A killed training goes on at its last checkpoint: a shorter time only needs more starts.
        **needs(8000, gpus=lambda w: causes.training(w.model).gpus),
    params:
        **call(
            "training.clip.train",
            **TRAINING,
            tars=lambda w: reading.training_words(w.split, w.model),
            how=lambda w: reading.filtered(w.split, w.model),
            guard=lambda w: at.guard(w.split) if cfg.guard == "drop" else None,
        ),
    shell:
        RUN


rule given_weights:
    """Which file of the user's the text tower of a model comes from, and that it fits."""
    output:
        "results/weights/{model}.json",
    log:
        "results/logs/weights/{model}.log",
    wildcard_constraints:
        model=causes.given(),
    resources:
        **needs(8000),
    params:
        **call(
            "training.init_tower.record_weights",
            weights=lambda w: causes.weights(w.model),
            identity=lambda w: causes.weights_identity(w.model),
            architecture=lambda w: causes.training(w.model).model,
        ),
    shell:
        RUN


use rule train as train_captions with:
    """Train one controlled CLIP model, or continue its training, with open_clip's program."""
    input:
        lambda w: causes.filter_files(w.split, w.model),
        split=lambda w: causes.chosen(w.split, w.model),
        tars=lambda w: there(causes.read_tars(w.split)),
        start=lambda w: causes.start(w.model),
    wildcard_constraints:
        model=causes.models("clip"),
    params:
        **call(
            "training.clip.train",
            **TRAINING,
            spec=lambda w: causes.spec(w.model),
            tars=lambda w: causes.read_tars(w.split),
            how=lambda w: causes.filtered(w.split, w.model),
        ),


use rule train as train_vision with:
    """Train one vision tower by cross-entropy or SimCLR, or continue its training."""
    input:
        split=lambda w: causes.chosen(w.split, w.model),
        tars=lambda w: there(causes.read_tars(w.split)),
        start=lambda w: causes.start(w.model),
        classes=causes.class_files(),
    wildcard_constraints:
        model=causes.models("vision"),
    params:
        **call(
            "training.vision.train",
            **TRAINING,
            spec=lambda w: causes.spec(w.model),
            tars=lambda w: causes.read_tars(w.split),
            classes=lambda w: causes.classes(),
        ),


# The same with the weights after every epoch, of models with `epoch_sets`.
use rule train as train_epochs with:
    output:
        model="results/models/{split}-{model}-s{seed}/model.pt",
        record="results/models/{split}-{model}-s{seed}/record.json",
        loss="results/models/{split}-{model}-s{seed}/loss.csv",
        epochs=directory("results/models/{split}-{model}-s{seed}/epochs"),
    wildcard_constraints:
        model=at.model_pattern(by_epoch=True),


use rule train_captions as train_captions_epochs with:
    output:
        model="results/models/{split}-{model}-s{seed}/model.pt",
        record="results/models/{split}-{model}-s{seed}/record.json",
        loss="results/models/{split}-{model}-s{seed}/loss.csv",
        epochs=directory("results/models/{split}-{model}-s{seed}/epochs"),
    wildcard_constraints:
        model=causes.models("clip", by_epoch=True),


use rule train_vision as train_vision_epochs with:
    output:
        model="results/models/{split}-{model}-s{seed}/model.pt",
        record="results/models/{split}-{model}-s{seed}/record.json",
        loss="results/models/{split}-{model}-s{seed}/loss.csv",
        epochs=directory("results/models/{split}-{model}-s{seed}/epochs"),
    wildcard_constraints:
        model=causes.models("vision", by_epoch=True),
