"""The examples of docs/extending.md, as they stand on the page, in a copy of the package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from clipshift.core.step import PACKAGE
from tests.conftest import ROOT

PAGE = (ROOT / "docs/extending.md").read_text()
# A file's place, its content, and what a configuration says of it.
EXAMPLE = re.compile(
    r"The file is\n`workflow/(?P<place>[\w/.]+)`:\n\n```python\n(?P<code>.*?)```\n\n"
    r"In a configuration:\n\n```yaml\n(?P<keys>.*?)```\n",
    re.DOTALL,
)
# The block of a test set, which needs no file.
SET = re.compile(r"is a block and no code\..*?```yaml\n(?P<keys>.*?)```\n", re.DOTALL)

# What is done with the copy: the study with the page's keys is read, and its blocks are used.
PROGRAM = """
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from clipshift.core import step
from clipshift.core.versions import closure
from clipshift.figures.kinds import split_sizes
from clipshift.similarity import encoders
from clipshift.study.config.load import load
from clipshift.study.definitions import definitions
from clipshift.study.layout.figures import figure_inputs, figure_study
from clipshift.study.layout.study import Layout
from tests.unit.study import kept, make_split, make_study

folder = Path(sys.argv[1])
assert step.PACKAGE == folder / "clipshift"
cfg = load(Path("tests/unit/study.yaml"), folder / "page.yaml")
recipe = cfg.splits["band_sketch"]
at = Layout(cfg)
assert at.driving_sets("band_sketch") == ["sketch"]
assert definitions(cfg)["splits"]["band_sketch"]
assert at.encoder_files("grid4") == [] and "grid4" in at.encoder_pattern(folders=False)

study = make_study(folder / "study")
fields = recipe.model_dump(exclude={"recipe", "seeds", "model"})
rows = make_split(study, folder / "band.parquet", recipe.recipe, **fields)
best = {key: study.similarity("sketch", [key]).max() for key in study.pool.keys}
candidates = {r["key"] for r in rows if r["reason"] in ("kept", "outside the band")}
wanted = {key for key in candidates if recipe.low <= np.float32(best[key]) <= recipe.high}
assert kept(rows) == wanted and 0 < len(wanted) < len(candidates)

images = [Image.new("RGB", (20, 10), colour) for colour in ("black", "red")]
vectors = encoders.load(cfg.encoders["grid4"], "cpu").encode(images)
assert vectors.shape == (2, 48) and np.allclose(np.linalg.norm(vectors, axis=1), 1)
assert np.allclose(vectors[0], vectors[0, 0]) and not np.allclose(vectors[0], vectors[1])

(kind, name, block), = [b for b in cfg.figures.blocks() if b[0] == "split_sizes"]
inputs = figure_inputs(at, kind, name)
assert inputs == [f"results/splits/{split}.json" for split in ("full", "rand", "pruned")]
assert block.tables(name) == ["results/tables/split_sizes_all.csv"] and block.image(name) == []
files = {"counts": {}}
for n, split in enumerate(block.splits):
    files["counts"][split] = str(folder / f"{split}.json")
    Path(files["counts"][split]).write_text(json.dumps({"points_kept": n}))
split_sizes.table(block, files, figure_study(at, kind, name), folder / "sizes.csv")
assert (folder / "sizes.csv").read_text() .split() == ["split,kept", "full,0", "rand,1", "pruned,2"]

from sklearn.naive_bayes import GaussianNB

import yaml
from clipshift.study.config.classifier_base import Examples, classifier

keys = yaml.safe_load((folder / "domains.yaml").read_text())["classifiers"]["gaussian_b16"]
spec = classifier.blocks["gaussian"](**keys)
rng = np.random.default_rng(0)
x, y = rng.normal(size=(60, 5)) + np.repeat(np.eye(3, 5) * 3, 20, axis=0), np.repeat(range(3), 20)
train = Examples(x, y, 3)
found = spec.model(spec.fit(train, train, None), 3, None)(x)
right = GaussianNB(var_smoothing=1e-3).fit(x, y).predict_joint_log_proba(x)
assert np.allclose(found - found[:, :1], right - right[:, :1])

import torch
from clipshift.evaluation.protocols import load as load_model
from clipshift.study.config import causes
from clipshift.training.loop import Gradients
from clipshift.training.towers import build

spec = cfg.causes.models["several"]
tower = {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16}
text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
nano = {"embed_dim": 8, "vision_cfg": tower, "text_cfg": text}
settings = causes.training(cfg, "several").model_copy(update={"model": nano})
model = build(settings, spec, 3, 0, folder)
views = torch.rand(4, 3, 32, 32)
targets = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0.5, 0, 0.5], [0, 0, 0]])
logits = model(views).detach().double().numpy()
there, p = targets.numpy() > 0, 1 / (1 + np.exp(-logits))
right = -np.where(there, 3 * np.log(p), np.log(1 - p)).mean()
cpu, scaler = torch.device("cpu"), torch.amp.GradScaler("cpu", enabled=False)
for parts in (1, 2):
    loss = Gradients(model, spec, "fp32", parts, cpu, scaler)(views, targets)
    assert np.isclose(loss, right), (parts, loss, right)
assert spec.refused(settings.model_copy(update={"arguments": ["--eps=1"]}))
torch.save(model.state_dict(), folder / "several.pt")
record = {"training": settings.model_dump(), "controlled": spec.model_dump(), "classes": [*"abc"]}
assert load_model(record, folder / "several.pt", folder).layer is not None

from clipshift.datasets.formats import FORMATS, open_dataset, recognise
from clipshift.datasets.images import decode

pixels, labels = rng.integers(0, 256, (5, 28, 28, 3), dtype=np.uint8), np.arange(5)[:, None]
np.savez(folder / "b.npz", train_images=pixels, train_labels=labels, val_images=pixels[:2],
         val_labels=labels[:2])
assert recognise(folder / "b.npz")[0].name == "medmnist"
assert [kind.name for kind in FORMATS][-1] == "image_folder"
dataset = open_dataset(folder / "b.npz", cfg.pools["blood"].format)
assert [unit.name for unit in dataset.units()] == ["train", "val"]
records = list(dataset.records(dataset.units()[0]))
assert [record.label for record in records] == list("01234")
assert all((np.asarray(decode(r.place.read())) == p).all() for r, p in zip(records, pixels))
assert cfg.sets["own_photos"].classes == 6 and "own_photos" in at.cfg.test_sets

steps = ("splits.split.split", "similarity.embed.shard", "training.vision.train")
names = {file.name for name in steps for file in closure(name)}
assert names >= {"band.py", "grid.py", "binary.py"}
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package and the page's files in it, and the page's keys."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(PACKAGE, folder / "clipshift", ignore=shutil.ignore_patterns("__pycache__"))
    keys = {}
    for example in EXAMPLE.finditer(PAGE):
        place = folder / example["place"]
        assert place.parent.is_dir() and not place.exists()
        place.write_text(example["code"])
        keys |= yaml.safe_load(example["keys"])
    assert set(keys) == {"splits", "encoders", "figures", "domains", "causes", "pools"}
    keys["sets"] = yaml.safe_load(SET.search(PAGE)["keys"])["sets"]
    # The block `domains` has required keys that the page does not repeat.
    (folder / "domains.yaml").write_text(yaml.safe_dump(keys.pop("domains")))
    (folder / "page.yaml").write_text(yaml.safe_dump(keys))
    return folder


def run(folder: Path, *words: str) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    command = [sys.executable, *words]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_every_python_block_of_the_page_is_an_example() -> None:
    assert len(EXAMPLE.findall(PAGE)) == PAGE.count("```python") == 6
    assert PAGE.count("```yaml") == 7


def test_examples_work_as_they_stand(copy: Path) -> None:
    run(copy, "-c", PROGRAM, str(copy))


def test_reading_the_examples_imports_nothing_heavy(copy: Path) -> None:
    code = (
        "import sys, clipshift.study.config.load\n"
        "assert 'clipshift.splits.recipes.band' in sys.modules\n"
        "assert 'clipshift.similarity.encoders.grid' in sys.modules\n"
        "print({'torch', 'duckdb', 'sklearn', 'scipy', 'matplotlib'} & set(sys.modules))"
    )
    assert run(copy, "-c", code).strip() == "set()"


def test_keys_of_the_examples_are_documented(copy: Path) -> None:
    page = run(copy, "-m", "clipshift.apps.cli", "config-docs")
    assert "## Band\n\nKeep the points" in page and "## GridEncoder\n\nMean colours" in page
    assert "## SplitSizes\n\nHow many samples" in page
    assert "## Binary\n\nA vision tower" in page


def test_examples_are_typed_and_clean(copy: Path) -> None:
    """By the rules that the package is checked by."""
    places = [str(copy / example["place"]) for example in EXAMPLE.finditer(PAGE)]
    config = ["--config", str(ROOT / "pyproject.toml")]
    run(copy, "-m", "ruff", "check", *config, "--ignore", "PLC0415", *places)
    run(copy, "-m", "ruff", "format", "--check", *config, *places)
