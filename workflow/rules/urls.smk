# Downloaded pools: lists of URLs -> img2dataset -> pool shards.
#   in   the files of `pools.*.urls`, below the key `data`; servers
#   out  results/urls/{pool}/list.parquet, list.json: every URL once; the account of the list
#        results/urls/{pool}/fetched/{shard}.parquet: what became of each URL
#        results/urls/{pool}/placeholders.parquet, placeholders.json
#        results/pools/{pool}/{shard}.tar, {shard}.parquet, {shard}.json
# Answers are kept in results/work/urls, which no rule declares: `--forcerun fetch_urls` asks only
# for what failed. Jobs that download are local: compute nodes seldom reach the internet.
from clipshift.study.layout.urls import Urls

urls = Urls(at)


localrules:
    fetch_urls,
    placeholders,


rule url_list:
    """Every URL once, with its key and its shard."""
    input:
        lambda w: urls.files(w.pool),
    output:
        urls="results/urls/{pool}/list.parquet",
        account="results/urls/{pool}/list.json",
    log:
        "results/logs/urls/{pool}.list.log",
    wildcard_constraints:
        pool=urls.pattern(),
    resources:
        mem_mb=grows(8000),
        runtime=grows(240),
    params:
        how=lambda w: urls.listing(w.pool),
        version=version_of("url_list"),
    shell:
        "python -m clipshift.datasets.urls.listing --name {wildcards.pool} {params.how}"
        " --out {output.urls} {input:q} > {log} 2>&1"


rule fetch_urls:
    """Download what has no picture yet; say what became of each URL of a shard."""
    input:
        "results/urls/{pool}/list.parquet",
    output:
        "results/urls/{pool}/fetched/{shard}.parquet",
    log:
        "results/logs/urls/{pool}.{shard}.fetch.log",
    wildcard_constraints:
        pool=urls.pattern(),
    resources:
        mem_mb=grows(4000),
        runtime=grows(1440),
    params:
        fetching=lambda w: as_json(cfg.pools[w.pool].fetching),
        work=lambda w: urls.work(w.pool, w.shard),
        version=version_of("fetch_urls"),
    shell:
        "python -m clipshift.datasets.urls.fetch --list {input} --shard {wildcards.shard}"
        " --fetching {params.fetching:q} --work {params.work} --out {output} > {log} 2>&1"


rule placeholders:
    """Pictures whose very bytes came from many URLs."""
    input:
        lambda w: urls.fetched(w.pool),
    output:
        table="results/urls/{pool}/placeholders.parquet",
        record="results/urls/{pool}/placeholders.json",
    log:
        "results/logs/urls/{pool}.placeholders.log",
    wildcard_constraints:
        pool=urls.pattern(),
    params:
        tables=lambda w: at.word(urls.fetched(w.pool)),
        threshold=lambda w: urls.threshold(w.pool),
        version=version_of("placeholders"),
    shell:
        "python -m clipshift.datasets.urls.placeholders {params.threshold} --out {output.table}"
        " {params.tables} > {log} 2>&1"


rule url_pool_shard:
    """Write one shard of what was downloaded."""
    input:
        urls="results/urls/{pool}/list.parquet",
        fetched="results/urls/{pool}/fetched/{shard}.parquet",
        placeholders="results/urls/{pool}/placeholders.parquet",
    output:
        tar="results/pools/{pool}/{shard}.tar",
        table="results/pools/{pool}/{shard}.parquet",
        account="results/pools/{pool}/{shard}.json",
    log:
        "results/logs/pool/{pool}.{shard}.log",
    wildcard_constraints:
        pool=urls.pattern(),
    resources:
        mem_mb=grows(2000),
        runtime=grows(60),
    params:
        work=lambda w: urls.work(w.pool, w.shard),
        version=version_of("url_pool_shard"),
    shell:
        "python -m clipshift.datasets.urls.shard --name {wildcards.pool} --list {input.urls}"
        " --shard {wildcards.shard} --fetched {input.fetched}"
        " --placeholders {input.placeholders} --work {params.work} --out {output.tar} > {log} 2>&1"
