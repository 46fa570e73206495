"""Families of domain classifiers from images to their table, by the functions of the steps."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from clipshift.classifiers import classifier, domain_labels, fit, score, thresholds
from clipshift.core.brace_ranges import numbered, sharded
from clipshift.core.files import sha256_bytes
from clipshift.datasets.shards import write_table, write_tar
from clipshift.datasets.tars import Sample
from clipshift.figures.kinds import domain_families
from clipshift.figures.kinds.domain_families import DomainFamilies
from clipshift.similarity import embed, encoders, open_clip_models
from clipshift.study.config.domains import Labels, Parts
from clipshift.study.config.load import load
from clipshift.study.layout.figures import Study
from clipshift.study.layout.study import Layout
from tests.conftest import ROOT, row

LABELS = Labels(
    datasets=["pool"],
    table={"photo": "natural", "drawing": "rendition"},
    paths={"ambiguous": ["c/both"]},
)
PARTS = Parts(validation=0.3, test=0.3)
IMAGES = 240
TOWER: dict[str, Any] = {
    "embed_dim": 8,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "patch_size": 8, "head_width": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1},
}


def texture(number: int) -> bytes:
    """Noise (a natural image), one colour (a rendition), or both side by side."""
    rng = np.random.default_rng(number)
    pixels = np.empty((48, 48, 3), np.uint8)
    pixels[:] = rng.integers(0, 256, 3)
    if number % 3 != 1:
        wide = 48 if number % 3 == 0 else 24
        pixels[:, :wide] = rng.integers(0, 256, (48, wide, 3))
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tar of textures, its sample table and its labels."""
    folder = tmp_path_factory.mktemp("pool")
    domains = [("photo", "c/plain"), ("drawing", "c/plain"), ("drawing", "c/both")]
    samples, rows = [], []
    for i in range(IMAGES):
        domain, category = domains[i % 3]
        samples.append(Sample(f"pool-{i:03d}", {"png": texture(i)}))
        hashed = sha256_bytes(samples[-1].image)
        rows.append(row("pool", f"{i:03d}", category, domain=domain, sha256=hashed))
    write_tar(folder / "0.tar", samples)
    write_table(folder / "0.parquet", rows)
    write_table(folder / "tested.parquet", [row("val", "other", domain="photo")])
    domain_labels.write_labels(
        [folder / "0.parquet"], LABELS, folder / "labels.parquet", folder / "labels.json"
    )
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small weights of every kind of file: torchvision's, and a style descriptor's."""
    import open_clip

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), folder / "resnet18.pth")
    open_clip_models.register("clipshift-families", TOWER, folder)
    visual = open_clip.create_model("clipshift-families", load_weights=False).visual
    state = {f"module.backbone.{k}": v for k, v in visual.state_dict().items() if k != "proj"}
    state["module.last_layer_style"] = torch.randn(16, 8)
    torch.save({"model_state_dict": state}, folder / "csd.bin")
    return folder


def blocks(weights: Path) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Classifiers and their encoders."""
    resnet = {"kind": "timm", "model": "resnet18.tv_in1k", "weights": f"{weights}/resnet18.pth"}
    maps = resnet | {"px": 64, "layers": ["conv1", "layer1.0.conv1"]}
    style = {"kind": "csd", "model": "clipshift-families", "weights": f"{weights}/csd.bin"}
    return {
        "gram": ({"kind": "centroid", "distance": "euclidean"},
                 maps | {"features": "gram", "dimensions": 512}),
        "pooled": ({"kind": "centroid", "balanced": True}, maps | {"features": "pooled"}),
        "style": ({"kind": "knn", "k": 5, "size": 60}, style),
        "ratio": ({"kind": "linear", "form": "density_ratio"}, resnet | {"px": 64}),
    }  # fmt: skip


def run(name: str, block: dict[str, Any], encoder: dict[str, Any], pool: Path, out: Path) -> Any:
    """One classifier from the images to its operating points: its files for the table."""
    spec = classifier.Spec.model_validate(
        {"classifier": block | {"encoder": name}, "encoder": encoder, "parts": PARTS}
    )
    vectors, table = out / "vectors", pool / "0.parquet"
    embed.embed(encoders.load(spec.encoder, "cpu"), pool / "0.tar", table, "0", vectors)
    model, record, parts = (out / f for f in ("model.npz", "record.json", "parts.parquet"))
    labels = [pool / "labels.parquet"]
    tested = [pool / "tested.parquet"]
    fit.write_fit(spec, labels, LABELS, tested, [vectors], [], model, record, parts)
    scores, counts = out / "scores/00000.parquet", out / "scores/00000.json"
    score.write_vector_scores(spec, model, record, vectors, "0", scores, counts)
    thresholds.write_points(parts, [scores], 0.9, None, out / "points.json")
    return {
        "points": out / "points.json",
        "parts": parts,
        "scores": [str(scores)],
        "records": record,
    }


def test_families_from_images_to_their_table(pool: Path, weights: Path, tmp_path: Path) -> None:
    made = {n: run(n, *both, pool, tmp_path / n) for n, both in blocks(weights).items()}
    files: dict[str, Any] = {"labels": []}
    for part in ("points", "parts", "records"):
        files[part] = {name: str(of[part]) for name, of in made.items()}
    files["scores"] = {name: [numbered(of["scores"])] for name, of in made.items()}
    block = DomainFamilies(classifiers=list(made))
    domain_families.table(block, files, Study(reference="r"), tmp_path / "table.csv")
    with (tmp_path / "table.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(r["classifier"], r["domain"]) for r in rows] == [
        (name, domain) for name in made for domain in ("natural", "rendition")
    ]
    assert {r["classifier"]: r["family"] for r in rows} == {
        "gram": "centroid",
        "pooled": "centroid",
        "style": "style descriptor",
        "ratio": "density ratio",
    }
    learned = {r["classifier"]: int(r["labels"]) for r in rows}
    assert learned["style"] == 60 < learned["gram"] and learned["pooled"] % 3 == 0
    for r in rows:
        low, mid, high = (float(r[f"average_precision{end}"]) for end in ("_low", "", "_high"))
        assert r["set"] == "test" and low < mid <= high
        # By chance it would be a third. Random weights know textures as far as second moments go.
        assert mid > {"pooled": 0.35, "style": 0.6}.get(r["classifier"], 0.9), r
        assert int(r["n"]) < IMAGES and 0 < int(r["positives"]) < int(r["n"])


@pytest.mark.parametrize("positives", [1, 19, 20, 21, 33, 57])
def test_a_perfect_detector(positives: int) -> None:
    """Shares that add up to a rounding above 1 are no fault; the interval is one-sided."""
    truth = np.arange(60) < positives
    found = domain_families.average_precision(truth, -np.arange(60.0))
    low = 0.025 ** (1 / positives)  # of so many successes in a row
    assert list(found.values()) == pytest.approx([1, low, 1])


def test_no_image_of_the_domain() -> None:
    found = domain_families.average_precision(np.zeros(3, bool), np.arange(3.0))
    assert set(found.values()) == {None}


def test_what_the_table_reads() -> None:
    cfg = load(ROOT / "config/laion400m.yaml")
    names = ["laion_ft_2p5k", "laion_centroid_vgg19_gram"]
    files = DomainFamilies(classifiers=names).files(Layout(cfg))
    home = "results/domains/laion"
    assert files["records"] == {n: f"{home}/classifiers/{n}/record.json" for n in names}
    assert files["points"] == {n: f"{home}/points/{n}.json" for n in names}
    # The labelled images alone, however large the pool is.
    assert [list(map(sharded, files["scores"][n])) for n in names] == [
        [[f"{home}/scores/{n}/laion_labelled/00000.parquet"]] for n in names
    ]
