"""Studies of causes, planned: on the mini study, and at the paper's scale; no data is there."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from clipshift.core.brace_ranges import compact
from clipshift.core.errors import ClipshiftError
from clipshift.study.config.load import load, parse
from clipshift.study.config.study import Config
from clipshift.study.layout.causes import Causes
from clipshift.study.layout.study import Layout
from clipshift.study.planning.costs import job_cost
from tests.workflow.runner import ROOT, environment, planned

MINI = [ROOT / "config/mini.yaml", ROOT / "config/mini-causes.yaml"]
INCAPS = ROOT / "config/imagenet_captions.yaml"
YFCC = ROOT / "config/yfcc15m.yaml"


def slurm(folder: Path, config: Path, *words: str) -> str:
    """Output of `snakemake --profile slurm --configfile CONFIG -n` from the root."""
    options = ["--profile", "slurm", "--configfile", str(config), "-n", "--directory", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *options, "--", *words],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout + done.stderr


def jobs(text: str) -> dict[str, int]:
    found = re.findall(r"^([a-z_]+?)(?:_\d+)? +(\d+)$", text, flags=re.M)
    return {rule: int(n) for rule, n in found}


def test_the_overlay_trains_no_model_of_study_a_again(tmp_path: Path) -> None:
    words = ("--configfile", *map(str, MINI), "--", "results/tables/causes_runs.csv")
    found = planned(tmp_path, *words)
    assert found["train"] == 2  # study A's `full`, whose text tower and models it asks
    assert (found["train_captions"], found["train_vision"]) == (17, 22)
    cfg = load(*MINI)
    runs = sum(len(r.seeds) for r in cfg.causes.runs)
    assert runs == 17 + 22 + 2


def test_a_figure_of_a_cause_needs_only_its_runs(tmp_path: Path) -> None:
    words = ("--configfile", *map(str, MINI), "--", "results/figures/effective_robustness_size.svg")
    found = planned(tmp_path, *words)
    assert found["train_vision"] == 17 and "train_captions" not in found


def test_imagenet_captions(tmp_path: Path) -> None:
    found = jobs(slurm(tmp_path, INCAPS))
    expected = {"external_data": 1, "captioned_pool": 64, "train_captions": 10, "train_vision": 5}
    expected |= {"given_weights": 2}
    assert {rule: found.get(rule, 0) for rule in expected} == expected
    assert "embed" not in found and found["report_page"] == 1
    assert not list(tmp_path.glob("results/*"))


def test_yfcc15m(tmp_path: Path) -> None:
    text = slurm(tmp_path, YFCC)
    found = jobs(text)
    expected = {"folder_pool": 64, "pool_captions": 64, "train_captions": 2, "train_vision": 2}
    assert {rule: found.get(rule, 0) for rule in expected} == expected
    assert "embed" not in found
    train = text.split("rule train_vision:")[1].split("\n[", maxsplit=1)[0]
    assert "gpu=8" in train and "gpu_model=a100" in train


@pytest.mark.parametrize("config", [INCAPS, YFCC])
def test_preview(tmp_path: Path, config: Path) -> None:
    words = ["plan", "--configfile", str(config), "--directory", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "clipshift.apps.cli", *words],
        env=environment(), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (line,) = re.findall(r"^train_vision +\d+ +\S+ +(\S+)", done.stdout, flags=re.M)
    assert float(line.replace(",", "")) > 10  # GPU-hours
    assert "Not there yet" in done.stdout


def test_trainings_of_some_epochs_are_reckoned_by_their_split() -> None:
    incaps = load(INCAPS)
    epochs = {
        ("incaps_all", "incaps_classifier"): 32,
        ("incaps_25", "incaps_classifier"): 32 / 4,
        ("incaps_all", "incaps_classifier_90"): 90,
    }
    seconds = {
        (split, name): job_cost(incaps, "train_vision", {"split": split, "model": name}, 8).gpu
        for split, name in epochs
    }
    assert len({round(seconds[run] / epochs[run], 1) for run in epochs}) == 1
    with_text = job_cost(
        incaps, "train_captions", {"split": "incaps_all", "model": "incaps_clip"}, 8
    )
    assert with_text.gpu > seconds["incaps_all", "incaps_classifier"]


def test_command_lines_fit_the_shell() -> None:
    for config in (INCAPS, YFCC):
        causes = Causes(Layout(load(config)))
        for r in causes.block.runs:
            words = json.dumps(compact(causes.corpora(r.split, causes.spec(r.model).corpus)))
            assert len(words + json.dumps(causes.filtered(r.split, r.model))) < 4000


def broken(change: dict[str, object]) -> Config:
    raw = yaml.safe_load(MINI[0].read_text())
    overlay = yaml.safe_load(MINI[1].read_text())["causes"]
    raw["splits"] |= yaml.safe_load(MINI[1].read_text())["splits"]
    overlay["runs"] = overlay["runs"][:2]
    overlay["models"] = {"ce_table": overlay["models"]["ce_table"]}
    overlay["heads"] = {}
    for dotted, value in change.items():
        *parents, last = dotted.split(".")
        block = overlay
        for parent in parents:
            block = block[parent]
        block[last] = value
    return parse(raw | {"causes": overlay})


def model(objective: str, corpus: str, **more: object) -> dict[str, object]:
    return {"objective": objective, "base": "tiny", "corpus": corpus} | more


SELF = {"start": {"split": "photos_100", "model": "x", "seed": 0}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models.x": model("clip", "named")}, "corpus 'named' has no captions"),
        ({"models.x": model("cross_entropy", "pictures")}, "corpus 'pictures' has no labels"),
        ({"models.x": model("simclr", "nowhere")}, "'nowhere' is not one of"),
        ({"models.x": model("simclr", "named") | {"base": "tinny"}}, "'tinny' is not one of"),
        ({"models.tiny": model("simclr", "named")}, r"names \['tiny'\] are taken"),
        ({"models.x": model("simclr", "named", changes={"lr": -1})}, "causes.models.x.changes"),
        (
            {"models.x": model("clip", "title", changes={"read": "filter", "cache_px": None})},
            "needs a pool that is a folder",
        ),
        (
            {"models.x": model("simclr", "named", **SELF)},
            "models.x: `start` has no effect on the objective `simclr`; it is a key of cross_entr",
        ),
        ({"models.x": model("cross_entropy", "named", **SELF)}, "'photos_100-x-s0' is not one of"),
        (
            {
                "models.x": model("cross_entropy", "named", **SELF),
                "runs": [{"split": "photos_100", "model": "x", "seeds": [0]}],
            },
            "starts from itself",
        ),
        ({"runs": [{"split": "photos", "model": "ce_table", "seeds": [0]}]}, "'photos' is not one"),
        ({"corpora.table.labels": "tabel"}, r"corpora.table.labels: 'tabel' is not one of"),
        ({"corpora.table.template": "a photo"}, "`template` needs {class}"),
        ({"subsets.val": {"of": "sketch", "classes": ["animal", "food"]}}, r"\['val'\] are taken"),
        ({"matchers.named.multi": "some"}, "multi"),
    ],
)
def test_faults_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ClipshiftError, match=message):
        broken(change)


def test_the_unbroken_base_of_these_faults_is_valid() -> None:
    assert broken({}).causes.models
