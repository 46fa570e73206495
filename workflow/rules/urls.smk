# Downloaded pools: lists of URLs -> img2dataset -> pool shards.
#   in   the files of `pools.*.urls`, below the key `data`; servers
#   out  results/urls/{pool}/list.parquet, list.json: every URL once; the counts of the list
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
        lambda w: urls.inputs(w.pool),
    output:
        urls="results/urls/{pool}/list.parquet",
        counts="results/urls/{pool}/list.json",
    log:
        "results/logs/urls/{pool}.list.log",
    wildcard_constraints:
        pool=urls.pattern(),
    resources:
        **needs(8000),
    params:
        **call(
            "datasets.urls.listing.write_list",
            # Where the lists lie is no parameter that counts: it takes the input.
            files=lambda w, input: urls.files(w.pool),
            columns=lambda w: [
                urls.pools[w.pool].url_column,
                urls.pools[w.pool].caption_column,
            ],
            shards=lambda w: urls.pools[w.pool].shards,
        ),
    shell:
        RUN


rule fetch_urls:
    """Download what has no image yet; say what became of each URL of a shard."""
    input:
        urls="results/urls/{pool}/list.parquet",
    output:
        "results/urls/{pool}/fetched/{shard}.parquet",
    log:
        "results/logs/urls/{pool}.{shard}.fetch.log",
    wildcard_constraints:
        pool=urls.pattern(),
    resources:
        **needs(4000),
    params:
        **call(
            "datasets.urls.fetch.fetch",
            fetching=lambda w: urls.pools[w.pool].fetching,
            work=lambda w: urls.work(w.pool, w.shard),
        ),
    shell:
        RUN


rule placeholders:
    """Images whose very bytes came from many URLs."""
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
        **call(
            "datasets.urls.placeholders.find",
            fetched=lambda w: compact(urls.fetched(w.pool)),
            at_least=lambda w: urls.pools[w.pool].placeholder_urls,
        ),
    shell:
        RUN


rule url_pool_shard:
    """Write one shard of what was downloaded."""
    input:
        urls="results/urls/{pool}/list.parquet",
        fetched="results/urls/{pool}/fetched/{shard}.parquet",
        placeholders="results/urls/{pool}/placeholders.parquet",
    output:
        tar="results/pools/{pool}/{shard}.tar",
        table="results/pools/{pool}/{shard}.parquet",
        counts="results/pools/{pool}/{shard}.json",
    log:
        "results/logs/pool/{pool}.{shard}.log",
    wildcard_constraints:
        pool=urls.pattern(),
    resources:
        **needs(2000),
    params:
        **call(
            "datasets.urls.shard.write_shard",
            work=lambda w: urls.work(w.pool, w.shard),
        ),
    shell:
        RUN
