# clipshift: which training data makes CLIP robust to distribution shift?
#
#   sources -> pool shards -> embeddings -> de-duplication -> margins, domains -> splits -> models
#                 |              |                             ^               -> evaluations
#              test sets --------+-----------------------------+               -> figures, report
#
# Each arrow is one file of workflow/rules; each rules file opens with its contract.
# A study is a configuration of this one chain: see config/README.md.
from snakemake.utils import min_version

min_version("9.0")


# Used only with `--software-deployment-method apptainer`; built from envs/clipshift.def.
container: "envs/clipshift.sif"


if not workflow.configfiles:

    configfile: f"{workflow.basedir}/config/mini.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/sources.smk"
include: "workflow/rules/folders.smk"
include: "workflow/rules/urls.smk"
include: "workflow/rules/pool.smk"
include: "workflow/rules/sets.smk"
include: "workflow/rules/embed.smk"
include: "workflow/rules/dedup.smk"
include: "workflow/rules/margins.smk"
include: "workflow/rules/splits.smk"
include: "workflow/rules/domains.smk"
include: "workflow/rules/clean.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/causes.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/robustness.smk"
include: "workflow/rules/report.smk"


onstart:
    at.made.save(Path(os.environ[made.VARIABLE]))
    if workflow.non_local_exec:
        refuse_leftovers()
    shared_folder.save(cfg)


localrules:
    all,
    effective_robustness,


rule all:
    default_target: True
    input:
        "results/report.html",
        at.evaluations(cfg.trained),
        at.evaluations(ev.every()),
        [f"results/tables/{t}.csv" for t in controlled_tables(cfg)],
