# clipshift: which training data makes CLIP robust to distribution shift?
#
#   sources -> pool shards -> embeddings -> de-duplication -> margins, domains -> splits -> models
#                 |              |                             ^               -> evaluations
#              test sets --------+-----------------------------+               -> figures, report
#
# One file of workflow/rules for each stage; each section opens with its contract.
# A study is a configuration of this one chain: see config/README.md.
from snakemake.utils import min_version

min_version("9.0")


# Used only with `--software-deployment-method apptainer`; built from envs/clipshift.def.
container: "envs/clipshift.sif"


if not workflow.configfiles:

    configfile: f"{workflow.current_basedir}/config/mini.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/datasets.smk"
include: "workflow/rules/urls.smk"
include: "workflow/rules/captions.smk"
include: "workflow/rules/similarity.smk"
include: "workflow/rules/splits.smk"
include: "workflow/rules/classifiers.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/figures.smk"


onstart:
    begin()


# Last on the terminal: what the jobs of this run say, and why those failed that did.
onsuccess:
    tell(ok=True)


onerror:
    tell(ok=False)


localrules:
    all,
    effective_robustness,


rule all:
    default_target: True
    input:
        "results/report.html",
        at.evaluations(cfg.trained),
        at.evaluations(ev.every()),
        at.evaluations(ev.by_epoch()),
        [f"results/tables/{t}.csv" for t in controlled_tables(cfg)],
