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


# One rule for one test set, and one for every group of sets that a run is not evaluated on yet: a
# first run loads each model once. A set that comes later is a job of its own, and since parameters
# are the same whoever made a file, it touches no other.
for number, (sets, covered) in enumerate([(["{testset}"], ev.pattern()), *ev.passes()]):

    rule:
        name:
            f"logits_{number}" if number else "logits"
        input:
            lambda w: there(ev.probe_inputs(w.evaluation)),
            record=lambda w: ev.weights(w.evaluation)[0],
            weights=lambda w: ev.weights(w.evaluation)[1],
            sets=lambda w, sets=sets: [
                file for s in named(sets, w) for file in ev.set_files(s, w.evaluation)
            ],
            tars=lambda w, sets=sets: there([at.tars(s) for s in named(sets, w)]),
        output:
            [
                f"results/logits/{s}/{{evaluation}}.{suffix}"
                for s in sets
                for suffix in ("npy", "parquet", "json")
            ],
        log:
            f"results/logs/logits/{'{testset}' if not number else number}/{{evaluation}}.log",
        wildcard_constraints:
            evaluation=compact_pattern(covered) if number else ev.pattern(),
        resources:
            **needs(32000, gpus=1),
        params:
            **call(
                "evaluation.logits.evaluate",
                how=lambda w: ev.how(w.evaluation),
                # Whichever sets share the job, the files are the same: no parameter of a rerun.
                tests=lambda w, output, sets=sets: ev.tests(
                    named(sets, w), w.evaluation
                ),
                probe=lambda w: ev.probe(w.evaluation),
            ),
        shell:
            RUN

    if number:
        workflow.ruleorder(f"logits_{number}", "logits")


rule evaluate:
    """Accuracies on every test set, of one evaluation, or of the seeds of a condition joined.

    Test images that a model was trained on are counted.
    """
    input:
        unpack(lambda w: ev.report_inputs(w.name)),
    output:
        result="results/eval/{name}.json",
    log:
        "results/logs/evaluate/{name}.log",
    wildcard_constraints:
        name=rf"{ev.pattern()}|{pattern(ev.conditions())}",
    resources:
        **needs(3000),
    params:
        **call(
            "evaluation.summary.write_summary",
            joined=lambda w: w.name in ev.conditions(),
            sets=lambda w: ev.report_sets(w.name),
            subsets=lambda w: ev.report_subsets(w.name),
            guard=lambda w: ev.report_guard(w.name),
        ),
    shell:
        RUN


use rule evaluate as evaluate_and_export with:
    output:
        result="results/eval/{name}.json",
        clip_benchmark=directory("results/eval/clip_benchmark/{name}"),
        open_clip="results/eval/{name}.results.jsonl",
    wildcard_constraints:
        name=ev.exported(),


ruleorder: evaluate_and_export > evaluate
