# Labelled sets: held-out concepts -> test sets; the others -> the reference set.
#   in   results/sources/{source}/samples.{tar,parquet}
#   out  results/sets/{testset}/ in CLIP_benchmark's webdataset layout, with samples.parquet


localrules:
    set_prompts,
    set_answers,


rule test_set:
    """Build one test set."""
    input:
        lambda w: at.source_files(w.testset),
    output:
        "results/sets/{testset}/test/0.tar",
        "results/sets/{testset}/test/nshards.txt",
        "results/sets/{testset}/classnames.txt",
        "results/sets/{testset}/dataset_type.txt",
        "results/sets/{testset}/samples.parquet",
        "results/sets/{testset}/manifest.json",
    log:
        "results/logs/sets/{testset}.log",
    wildcard_constraints:
        testset=at.set_pattern("test", "domain"),
    resources:
        **needs(1000, 20),
    params:
        **call(
            "datasets.labelled_set.build",
            spec=lambda w: cfg.sets[w.testset],
            classes=lambda w: cfg.class_paths(cfg.sets[w.testset]),
            holdout=cfg.holdout,
            sources=lambda w: at.source_folders(w.testset),
            out="results/sets/{testset}",
        ),
    shell:
        RUN


use rule test_set as reference_set with:
    output:
        "results/sets/{testset}/train/0.tar",
        "results/sets/{testset}/train/nshards.txt",
        "results/sets/{testset}/classnames.txt",
        "results/sets/{testset}/dataset_type.txt",
        "results/sets/{testset}/samples.parquet",
        "results/sets/{testset}/manifest.json",
    wildcard_constraints:
        testset=at.set_pattern("reference"),


rule set_prompts:
    """Templates and class words of a set: apart from it, so that another prompt rebuilds no set."""
    output:
        "results/sets/{testset}/zeroshot_classification_templates.txt",
        words="results/sets/{testset}/words.json",
    log:
        "results/logs/sets/{testset}.prompts.log",
    params:
        **call(
            "datasets.prompts.write",
            prompts=cfg.evaluation.templates,
            class_words=lambda w: cfg.words_of(cfg.sets[w.testset]),
        ),
    shell:
        RUN


rule set_answers:
    """Which classes of the training stand for those of a set, for classifiers and probes."""
    output:
        "results/sets/{testset}/answers.json",
    log:
        "results/logs/sets/{testset}.answers.log",
    params:
        **call(
            "datasets.prompts.answers",
            rule=lambda w: cfg.causes.answers.get(w.testset),
        ),
    shell:
        RUN
