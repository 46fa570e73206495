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


wildcard_constraints:
    classifier=NAME,
    clean=NAME,


rule domain_labels:
    """Labels of a data set: by its sources, or by people."""
    input:
        lambda w: dom.tables(w.dataset),
        people=dom.label_files(),
    output:
        table=f"{HOME}/labels/{{dataset}}.parquet",
        account=f"{HOME}/labels/{{dataset}}.json",
    log:
        "results/logs/domains/labels.{dataset}.log",
    resources:
        mem_mb=grows(2000),
        runtime=grows(30),
    params:
        labels=lambda w: as_json(cfg.domains.labels),
        tables=lambda w: at.word(dom.tables(w.dataset)),
        version=version_of("domain_labels"),
    shell:
        "python -m clipshift.classifiers.domain_labels --labels {params.labels:q} --table {params.tables}"
        " --out {output.table} > {log} 2>&1"


rule domain_fit:
    """Fit one classifier on embeddings, and calibrate it."""
    input:
        lambda w: dom.fit_inputs(w.classifier),
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
        mem_mb=grows(3000),
        runtime=grows(60),
    params:
        spec=lambda w: as_json(dom.classifier(w.classifier)),
        words=lambda w: dom.fit_words(w.classifier),
        rule=lambda w: as_json(cfg.domains.labels),
        # Of no rerun's concern: parameters that take `input` trigger none.
        tested=lambda w, input: dom.kept_out(w.classifier),
        version=version_of("domain_fit"),
    shell:
        "python -m clipshift.classifiers.fit --spec {params.spec:q} {params.words}"
        " --rule {params.rule:q} --tested {params.tested} --out {output.model} > {log} 2>&1"


rule domain_tune:
    """Tune an encoder with a readout on pictures, and calibrate it."""
    input:
        lambda w: there(dom.fit_inputs(w.classifier)),
        labels=[dom.labels(d) for d in dom.labelled],
        tested=lambda w: dom.waits_for(w.classifier),
    output:
        model=f"{HOME}/classifiers/{{classifier}}/model.npz",
        record=f"{HOME}/classifiers/{{classifier}}/record.json",
        parts=f"{HOME}/classifiers/{{classifier}}/parts.parquet",
    log:
        "results/logs/domains/tune.{classifier}.log",
    benchmark:
        "results/benchmarks/domains/tune.{classifier}.tsv"
    wildcard_constraints:
        classifier=dom.classifiers(tuned=True),
    resources:
        mem_mb=grows(4000),
        runtime=grows(480),
    params:
        spec=lambda w: as_json(dom.classifier(w.classifier)),
        words=lambda w: dom.fit_words(w.classifier),
        rule=lambda w: as_json(cfg.domains.labels),
        # Of no rerun's concern: parameters that take `input` trigger none.
        tested=lambda w, input: dom.kept_out(w.classifier),
        tars=lambda w: tar_arguments(dom.pictures()),
        version=version_of("domain_fit"),
    shell:
        "python -m clipshift.classifiers.fit --spec {params.spec:q} {params.words} {params.tars}"
        " --rule {params.rule:q} --tested {params.tested} --out {output.model} > {log} 2>&1"


rule domain_score:
    """Score a shard of embeddings."""
    input:
        lambda w: at.embeddings(
            w.dataset, cfg.domains.classifiers[w.classifier].encoder, [w.shard]
        ),
        model=f"{HOME}/classifiers/{{classifier}}/model.npz",
        record=f"{HOME}/classifiers/{{classifier}}/record.json",
    output:
        table=f"{HOME}/scores/{{classifier}}/{{dataset}}/{{shard}}.parquet",
        account=f"{HOME}/scores/{{classifier}}/{{dataset}}/{{shard}}.json",
    log:
        "results/logs/domains/score.{classifier}.{dataset}.{shard}.log",
    wildcard_constraints:
        classifier=dom.classifiers(tuned=False),
    resources:
        mem_mb=grows(2000),
        runtime=grows(60),
    params:
        spec=lambda w: as_json(dom.classifier(w.classifier)),
        folder=lambda w: "results/embeddings/{}/{}".format(
            cfg.domains.classifiers[w.classifier].encoder, w.dataset
        ),
        version=version_of("domain_scores"),
    shell:
        "python -m clipshift.classifiers.score --spec {params.spec:q} --model {input.model}"
        " --record {input.record} --vectors {params.folder} --shard {wildcards.shard}"
        " --out {output.table} > {log} 2>&1"


rule domain_score_pictures:
    """Score a shard of pictures by a tuned encoder."""
    input:
        lambda w: there([at.tars(w.dataset, w.shard)]),
        model=f"{HOME}/classifiers/{{classifier}}/model.npz",
        record=f"{HOME}/classifiers/{{classifier}}/record.json",
        weights=lambda w: at.encoder_files(
            cfg.domains.classifiers[w.classifier].encoder
        ),
    output:
        table=f"{HOME}/scores/{{classifier}}/{{dataset}}/{{shard}}.parquet",
        account=f"{HOME}/scores/{{classifier}}/{{dataset}}/{{shard}}.json",
    log:
        "results/logs/domains/score.{classifier}.{dataset}.{shard}.log",
    wildcard_constraints:
        classifier=dom.classifiers(tuned=True),
    resources:
        mem_mb=grows(3000),
        runtime=grows(120),
    params:
        spec=lambda w: as_json(dom.classifier(w.classifier)),
        tars=lambda w: tar_arguments([at.tars(w.dataset, w.shard)]),
        version=version_of("domain_scores"),
    shell:
        "python -m clipshift.classifiers.score --spec {params.spec:q} --model {input.model}"
        " --record {input.record} {params.tars} --shard {wildcards.shard}"
        " --out {output.table} > {log} 2>&1"


rule domain_points:
    """Thresholds of a classifier, and what they reach on pictures that it did not learn from."""
    input:
        lambda w: dom.learned_scores(w.classifier),
        parts=f"{HOME}/classifiers/{{classifier}}/parts.parquet",
    output:
        f"{HOME}/points/{{classifier}}.json",
    log:
        "results/logs/domains/points.{classifier}.log",
    resources:
        mem_mb=grows(2000),
        runtime=grows(20),
    params:
        precision=cfg.domains.precision if cfg.domains else None,
        scores=lambda w: at.word(dom.learned_scores(w.classifier)),
        version=version_of("domain_points"),
    shell:
        "python -m clipshift.classifiers.thresholds --parts {input.parts} --scores {params.scores}"
        " --precision {params.precision} --out {output} > {log} 2>&1"


rule domain_verdicts:
    """What the two detectors say of a shard's pictures."""
    input:
        points=[dom.point(c) for c in dom.used],
        scores=lambda w: dom.detector_scores(w.dataset, w.shard),
    output:
        table=f"{HOME}/verdicts/{{dataset}}/{{shard}}.parquet",
        account=f"{HOME}/verdicts/{{dataset}}/{{shard}}.json",
    log:
        "results/logs/domains/verdicts.{dataset}.{shard}.log",
    resources:
        mem_mb=grows(2000),
        runtime=grows(20),
    params:
        words=lambda w: dom.verdict_words(w.dataset, w.shard),
        version=version_of("domain_verdicts"),
    shell:
        "python -m clipshift.classifiers.decisions {params.words} --out {output.table} > {log} 2>&1"
