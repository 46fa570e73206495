"""The full-scale plans, scaled by one key and run from end to end on small data in their formats.

What a plan's blocks repeat is left out (`scaled_plans`); every rule of the full plan runs.
"""

import csv
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import yaml

from clipshift.core.files import read_json, read_parquet
from clipshift.similarity.embeddings import read_all
from clipshift.study.config.load import load
from clipshift.study.config.study import Config
from tests.workflow import forkserver, scaled
from tests.workflow.runner import TIMEOUT, command, environment, planned
from tests.workflow.scaled_plans import INCAPS, LAION, YFCC, plan
from tests.workflow.test_slurm_submission import NAMES, Slurm

pytestmark = pytest.mark.scaled


class Ran(NamedTuple):
    """A scaled study that ran in a folder."""

    folder: Path
    cfg: Config
    rules: set[str]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """For PATH: steps that need no start of Python each."""
    with forkserver.serving(tmp_path_factory.mktemp("steps") / "python") as path:
        yield path


@pytest.fixture(scope="module")
def by_kind(study: Path) -> scaled.Images:
    return scaled.Images(study)


def written(folder: Path, study: Path, by_kind: scaled.Images) -> Path:
    """The user's data of a scaled study, and its configuration."""
    raw = plan(study) | {"data": str(folder / "data")}
    if study == LAION:
        small = f"local-dir:{scaled.encoder(folder / 'encoder', by_kind)}"
        open_clip = [n for n, block in raw["encoders"].items() if block["kind"] == "open_clip"]
        encoder = {"model": small, "pretrained": "random weights, whitened"}
        raw["scale"]["encoders"] = dict.fromkeys(open_clip, encoder) | scaled.SMALLER
    config = folder / "scaled.yaml"
    config.write_text(yaml.safe_dump(raw, sort_keys=False))
    cfg = load(config)
    scaled.WRITERS[cfg.study](folder / "data", cfg, by_kind)
    return config


def run(folder: Path, study: Path, by_kind: scaled.Images, python: Path) -> Ran:
    config = written(folder, study, by_kind)
    env = environment()
    done = subprocess.run(
        command(folder, config=config), env=env | {"PATH": f"{python}{os.pathsep}{env['PATH']}"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
    return Ran(folder, load(config), finished(done.stdout))


def finished(output: str) -> set[str]:
    """Rules of which a job ended well, as `planned` names them."""
    return {*re.findall(r"^Finished jobid: \d+ \(Rule: (\w+?)(?:_\d+)?\)", output, flags=re.M)}


@pytest.fixture(scope="module")
def laion(tmp_path_factory: pytest.TempPathFactory, by_kind: scaled.Images, python: Path) -> Ran:
    return run(tmp_path_factory.mktemp("laion"), LAION, by_kind, python)


@pytest.fixture(scope="module")
def incaps(tmp_path_factory: pytest.TempPathFactory, by_kind: scaled.Images, python: Path) -> Ran:
    return run(tmp_path_factory.mktemp("incaps"), INCAPS, by_kind, python)


@pytest.fixture(scope="module")
def yfcc(tmp_path_factory: pytest.TempPathFactory, by_kind: scaled.Images, python: Path) -> Ran:
    """Each of its jobs is submitted by the slurm profile, and the script that sbatch gets runs."""
    folder = tmp_path_factory.mktemp("yfcc")
    config = written(folder, YFCC, by_kind)
    slurm = Slurm(folder / "slurm", NAMES | {"scratch": f"{folder}/scratch", "jobs": 3})
    slurm.env["PATH"] = f"{python}{os.pathsep}{slurm.env['PATH']}"
    (slurm.folder / "run").touch()
    output = slurm.snakemake(folder, config=config, timeout=TIMEOUT)
    submitted = {job["rule"] for job in slurm.submitted()}
    assert {"folder_pool", "train_captions", "train_vision", "logits", "corpus"} <= submitted
    return Ran(folder, load(config), finished(output))


STUDIES = {"laion": LAION, "incaps": INCAPS, "yfcc": YFCC}


@pytest.mark.parametrize("name", STUDIES)
def test_every_rule_of_the_full_plan_ran(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    ran: Ran = request.getfixturevalue(name)
    full = planned(tmp_path, config=STUDIES[name])
    assert ran.rules == full.keys()


@pytest.mark.parametrize("name", STUDIES)
def test_nothing_is_left_to_do_and_every_figure_is_there(
    name: str, request: pytest.FixtureRequest
) -> None:
    ran: Ran = request.getfixturevalue(name)
    assert planned(ran.folder, config=ran.folder / "scaled.yaml") == {}
    page = (ran.folder / "results/report.html").read_text()
    for _, figure, block in ran.cfg.figures.blocks():
        for file in (*block.image(figure), *block.tables(figure)):
            assert (ran.folder / file).stat().st_size > 0
    assert ran.cfg.study in page and ran.cfg.study.endswith("_scaled")
    images = {name: block.samples for name, block in ran.cfg.sets.items()}  # type: ignore[union-attr]
    for rows in (ran.folder / "results/logits").glob("*/*.parquet"):
        assert len(read_parquet(rows)) == images[rows.parent.name]


@pytest.mark.parametrize("name", STUDIES)
def test_a_pool_is_counted_to_the_last_sample(name: str, request: pytest.FixtureRequest) -> None:
    ran: Ran = request.getfixturevalue(name)
    lost = {"image missing": 1, "no such class folder": 1}
    tars = getattr(ran.cfg.pools[ran.cfg.pool], "tars", 0)
    lost = {"failed_to_download": tars} if tars else lost
    entry = read_json(ran.folder / f"results/pools/{ran.cfg.pool}/manifest.json")["account"]
    samples = ran.cfg.pools[ran.cfg.pool].samples  # type: ignore[union-attr]
    assert entry["out"] == samples and entry["in"] == samples + sum(lost.values())
    assert entry["rejected"] == lost


def embedded(ran: Ran, name: str) -> tuple[np.ndarray, list[str]]:
    """(N, D) float64 and keys, in the order of keys."""
    rows = read_all(ran.folder / f"results/embeddings/{ran.cfg.encoder}/{name}")
    order = np.argsort(rows.keys)
    return rows.vectors[order].astype(np.float64), [rows.keys[i] for i in order]


def kept(ran: Ran, split: str) -> set[str]:
    table = read_parquet(ran.folder / f"results/splits/{split}.parquet", ["key", "kept"])
    return set(table.filter(table["kept"])["key"].to_pylist())


def test_duplicates_of_laion(laion: Ran) -> None:
    """A point with an earlier one of its cluster above the threshold; brute force."""
    x, keys = embedded(laion, "laion400m")
    home = laion.folder / f"results/dedup/laion400m/{laion.cfg.encoder}/clusters"
    clusters = np.concatenate([np.load(file) for file in sorted(home.glob("*.npy"))])
    rows = read_all(laion.folder / f"results/embeddings/{laion.cfg.encoder}/laion400m")
    of = dict(zip(rows.keys, clusters.tolist(), strict=True))
    near = x @ x.T > laion.cfg.dedup.threshold
    alone = [
        key for i, key in enumerate(keys) if not any(near[i, j] and of[keys[j]] == of[key]
                                                      for j in range(i))
    ]  # fmt: skip
    assert kept(laion, "laion_alone") == set(alone)
    assert 150 < len(alone) <= 200  # a third is there twice


def test_sizes_and_orders_of_laions_splits(laion: Ran) -> None:
    share = 300 / 407_000_000
    for name, millions in (("rand_100M", 100), ("far_sketch_100M", 100), ("near_sketch_100M", 100),
                           ("laion_natural_57M", 57), ("laion_rendition_16M", 16),
                           ("laion_mix_41_16M", 57), ("pruned_100M", 100)):  # fmt: skip
        assert abs(len(kept(laion, name)) - millions * 1e6 * share) <= 1
    x, keys = embedded(laion, "laion400m")
    alone = kept(laion, "laion_alone")
    for name, sets, first in (("far_sketch_100M", ["imagenet_sketch"], -1),
                              ("near_sketch_100M", ["imagenet_sketch"], 1),
                              ("pruned_100M", laion.cfg.test_sets, -1)):  # fmt: skip
        best = np.max([(x @ embedded(laion, s)[0].T).max(1) for s in sets], axis=0)
        chosen = kept(laion, name)
        inside = [s for s, key in zip(best, keys, strict=True) if key in chosen]
        outside = [s for s, key in zip(best, keys, strict=True) if key in alone - chosen]
        assert max(first * s for s in inside) <= min(first * s for s in outside) + 1e-6


def test_domains_of_laions_splits(laion: Ran) -> None:
    tables = (laion.folder / "results/domains/laion/verdicts/laion400m").glob("*.parquet")
    verdict = {row["key"]: row["verdict"] for t in tables for row in read_parquet(t).to_pylist()}
    assert {verdict[key] for key in kept(laion, "laion_natural_57M")} == {"natural"}
    mix = [verdict[key] for key in kept(laion, "laion_mix_41_16M")]
    assert (mix.count("natural"), mix.count("rendition")) == (30, 12)


def test_trainings_see_the_epochs_of_their_split(laion: Ran) -> None:
    for split in laion.cfg.trained:
        run = f"{split}-{laion.cfg.model_of(split)}-s0"
        record = read_json(laion.folder / f"results/models/{run}/record.json")
        assert record["split_samples"] == len(kept(laion, split))
        epochs = record["samples_seen"] / record["split_samples"]
        assert 6 <= epochs < 6 + 6 * 16 / record["split_samples"]  # whole batches each


def table(ran: Ran, name: str) -> list[dict[str, str]]:
    with (ran.folder / f"results/tables/{name}.csv").open(newline="") as file:
        return [*csv.DictReader(file)]


def test_families_of_laions_classifiers(laion: Ran) -> None:
    """Of encoders of every kind; every second image of a set is labelled by people."""
    assert laion.cfg.domains
    rows = table(laion, "domain_families_laion")
    assert {row["classifier"] for row in rows} == laion.cfg.domains.classifiers.keys()
    encoders = {laion.cfg.encoders[row["encoder"]].kind for row in rows}
    assert encoders == {"open_clip", "timm", "csd"}
    assert {row["family"] for row in rows} == {
        "centroid", "density ratio", "fine-tuning", "linear", "prompts", "style descriptor",
    }  # fmt: skip
    assert {row["labels"] for row in rows if row["classifier"] == "laion_ft_2p5k"} == {"25"}
    for row in table(laion, "domain_clean_laion"):
        assert 0 < int(row["labelled_of_domain"]) <= int(row["labelled"]) <= 6


def test_evaluations_of_every_epoch(laion: Ran) -> None:
    found = {
        (row["split"], row["epoch"]) for row in table(laion, "accuracy_by_epoch_laion_domains")
    }
    splits = ("laion_natural_57M", "laion_random_57M")
    assert found == {(split, str(epoch)) for split in splits for epoch in range(1, 7)}


def test_labels_found_in_yfccs_texts(yfcc: Ran) -> None:
    """A title that names one class gives its label; nobody is left out without a reason."""
    tars = yfcc.cfg.pools["yfcc15m"].tars  # type: ignore[union-attr]
    chosen = read_parquet(yfcc.folder / "results/chosen/yfcc_all-yfcc_cls.parquet").to_pylist()
    named = 0
    for row in (row for row in chosen if row["kept"]):
        image = int(row["key"][5:]) * tars + int(row["key"][:5])  # as they were dealt out
        if image % 2:
            assert row["labels"] == [image // 2 % scaled.NAMED]
            named += 1
    entry = read_json(yfcc.folder / "results/chosen/yfcc_all-yfcc_cls.json")
    assert 400 < named <= entry["out"]
    assert entry["in"] == 1000 == entry["out"] + sum(entry["rejected"].values())


def test_both_conditions_of_imagenet_captions_see_the_same_images(incaps: Ran) -> None:
    """But those that the corpus leaves out: titles of another script are no English caption."""
    chosen = {
        name: read_json(incaps.folder / f"results/chosen/incaps_all-{name}.json")["out"]
        for name in ("incaps_all_fields", "incaps_template")
    }
    assert set(chosen.values()) == {1000}
    sizes = {s: len(kept(incaps, s)) for s in incaps.cfg.splits}
    assert sizes == {"incaps_all": 1000, "incaps_25": 250, "incaps_12": 125}
    for name, n in (("incaps_25", 250), ("incaps_12", 125)):
        record = incaps.folder / f"results/models/{name}-incaps_classifier-s0/record.json"
        assert json.loads(record.read_text())["split_samples"] == n
