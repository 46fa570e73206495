# Two jobs that tell where they ran, for `clipshift cluster-check`: what they ask for is written by
# the same functions as of the jobs of a study.
#   in   config: gpus, the number that the second job asks for (0: there is no second job)
#   out  cpu.json, gpu.json
from clipshift.core.step import RUN, call
from clipshift.study import cluster
from clipshift.study.cluster import needs

cluster.prepare(shell)
KINDS = ["cpu", "gpu"] if config["gpus"] else ["cpu"]


localrules:
    all,


rule all:
    input:
        [f"{kind}.json" for kind in KINDS],


rule cpu:
    """As a shard of a pool, or a table."""
    output:
        "cpu.json",
    log:
        "cpu.log",
    resources:
        **needs(None, 2000),
    params:
        **call("apps.cluster_check.jobs.look", gpus=0),
    shell:
        RUN


rule gpu:
    """As an embedding of a shard."""
    output:
        "gpu.json",
    log:
        "gpu.log",
    resources:
        **needs(None, 32000, gpus=config["gpus"]),
    params:
        **call("apps.cluster_check.jobs.look", gpus=config["gpus"]),
    shell:
        RUN
