"""The version of each step's code, part of its rule's parameters.

Snakemake does not see a change in an imported module, and a touched script would recompute days of
work. So a step's version says when its outputs change: raise it by hand in the same commit. A test
compares the modules' code with `tests/step_digests.json` and fails when it changed and the version
did not; `clipshift steps --record` records the new digests, also for an edit that changes no
output.
"""

import ast
import hashlib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Step:
    """A step's version, and the modules (files or folders of the package) that make its output."""

    version: int
    modules: tuple[str, ...]


# What every step on the similarity engine is made of.
ENGINE = ("engine", "similarity.py", "embeddings.py", "device.py")

SELECT = ("select.py", "shards.py")
# What every step on the domain classifiers is made of.
CLASSIFIERS = (
    "domains/classifier.py",
    "domains/finetune.py",
    "domains/forms.py",
    "domains/heads.py",
    "domains/parts.py",
    "embed.py",
    "embeddings.py",
    "encoders.py",
    "intervals.py",
    "labels.py",
    "models.py",
    "device.py",
    "tars.py",
    *SELECT,
)
# What every training is made of.
TRAINING = (
    "train.py",
    "trainer.py",
    "start.py",
    "launch.py",
    "processes.py",
    "train_data.py",
    "checkpoints.py",
    "filter.py",
    "guard.py",
    "select.py",
    "tars.py",
    "shards.py",
)
# Captions, and labels found in them.
CORPORA = (
    "causes/corpora.py",
    "causes/matcher.py",
    "causes/contract.py",
    "data/imagenet_wordnet_names.txt",
    "prompts.py",
)

# Queries over stored logits.
QUERIES = ("evaluation/views.py", "guard.py", "intervals.py")

STEPS = {
    "source": Step(1, ("sources", "shards.py")),
    "folder_pool": Step(1, ("folder_pool.py", "tars.py", "shards.py")),
    "folder_set": Step(1, ("folder_set.py", "prompts.py", "tars.py", "shards.py")),
    "url_list": Step(1, ("urls/listing.py",)),
    "fetch_urls": Step(
        1,
        (
            "urls/fetch.py",
            "urls/fetcher.py",
            "urls/addresses.py",
            "urls/web.py",
            "urls/reasons.py",
            "urls/paths.py",
            "urls/listing.py",
            "processes.py",
        ),
    ),
    "placeholders": Step(1, ("urls/placeholders.py",)),
    "url_pool_shard": Step(
        1,
        (
            "urls/shard.py",
            "urls/placeholders.py",
            "urls/listing.py",
            "urls/paths.py",
            "shards.py",
        ),
    ),
    "sets": Step(1, ("sets.py", "select.py", "shards.py")),
    "pool": Step(2, ("pool.py", "select.py", "shards.py")),
    "embed": Step(
        1,
        (
            "embed.py",
            "embeddings.py",
            "encoders.py",
            "models.py",
            "device.py",
            "tars.py",
            "shards.py",
        ),
    ),
    "folder_embeddings": Step(1, ("folder_embeddings.py", "embeddings.py", "tars.py", "shards.py")),
    "dedup_clusters": Step(
        1,
        (
            "dedup/clusters.py",
            "dedup/sample.py",
            "engine",
            "similarity.py",
            "embeddings.py",
            "device.py",
        ),
    ),
    "dedup_scores": Step(1, ("dedup/scores.py", *ENGINE)),
    "dedup_rules": Step(1, ("dedup/rules.py",)),
    "dedup_check": Step(
        1, ("dedup/check.py", "dedup/sample.py", "similarity.py", "embeddings.py", "device.py")
    ),
    "dedup_record": Step(1, ("dedup/record.py", "dedup/rules.py", "intervals.py")),
    "neighbours": Step(1, ("neighbours.py", "similarity.py", "embeddings.py", "device.py")),
    "margins": Step(3, ("margins.py", *ENGINE)),
    "splits": Step(2, ("splits.py", "recipes.py")),
    "captions": Step(1, ("captions.py", "tars.py", "shards.py")),
    "train": Step(1, TRAINING),
    "guard": Step(1, ("guard.py",)),
    "prompts": Step(1, ("prompts.py",)),
    "logits": Step(
        1,
        (
            "evaluation/logits.py",
            "intervals.py",
            "evaluation/protocols.py",
            "evaluation/views.py",
            "causes/towers.py",
            "causes/contract.py",
            "data/imagenet_class_indices.json",
            "models.py",
            "device.py",
            "labels.py",
            "prompts.py",
            "select.py",
            "tars.py",
            "shards.py",
        ),
    ),
    "evaluate": Step(2, ("evaluation/summary.py", *QUERIES)),
    "domain_labels": Step(1, ("domains/labels.py", "select.py", "tars.py", "shards.py")),
    "domain_fit": Step(2, ("domains/fit.py", "domains/labels.py", *CLASSIFIERS)),
    "domain_scores": Step(1, ("domains/score.py", *CLASSIFIERS)),
    "domain_points": Step(2, ("domains/points.py", "domains/parts.py", "intervals.py", *SELECT)),
    "domain_verdicts": Step(1, ("domains/verdicts.py",)),
    "domain_composition": Step(
        1,
        ("domains/composition.py", "domains/correct.py", "domains/parts.py", "recipes.py", *SELECT),
    ),
    "clean_sets": Step(1, ("domains/clean.py",)),
    "figures": Step(
        3,
        (
            "figures",
            "tables.py",
            "pruned_table.py",
            "published.py",
            "data/published_similarity_pruning.json",
            "data/published_domains.json",
            "domains/compare.py",
            "domains/parts.py",
            "domains/points.py",
            "correlation.py",
            "robustness",
            "evaluation/summary.py",
            *QUERIES,
            "select.py",
            "tars.py",
            "shards.py",
        ),
    ),
    "testbed": Step(
        1,
        (
            "robustness",
            "figures/testbed.py",
            "figures/robustness.py",
            "figures/lines.py",
            "figures/style.py",
            "intervals.py",
            *(
                f"data/reference/{name}.csv"
                for name in (
                    "imagenet_testbed_top1",
                    "imagenet_testbed_model_types",
                    "openclip_results",
                    "timm_results_imagenet",
                    "timm_results_imagenet_a",
                    "timm_results_imagenet_a_clean",
                    "timm_results_imagenet_r",
                    "timm_results_imagenet_r_clean",
                    "timm_results_imagenetv2_matched_frequency",
                    "timm_results_sketch",
                )
            ),
        ),
    ),
    "report": Step(5, ("report.py", "report_figures.py", "published.py", "data/report.html.j2")),
    "caption_fields": Step(
        1,
        (
            "causes/fields.py",
            "causes/contract.py",
            "sources",
            "fetch.py",
            "tars.py",
            "shards.py",
        ),
    ),
    "captioned_pool": Step(
        1,
        (
            "causes/join.py",
            "causes/contract.py",
            "pool.py",
            "select.py",
            "prompts.py",
            "shards.py",
        ),
    ),
    "corpus": Step(1, ("causes/language.py", *CORPORA)),
    "chosen": Step(2, ("causes/choose.py", "guard.py", "causes/contract.py")),
    "train_captions": Step(1, ("causes/clip.py", *TRAINING)),
    "train_vision": Step(
        1,
        (
            "causes/learn.py",
            "causes/contract.py",
            "causes/pictures.py",
            "causes/nt_xent.py",
            "causes/towers.py",
            "models.py",
            "device.py",
            *TRAINING,
        ),
    ),
    "causes_tables": Step(2, ("causes/tables.py", "intervals.py")),
    "causes_labels": Step(
        1, ("causes/statistics.py", "causes/language.py", "intervals.py", *CORPORA)
    ),
    "audit": Step(
        1,
        (
            "audit",
            "data/audit.html.j2",
            "data/audit.css",
            "data/audit.js",
            "similarity.py",
            "embeddings.py",
            "encoders.py",
            "models.py",
            "device.py",
            "intervals.py",
            "shards.py",
        ),
    ),
}


def version_of(step: str) -> int:
    """The version of a step's code."""
    return STEPS[step].version


def digest(step: str) -> str:
    """A hash of the code of a step's modules, blind to comments, docstrings and layout."""
    total = hashlib.sha256()
    for name in STEPS[step].modules:
        path = HERE / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            text = file.read_text()
            total.update(_code(text).encode() if file.suffix == ".py" else text.encode())
    return total.hexdigest()


def _code(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                del body[0]
    return _dump(tree)


def _dump(node: object) -> str:
    """As `ast.dump`, without empty fields: which of them are printed differs between Pythons."""
    if isinstance(node, list):
        return f"[{', '.join(map(_dump, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [f"{k}={_dump(v)}" for k, v in ast.iter_fields(node) if v is not None and v != []]
    return f"{type(node).__name__}({', '.join(fields)})"
