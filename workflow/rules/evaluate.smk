# Evaluation: models x test sets -> logits -> accuracies with n and intervals.
#   in   results/models/{run}/, results/sets/{testset}/
#   out  results/logits/{testset}/{evaluation}.npy (N, C) float32, .parquet, .json
#        results/eval/{evaluation}.json, clip_benchmark/{run}/ (its JSON files), {run}.results.jsonl
#        (open_clip); results/eval/{condition}.json joins the seeds
# An evaluation is a run, `{split}-{model}-s{seed}`, or a run and a protocol, `{run}-{protocol}`.
# A model is run here and nowhere else; all that is reported are queries over its logits.
from clipshift.study.layout.evaluation import Evaluations

ev = Evaluations(at)


wildcard_constraints:
    evaluation=ev.pattern(),
    condition=pattern(ev.conditions()),


# One rule for one test set, and one for every group of sets that a run is not evaluated on yet: a
# first run loads each model once. A set that comes later is a job of its own, and since parameters
# are the same whoever made a file, it touches no other.
for number, (sets, covered) in enumerate(
    [(["{testset}"], ev.pattern()), *ev.passes()[:PASSES]]
):

    rule:
        name:
            f"logits_{number}" if number else "logits"
        input:
            record=lambda w: ev.weights(w.evaluation)[0],
            weights=lambda w: ev.weights(w.evaluation)[1],
            sets=lambda w, sets=sets: [
                file for s in named(sets, w) for file in ev.set_files(s, w.evaluation)
            ],
            tars=lambda w, sets=sets: there([at.tars(s) for s in named(sets, w)]),
            chosen=lambda w: ev.probe(w.evaluation),
            pictures=lambda w: there(ev.probe_words(w.evaluation)),
            classes=lambda w: causes.class_files() if ev.probe(w.evaluation) else [],
        output:
            [
                f"results/logits/{s}/{{evaluation}}.{suffix}"
                for s in sets
                for suffix in ("npy", "parquet", "json")
            ],
        log:
            f"results/logs/logits/{'{testset}' if not number else number}/{{evaluation}}.log",
        wildcard_constraints:
            evaluation=pattern(covered) if number else ev.pattern(),
        resources:
            mem_mb=grows(2000),
            runtime=grows(60),
        params:
            protocol=lambda w: ev.protocol(w.evaluation),
            sets=lambda w, output, sets=sets: ev.set_words(named(sets, w), w.evaluation),
            probe=lambda w: ev.probe_arguments(w.evaluation),
            version=version_of("logits"),
        shell:
            "python -m clipshift.evaluation.logits --record {input.record}"
            " --weights {input.weights} {params.sets} {params.protocol} {params.probe}"
            " --name {wildcards.evaluation} --out results/logits > {log} 2>&1"

    if number:
        workflow.ruleorder(f"logits_{number}", "logits")


rule evaluate_run:
    """Accuracies of one run on every test set; test images that it was trained on are counted."""
    input:
        rows=lambda w: [
            file for s in cfg.test_sets for file in ev.query_files(s, [w.evaluation])
        ],
        tables=[at.table(name) for name in cfg.test_sets],
        records=lambda w: ev.training([w.evaluation])["records"],
        split=lambda w: ev.training([w.evaluation])["split"],
        chosen=lambda w: ev.training([w.evaluation])["chosen"],
    output:
        result="results/eval/{evaluation}.json",
    log:
        "results/logs/evaluate/{evaluation}.log",
    resources:
        mem_mb=grows(3000),
        runtime=grows(60),
    params:
        sets=lambda w: ev.summary_words([w.evaluation]),
        guard=lambda w: ev.guard_argument([w.evaluation]),
        exports="",
        version=version_of("evaluate"),
    shell:
        "python -m clipshift.evaluation.summary --name {wildcards.evaluation} {params.sets}"
        " --split {input.split} {params.guard} --record {input.records} {params.exports}"
        " --out {output.result} > {log} 2>&1"


use rule evaluate_run as evaluate_and_export with:
    output:
        result="results/eval/{evaluation}.json",
        clip_benchmark=directory("results/eval/clip_benchmark/{evaluation}"),
        open_clip="results/eval/{evaluation}.results.jsonl",
    wildcard_constraints:
        evaluation=ev.exported(),
    params:
        sets=lambda w: ev.summary_words([w.evaluation]),
        guard=lambda w: ev.guard_argument([w.evaluation]),
        exports="--exports",
        version=version_of("evaluate"),


ruleorder: evaluate_and_export > evaluate_run


rule evaluate:
    """The seeds of a condition joined: mean accuracies with their intervals."""
    input:
        rows=lambda w: [
            file
            for s in cfg.test_sets
            for file in ev.query_files(s, ev.conditions()[w.condition])
        ],
        tables=[at.table(name) for name in cfg.test_sets],
        records=lambda w: ev.training(ev.conditions()[w.condition])["records"],
        split=lambda w: ev.training(ev.conditions()[w.condition])["split"],
        chosen=lambda w: ev.training(ev.conditions()[w.condition])["chosen"],
        account=lambda w: (
            f"results/splits/{w.condition}.json" if w.condition in cfg.splits else []
        ),
    output:
        "results/eval/{condition}.json",
    log:
        "results/logs/evaluate/{condition}.log",
    resources:
        mem_mb=grows(3000),
        runtime=grows(60),
    params:
        sets=lambda w: ev.summary_words(ev.conditions()[w.condition]),
        guard=lambda w: ev.guard_argument(ev.conditions()[w.condition]),
        account=lambda w: (
            f"--account results/splits/{w.condition}.json"
            if w.condition in cfg.splits
            else ""
        ),
        version=version_of("evaluate"),
    shell:
        "python -m clipshift.evaluation.summary --name {wildcards.condition} --join {params.sets}"
        " --split {input.split} {params.guard} --record {input.records} {params.account}"
        " --out {output} > {log} 2>&1"
