"""What published models say of the causes: who is compared with the line, and the sentence.

Each claim is one figure of real models. Its sentence is computed from its rows, so that it cannot
say what the numbers do not.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from clipshift.core.errors import ClipshiftError
from clipshift.evaluation.robustness.lines import Line, fit
from clipshift.evaluation.robustness.points import Points
from clipshift.evaluation.robustness.shifts import SHIFTS, Shift
from clipshift.evaluation.robustness.sources import TABLES, testbed
from clipshift.evaluation.robustness.testbed import baseline_models, compare, line_of
from clipshift.study.config.robustness import Robustness

Row = dict[str, Any]
MINUS = "\N{MINUS SIGN}"
# Points of rho that count as on the line.
WITHIN = 3.0
FOUR = ("v2", "sketch", "r", "objectnet")


# Models that a line of those shown needs to be drawn.
ENOUGH = 5


@dataclass(frozen=True)
class Group:
    """Models of one published table whose names a pattern finds; marks name some in the figure."""

    label: str
    table: str
    pattern: str
    marks: dict[str, str] = field(default_factory=dict)

    def models(self) -> list[str]:
        names = [m for m in TABLES[self.table]().values if re.search(self.pattern, m)]
        if not names:
            raise ClipshiftError(f"no model of {self.table} is called {self.pattern!r}")
        return sorted(names)


@dataclass(frozen=True)
class Claim:
    """One comparison: groups of models, shifts, which baseline is drawn, pairs to join.

    `own_line` names a line through the models shown, drawn where there are `ENOUGH`; `gap` is the
    shift and the model at which the distance to the line is named.
    """

    groups: tuple[Group, ...]
    shifts: tuple[str, ...]
    extended: bool
    sentence: Callable[[list[Row]], str]
    pairs: tuple[tuple[str, str], ...] = ()
    own_line: str = ""
    gap: tuple[str, str] = ("", "")


def shown(claim: Claim, shift: Shift, level: float) -> dict[str, Points]:
    """Per group the points that have what the shift needs."""
    points_of = {}
    for group in claim.groups:
        points = TABLES[group.table]().points(shift, level, group.models())
        if points is not None:
            points_of[group.label] = points
    return points_of


def own_line(claim: Claim, groups: dict[str, Points], cfg: Robustness) -> Line | None:
    """The line through the models shown on a shift, if the claim asks for one."""
    points = Points.joined(list(groups.values()))
    if not claim.own_line or len(points.models) < ENOUGH:
        return None
    return fit(points, cfg.space, draws=cfg.draws, seed=cfg.seed, level=cfg.level)


def drawn_baseline(claim: Claim, cfg: Robustness) -> str:
    """Name of the baseline whose line is drawn."""
    return cfg.extended if claim.extended else cfg.baseline


def baseline_points(cfg: Robustness, baseline: str, shift: Shift) -> Points:
    """The models of a baseline, to be drawn behind the others."""
    models, _ = baseline_models(cfg.baselines[baseline], shift)
    points = testbed().points(shift, cfg.level, models)
    assert points is not None  # its line was fitted
    return points


def lines_of(claim: Claim, cfg: Robustness, shift: Shift) -> dict[str, Line]:
    """The line of every baseline; of those with models that are shown, also without these."""
    models = {m for g in claim.groups if g.table == "testbed" for m in g.models()}
    lines = {}
    for name in cfg.baselines:
        lines[name] = line_of(cfg, name, shift)[0]
        shown_models = models & {m for piece in lines[name].pieces for m in piece.models}
        if shown_models:
            line, _ = line_of(cfg, name, shift, without=frozenset(shown_models))
            lines[f"{name}, without those shown"] = line
    return lines


def claim_rows(claim: Claim, cfg: Robustness) -> list[Row]:
    """One row per shift, baseline and model; accuracies and rho in %."""
    rows = []
    for shift in map(SHIFTS.__getitem__, claim.shifts):
        groups = shown(claim, shift, cfg.level)
        for baseline, line in lines_of(claim, cfg, shift).items():
            for label, points in groups.items():
                for r in compare(line, points):
                    rows.append(
                        {"shift": shift.name, "in_distribution": shift.on.name}
                        | {"baseline": baseline, "group": label, "model": r.model}
                        | {"id_accuracy": 100 * r.x[0], **r.percent}
                        | {"extrapolated": r.extrapolated}
                    )
    return rows


def _pick(rows: list[Row], **wanted: Any) -> list[Row]:
    return [r for r in rows if all(r[key] == value for key, value in wanted.items())]


def _mean(rows: Sequence[Row], key: str = "rho") -> float:
    return float(sum(r[key] for r in rows) / len(rows))


def _names(shifts: Sequence[str]) -> str:
    titles = [SHIFTS[s].title for s in shifts]
    return ", ".join(titles[:-1]) + " and " + titles[-1]


def signed(value: float) -> str:
    """One decimal, with a sign that typesets.

    >>> signed(-0.26), signed(0.04)
    ('−0.3', '0.0')
    """
    text = f"{value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", MINUS)


def _interval(row: Row) -> str:
    return f"{signed(row['rho'])} ({signed(row['rho_low'])} to {signed(row['rho_high'])})"


def _clip(rows: list[Row]) -> str:
    rn50 = {r["shift"]: r for r in rows if r["model"] == "resnet50_clip_zeroshot"}
    parts = [f"{_interval(rn50[s])} on {SHIFTS[s].title}" for s in (*FOUR, "a")]
    above = _pick(rows, shift="average")
    where = "above" if all(r["rho_low"] > 0 for r in rn50.values()) else "not always above"
    return (
        f"CLIP RN50 zero-shot lies {where} the line of ImageNet models: rho is {', '.join(parts)}; "
        f"over all {len(above)} CLIP models of OpenAI, rho on {SHIFTS['average'].named} is "
        f"{signed(min(r['rho'] for r in above))} to {signed(max(r['rho'] for r in above))} points."
    )


def _subsampling(rows: list[Row]) -> str:
    part = [r for r in rows if "subsample_1_of" in r["model"] and r["shift"] in FOUR]
    on_val = sorted(r["id_accuracy"] for r in _pick(rows, shift="v2"))
    far = max(part, key=lambda r: abs(r["rho"]))
    where = "along" if abs(far["rho"]) <= WITHIN else "off"
    denominator = re.findall(r"1_of_(\d+)", far["model"])[0]
    return (
        f"Taking 1/2 to 1/32 of ImageNet moves a ResNet-50 {where} the line, from "
        f"{on_val[-1]:.1f} to {on_val[0]:.1f} % on ImageNet: rho is never further than "
        f"{abs(far['rho']):.1f} points from zero on {_names(FOUR)} "
        f"({signed(far['rho'])} for 1/{denominator} on {SHIFTS[far['shift']].title}), "
        f"and {signed(_mean(part))} on average."
    )


def _self_supervised(rows: list[Row]) -> str:
    part = [r for r in rows if r["model"].startswith("resnet50") and r["shift"] in FOUR]
    high, low = (f(part, key=lambda r: r["rho"]) for f in (max, min))
    within = sum(abs(r["rho"]) <= WITHIN for r in part)
    decision = "give no" if high["rho"] <= WITHIN else "may give some"
    mean = {m: _mean(_pick(part, model=m)) for m in dict.fromkeys(r["model"] for r in part)}
    names = ", ".join(f"{m} {signed(v)}" for m, v in mean.items())
    return (
        f"Contrastive losses on ImageNet alone {decision} effective robustness: of {len(part)} "
        f"points of self-supervised ResNet-50s on {_names(FOUR)}, {within} lie within "
        f"{WITHIN:g} points of zero; the highest is {signed(high['rho'])} ({high['model']} on "
        f"{SHIFTS[high['shift']].title}), the lowest {signed(low['rho'])} ({low['model']} on "
        f"{SHIFTS[low['shift']].title}). Means over the four: {names}."
    )


def _data_source(rows: list[Row]) -> str:
    groups = dict.fromkeys(r["group"] for r in rows)
    parts = []
    for group in groups:
        each = [
            f"{signed(_mean(group_rows))} on {SHIFTS[s].named}"
            for s in ("v2", "sketch", "average")
            if (group_rows := _pick(rows, shift=s, group=group))
        ]
        count = len({r["model"] for r in rows if r["group"] == group})
        parts.append(f"{group} ({count} models) {', '.join(each)}")
    return (
        "Among CLIP models, which share their loss, rho differs with the source of the data; its "
        f"mean is: {'; '.join(parts)}."
    )


def _fine_tuned(rows: list[Row]) -> str:
    moved, left = [], []
    for shift in dict.fromkeys(r["shift"] for r in rows):
        before = _pick(rows, shift=shift, group="zero-shot")
        after = _pick(rows, shift=shift, group="fine-tuned on ImageNet")
        title, was, now = SHIFTS[shift].title, _mean(before), _mean(after)
        moved.append(f"{signed(was)} to {signed(now)} on {title} ({len(before)} pairs)")
        left.append(f"{100 * now / was:.0f} % on {title}")
    return (
        "Fine-tuning CLIP's image tower with a linear head on ImageNet takes its mean rho from "
        f"{', '.join(moved)}: without any text at test time, what is left is {', '.join(left)}."
    )


SAME_TOWER = (
    ("ViT-B-32 openai", "vit_base_patch32_clip_224.openai_ft_in1k @224"),
    ("ViT-B-16 openai", "vit_base_patch16_clip_224.openai_ft_in1k @224"),
    ("ViT-L-14 openai", "vit_large_patch14_clip_224.openai_ft_in1k @224"),
    ("ViT-B-32 laion2b_s34b_b79k", "vit_base_patch32_clip_224.laion2b_ft_in1k @224"),
    ("ViT-B-16 laion2b_s34b_b88k", "vit_base_patch16_clip_224.laion2b_ft_in1k @224"),
    ("ViT-L-14 laion2b_s32b_b82k", "vit_large_patch14_clip_224.laion2b_ft_in1k @224"),
    ("ViT-H-14 laion2b_s32b_b79k", "vit_huge_patch14_clip_224.laion2b_ft_in1k @224"),
)


def _exactly(names: Sequence[str]) -> str:
    return f"^({'|'.join(map(re.escape, names))})$"


CLAIMS = {
    "clip": Claim(
        (
            Group(
                "CLIP zero-shot, testbed",
                "testbed",
                "_clip_zeroshot$",
                {"resnet50_clip_zeroshot": "RN50", "vit_b_32_clip_zeroshot": "B/32"},
            ),
            # RN50 and ViT-B/32 are in the testbed, and `quickgelu` rows repeat others.
            Group(
                "CLIP zero-shot, open_clip's table",
                "open_clip",
                "^(RN101|RN50x4|RN50x16|RN50x64|ViT-B-16|ViT-L-14|ViT-L-14-336) openai$",
            ),
        ),
        ("v2", "sketch", "r", "a", "objectnet", "average"),
        False,
        _clip,
        own_line="line of the CLIP models",
        gap=("average", "resnet50_clip_zeroshot"),
    ),
    "subsampling": Claim(
        (
            Group(
                "ResNet-50 on 1, 1/2, ... 1/32 of ImageNet",
                "testbed",
                r"^resnet50_imagenet_(100percent|subsample_1_of_\d+)_batch64_original_images$",
                {
                    "resnet50_imagenet_100percent_batch64_original_images": "1",
                    **{
                        f"resnet50_imagenet_subsample_1_of_{n}_batch64_original_images": f"1/{n}"
                        for n in (2, 4, 8, 16, 32)
                    },
                },
            ),
        ),
        ("v2", "sketch", "r", "a", "objectnet", "average"),
        True,
        _subsampling,
    ),
    "self_supervised": Claim(
        (
            Group(
                "SimCLRv2, linear probe", "testbed", r"^resnet\d+(_3x)?_simclrv2_linear_probe_tf"
            ),
            Group("SimCLRv2, fine-tuned", "testbed", r"^resnet\d+(_3x)?_simclrv2_finetuned_100pct"),
            Group("SwAV", "testbed", "^resnet50_swav$"),
            Group("SimSiam", "testbed", "^resnet50_simsiam$"),
        ),
        ("v2", "sketch", "r", "a", "objectnet", "average"),
        False,
        _self_supervised,
    ),
    "data_source": Claim(
        (
            Group("CommonPool and DataComp", "open_clip", r" (commonpool|datacomp)_[mlx]+_\w+$"),
            Group("CC-12M", "open_clip", "cc12m$"),
            Group("LAION-2B", "open_clip", r"^(ViT|convnext).* laion2b_\w+$"),
            Group("LAION-400M", "open_clip", r"^(ViT|convnext).* laion400m_\w+$"),
            Group("YFCC-15M", "open_clip", "yfcc15m$"),
            Group("OpenAI's 400M", "open_clip", r"(?<!quickgelu) openai$"),
        ),
        ("v2", "sketch", "average"),
        True,
        _data_source,
    ),
    "fine_tuned": Claim(
        (
            Group("zero-shot", "open_clip", _exactly([a for a, _ in SAME_TOWER])),
            Group("fine-tuned on ImageNet", "timm", _exactly([b for _, b in SAME_TOWER])),
        ),
        ("v2", "sketch"),
        False,
        _fine_tuned,
        SAME_TOWER,
    ),
}
