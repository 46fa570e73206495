# Evaluation: models x test sets -> accuracies with n and intervals.
#   in   results/models/{run}/, results/sets/{testset}/
#   out  results/eval/{run}.json and {run}.predictions.parquet, clip_benchmark/{run}/ (its JSON
#        files), {run}.results.jsonl (open_clip); {split}.json joins the seeds of a split


rule evaluate:
    """Zero-shot accuracy of one model on every test set."""
    input:
        record="results/models/{split}-{model}-s{seed}/record.json",
        weights="results/models/{split}-{model}-s{seed}/model.pt",
        sets=[f for name in cfg.test_sets for f in at.set_files(name)],
        tars=there([at.tars(name) for name in cfg.test_sets]),
    output:
        result="results/eval/{split}-{model}-s{seed}.json",
        predictions="results/eval/{split}-{model}-s{seed}.predictions.parquet",
        clip_benchmark=directory("results/eval/clip_benchmark/{split}-{model}-s{seed}"),
        open_clip="results/eval/{split}-{model}-s{seed}.results.jsonl",
    log:
        "results/logs/evaluate/{split}-{model}-s{seed}.log",
    wildcard_constraints:
        model=at.model_pattern(),
    resources:
        mem_mb=grows(2000),
        runtime=grows(30),
    params:
        evaluation=lambda w: as_json(cfg.evaluation),
        sets=at.set_arguments(),
        version=version_of("evaluate"),
    shell:
        "python -m clipshift.evaluate --record {input.record} --weights {input.weights}"
        " {params.sets} --evaluation {params.evaluation:q} --out {output.result} > {log} 2>&1"


rule evaluate_split:
    """Join the seeds of a split."""
    input:
        runs=lambda w: [f"results/eval/{run}.json" for run in at.runs(w.split)],
        account="results/splits/{split}.json",
    output:
        "results/eval/{split}.json",
    log:
        "results/logs/evaluate/{split}.log",
    resources:
        mem_mb=grows(1000),
        runtime=grows(10),
    params:
        version=version_of("summary"),
    shell:
        "python -m clipshift.summary --name {wildcards.split} --account {input.account}"
        " --out {output} {input.runs} > {log} 2>&1"
