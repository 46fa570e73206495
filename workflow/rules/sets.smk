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
        mem_mb=grows(1000),
        runtime=grows(20),
    params:
        testset=lambda w: as_json(cfg.sets[w.testset]),
        classes=lambda w: as_json(cfg.class_paths(cfg.sets[w.testset])),
        holdout=lambda w: as_json(cfg.holdout),
        sources=lambda w: at.source_arguments(w.testset),
        version=version_of("sets"),
    shell:
        "python -m clipshift.datasets.labelled_set --name {wildcards.testset} --set {params.testset:q}"
        " --classes {params.classes:q} --holdout {params.holdout:q} {params.sources}"
        " --out results/sets/{wildcards.testset} > {log} 2>&1"


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
        templates="results/sets/{testset}/zeroshot_classification_templates.txt",
        words="results/sets/{testset}/words.json",
    log:
        "results/logs/sets/{testset}.prompts.log",
    params:
        templates=lambda w: cfg.evaluation.templates,
        words=lambda w: as_json(cfg.words_of(cfg.sets[w.testset])),
        version=version_of("prompts"),
    shell:
        "python -m clipshift.datasets.prompts --out {output.templates} --words {output.words}"
        " --of {params.words:q} {params.templates:q} > {log} 2>&1"


rule set_answers:
    """Which classes of the training stand for those of a set, for classifiers and probes."""
    output:
        "results/sets/{testset}/answers.json",
    log:
        "results/logs/sets/{testset}.answers.log",
    params:
        rule=lambda w: as_json(
            cfg.causes.model_dump(mode="json")["answers"].get(w.testset)
        ),
    shell:
        "printf '%s\\n' {params.rule:q} > {output} 2> {log}"
