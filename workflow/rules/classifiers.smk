# Domains: labels -> classifiers -> scores -> operating points -> verdicts.
#   in   sample tables, embeddings or tars of the data sets of `domains`
#   out  results/domains/{name}/labels/{dataset}.parquet    key, label, concept, source, annotator
#        classifiers/{classifier}/model.npz, record.json, parts.parquet
#        scores/{classifier}/{dataset}/{shard}.parquet       key, log-odds per domain
#        points/{classifier}.json                            thresholds, and what they reach
#        verdicts/{dataset}/{shard}.parquet                  key, scores, verdict
# Scores know no threshold: another precision makes points and what follows anew, and no score.
# Test sets are an axis: one more, or one fewer, has its own labels, scores and verdicts, and makes
# no other anew. Which ones are kept out of a training is decided when a classifier is fitted.

HOME = dom.home
# Parameters that a study has where of its pool only the points of a split are labelled and scored.
ONLY = {"split": lambda w: (dom.kept(w.dataset) or [None])[0]} if dom.part else {}
ONLY_OF = ONLY | {"samples": lambda w: at.table(w.dataset, w.shard)} if dom.part else {}


rule domain_labels:
    """Labels of a data set: by its sources, or by people."""
    input:
        lambda w: [*dom.tables(w.dataset), *dom.kept(w.dataset)],
        people=lambda w: dom.label_files(w.dataset),
    output:
        table=f"{HOME}/labels/{{dataset}}.parquet",
        counts=f"{HOME}/labels/{{dataset}}.json",
    log:
        "results/logs/domains/labels.{dataset}.log",
    resources:
        **needs(2000),
    params:
        **call(
            "classifiers.domain_labels.write_labels",
            tables=lambda w: compact(dom.tables(w.dataset)),
            labels=lambda w: dom.label_rule(w.dataset),
            agree=cfg.agree,
            **ONLY,
        ),
    shell:
        RUN


rule domain_fit:
    """Fit one classifier on embeddings, or tune an encoder with it on images; calibrate it."""
    input:
        lambda w: there(dom.fit_inputs(w.classifier)),
        labels=[dom.labels(d) for d in dom.labelled],
        tested=lambda w: dom.waits_for(w.classifier),
    output:
        model=f"{HOME}/classifiers/{{classifier}}/model.npz",
        record=f"{HOME}/classifiers/{{classifier}}/record.json",
        parts=f"{HOME}/classifiers/{{classifier}}/parts.parquet",
    log:
        "results/logs/domains/fit.{classifier}.log",
    wildcard_constraints:
        classifier=dom.classifiers(tuned=False),
    resources:
        **needs(3000),
    params:
        **call(
            "classifiers.fit.write_fit",
            spec=lambda w: dom.classifier(w.classifier),
            rule=lambda w: cfg.domains.labels,
            vectors=lambda w: dom.vectors(w.classifier),
            tars=lambda w: dom.tars(w.classifier),
            # Of no rerun's concern: parameters that take `input` trigger none.
            tested=lambda w, input: dom.kept_out(w.classifier),
        ),
    shell:
        RUN


use rule domain_fit as domain_tune with:
    log:
        "results/logs/domains/tune.{classifier}.log",
    benchmark:
        "results/benchmarks/domains/tune.{classifier}.tsv"
    wildcard_constraints:
        classifier=dom.classifiers(tuned=True),
    resources:
        **needs(64000, gpus=1),


rule domain_score:
    """Score a shard: its embeddings, or its images by a tuned encoder."""
    input:
        lambda w: there(dom.score_inputs(w.classifier, w.dataset, w.shard)),
        model=f"{HOME}/classifiers/{{classifier}}/model.npz",
        record=f"{HOME}/classifiers/{{classifier}}/record.json",
    output:
        table=f"{HOME}/scores/{{classifier}}/{{dataset}}/{{shard}}.parquet",
        counts=f"{HOME}/scores/{{classifier}}/{{dataset}}/{{shard}}.json",
    log:
        "results/logs/domains/score.{classifier}.{dataset}.{shard}.log",
    wildcard_constraints:
        classifier=dom.classifiers(tuned=False),
    resources:
        **needs(2000),
    params:
        **call(
            "classifiers.score.write_vector_scores",
            spec=lambda w: dom.classifier(w.classifier),
            vectors=lambda w: f"results/embeddings/{dom.encoder(w.classifier)}/{w.dataset}",
            **ONLY_OF,
        ),
    shell:
        RUN


use rule domain_score as domain_score_images with:
    wildcard_constraints:
        classifier=dom.classifiers(tuned=True),
    resources:
        **needs(32000, gpus=1),
    params:
        **call(
            "classifiers.score.write_image_scores",
            spec=lambda w: dom.classifier(w.classifier),
            tars=lambda w: [at.tars(w.dataset, w.shard)],
            **ONLY_OF,
        ),


rule domain_points:
    """Thresholds of a classifier, and what they reach on images that it did not learn from."""
    input:
        lambda w: dom.learned_scores(w.classifier),
        parts=f"{HOME}/classifiers/{{classifier}}/parts.parquet",
    output:
        f"{HOME}/points/{{classifier}}.json",
    log:
        "results/logs/domains/points.{classifier}.log",
    resources:
        **needs(2000),
    params:
        **call(
            "classifiers.thresholds.write_points",
            scores=lambda w: compact(dom.learned_scores(w.classifier)),
            precision=lambda w: cfg.domains.precision,
        ),
    shell:
        RUN


rule domain_decisions:
    """The verdicts of the two detectors on a shard's images."""
    input:
        points=[dom.point(c) for c in dom.used],
        scores=lambda w: dom.detector_scores(w.dataset, w.shard),
    output:
        table=f"{HOME}/verdicts/{{dataset}}/{{shard}}.parquet",
        counts=f"{HOME}/verdicts/{{dataset}}/{{shard}}.json",
    log:
        "results/logs/domains/verdicts.{dataset}.{shard}.log",
    resources:
        **needs(2000),
    params:
        **call(
            "classifiers.decisions.write_decisions",
            sides=lambda w: dom.detector_files(w.dataset, w.shard),
        ),
    shell:
        RUN


# Verdicts -> composition and clean test sets.
#   in   results/domains/{name}/verdicts/, labelled sets
#   out  results/domains/{name}/composition.json
#        clean/{clean}.parquet, .json         which images are kept, and why others are not


rule domain_composition:
    """What pools and sets are made of, corrected for the detectors' errors."""
    input:
        dom.composition_inputs(),
    output:
        f"{HOME}/composition.json",
    log:
        "results/logs/domains/composition.log",
    resources:
        **needs(64000),
    params:
        **call(
            "classifiers.composition.write_composition",
            datasets=lambda w: {d: compact(dom.decisions(d)) for d in dom.datasets},
            learned=lambda w: {d: dom.labels(d) for d in dom.labelled},
            measured=lambda w: {d: dom.labels(d) for d in dom.measured},
            parts=lambda w: [dom.parts(c) for c in dom.used],
            draws=lambda w: cfg.domains.draws,
            seed=lambda w: cfg.domains.seed,
        ),
    shell:
        RUN


rule clean_set:
    """The images of a test set that are of its domain."""
    input:
        decisions=lambda w: dom.decisions(cfg.domains.clean[w.clean].set)[0],
        samples=lambda w: at.table(cfg.domains.clean[w.clean].set),
        classnames=lambda w: f"results/sets/{cfg.domains.clean[w.clean].set}/classnames.txt",
    output:
        table=f"{HOME}/clean/{{clean}}.parquet",
        counts=f"{HOME}/clean/{{clean}}.json",
    log:
        "results/logs/domains/clean.{clean}.log",
    resources:
        **needs(1000),
    params:
        **call(
            "classifiers.clean_set.write_clean",
            spec=lambda w: cfg.domains.clean[w.clean],
        ),
    shell:
        RUN
