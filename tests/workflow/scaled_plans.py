"""The full-scale plans as the tests run them: scaled, and without what is alike.

A study has many blocks that differ in a number or a name only (26 mixes, 13 sets). The lists here
say which of them stay; all that names another is left out with it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipshift.core.yaml_file import read_yaml
from clipshift.study.config import sweeps
from clipshift.study.config.load import merge, merged
from tests.workflow.runner import OVERLAYS, ROOT

LAION, INCAPS, YFCC = (
    ROOT / f"config/{name}.yaml" for name in ("laion400m", "imagenet_captions", "yfcc15m")
)
# Of each kind of block those that stay; all of the kinds that are not listed.
KEPT: dict[Path, dict[str, list[str]]] = {
    LAION: {
        "sets": ["imagenet_train", "imagenet_val", "imagenet_sketch", "dn_real"],
        "splits": [
            "laion", "laion_alone", "laion_pruned_sketch", "pruned_100M", "rand_100M",
            "near_sketch_100M", "far_sketch_100M", "laion_natural_57M", "laion_random_57M",
            "laion_rendition_16M", "laion_mix_41_16M",
        ],
        "reshard": ["similarity", "domains_large", "domains_random"],
        "domains.classifiers": [
            "laion_ft", "laion_renditions", "laion_ft_2p5k", "laion_dr_frozen", "laion_linear",
            "laion_prompts", "laion_centroid_vgg19_gram", "laion_style_centroid",
        ],
        "domains.clean": ["val_clean", "imagenet_sketch_clean", "dn_real_clean"],
        "figures.accuracy_vs_pruned": ["laion_sketch"],
        "figures.accuracy_vs_pruned.laion_sketch.lines": ["rand"],
    },
    INCAPS: {
        "splits": ["incaps_all", "incaps_25", "incaps_12"],
        "causes.models": ["incaps_clip", "incaps_clip_template_frozen", "incaps_classifier"],
        "causes.corpora": ["incaps_all_fields", "incaps_english", "incaps_template"],
        "causes.heads": ["name_alone", "probe"],
    },
    YFCC: {
        "models": ["rn50_yfcc", "b16_yfcc"],
        "causes.models": ["yfcc_clip_rn50", "yfcc_simclr_b16", "yfcc_noclip_b16"],
        "causes.heads": ["yfcc_probe"],
    },
}  # fmt: skip
# What else differs from the full-scale plan, beside the scale.
OVERLAYS_OF = {
    LAION: ("scaled-laion",),
    INCAPS: ("scaled-causes", "scaled-incaps"),
    YFCC: ("scaled-causes", "scaled-yfcc"),
}


def plan(study: Path) -> dict[str, Any]:
    """The raw configuration of a scaled study."""
    raw = sweeps.expanded(merged(study, OVERLAYS / "scaled.yaml"))
    dropped: set[str] = set()
    for place, names in KEPT[study].items():
        block = raw
        for key in place.split("."):
            block = block[key]
        assert set(names) <= block.keys()
        dropped |= block.keys() - set(names)
    smaller: dict[str, Any] = without(raw, dropped)
    for name in OVERLAYS_OF[study]:
        smaller = merge(smaller, read_yaml(OVERLAYS / f"{name}.yaml"))
    return smaller


def without(value: Any, names: set[str]) -> Any:
    """A configuration without some blocks, and without list entries that name them."""
    if isinstance(value, Mapping):
        kept = {k: without(v, names) for k, v in value.items() if k not in names}
        if "groups" in kept:  # of a figure; one of which nothing stays is none
            kept["groups"] = {k: v for k, v in kept["groups"].items() if v}
        return kept
    if isinstance(value, list):
        return [without(v, names) for v in value if not _touches(v, names)]
    return value


def _touches(value: Any, names: set[str]) -> bool:
    if isinstance(value, list):
        return any(_touches(part, names) for part in value)
    if isinstance(value, Mapping):  # a run of a model
        return any(part in names for part in value.values() if isinstance(part, str))
    # A condition is `split-model-protocol`.
    return isinstance(value, str) and not names.isdisjoint({value, *value.split("-")})
