"""Labelled sets, read back by CLIP_benchmark itself."""

from pathlib import Path
from typing import Any

import pytest
from clip_benchmark.datasets.builder import build_dataset

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet
from clipshift.core.step import call
from clipshift.datasets import labelled_set
from clipshift.datasets.captions.template import captioned
from clipshift.datasets.labels import check_labels
from clipshift.datasets.shards import write_tar
from clipshift.datasets.tars import Sample, read_tar
from clipshift.study.config.data import Holdout, Take, TestSet
from tests.conftest import row, write_source

CLASSES = {"house cat": ["fam/cat"], "dog": ["fam/dog"], "bird": ["fam/bird"]}
TEMPLATES = ["a photo of a {c}", "{c}"]
HOLDOUT = Holdout(fraction=0.5)


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """Two sources of 12 and 6 images; a third of the first has no class."""
    kinds = ["cat", "dog", "bird", "stone"]
    a = [row("a", f"{i:02d}", f"fam/{kinds[i % 4]}") for i in range(12)]
    b = [row("a_b", f"{i:02d}", f"fam/{kinds[i % 3]}/{i}") for i in range(6)]
    return {"a": write_source(tmp_path / "a", a), "a_b": write_source(tmp_path / "a_b", b)}


def build(folders: dict[str, Path], out: Path, role: str = "test", **keys: object) -> Path:
    take = [Take(source="a_b"), Take(source="a")]
    spec = TestSet.model_validate({"take": take, "role": role, **keys})
    labelled_set.build("mine", spec, CLASSES, HOLDOUT, folders, out)
    # As the rule writes them: apart from the set, so that another prompt rebuilds no set.
    text = "".join(f"{t}\n" for t in TEMPLATES)
    (out / "zeroshot_classification_templates.txt").write_text(text)
    return out


@pytest.mark.parametrize(("role", "split"), [("test", "test"), ("reference", "train")])
def test_clip_benchmark_reads_the_set(
    folders: dict[str, Path], tmp_path: Path, role: str, split: str
) -> None:
    out = build(folders, tmp_path / "wds", role)
    found = build_dataset(
        "wds/mine", root=str(out), split=split, task="zeroshot_classification",
        transform=lambda image: image.size,
    )  # fmt: skip
    samples = list(found)
    table = read_parquet(out / "samples.parquet").to_pylist()
    assert found.classes == list(CLASSES)
    assert found.templates == TEMPLATES
    assert len(samples) == len(table) == 15
    assert [found.classes[label] for _, label in samples] == [r["class_name"] for r in table]
    assert {size for size, _ in samples} == {(16, 16)}


def test_rows_of_table_and_tar_are_aligned(folders: dict[str, Path], tmp_path: Path) -> None:
    out = build(folders, tmp_path / "wds")
    keys = [s.key for s in read_tar(out / "test/0.tar")]
    assert keys == read_parquet(out / "samples.parquet")["key"].to_pylist() == sorted(keys)


def test_account_and_class_counts(folders: dict[str, Path], tmp_path: Path) -> None:
    manifest = read_json(
        build(folders, tmp_path / "wds", classes=["dog", "bird"]) / "manifest.json"
    )
    step_counts = manifest["account"]
    assert (step_counts["in"], step_counts["out"]) == (18, 10)
    assert step_counts["rejected"] == {"no class of the set": 8}
    assert manifest["classes"] == {"dog": 5, "bird": 5}
    assert manifest["shards"][0]["samples"] == 10


def test_two_builds_give_the_same_bytes(folders: dict[str, Path], tmp_path: Path) -> None:
    a, b = (build(folders, tmp_path / name) for name in "xy")
    files = [f.relative_to(a) for f in a.rglob("*") if f.is_file()]
    assert len(files) == 7
    assert all((a / f).read_bytes() == (b / f).read_bytes() for f in files)


def test_class_with_too_few_items_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ClipshiftError, match=r"set mine: fewer than 6 items in .*'dog': 5"):
        build(folders, tmp_path / "wds", minimum_per_class=6)
    assert not (tmp_path / "wds").exists()


def test_a_class_path_that_nothing_has_is_named_with_those_near(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    spec = TestSet.model_validate({"take": [Take(source="a")], "role": "test"})
    classes = CLASSES | {"dog": ["fam/dgo"]}
    with pytest.raises(ClipshiftError, match=r"no item has the path fam/dgo; there are fam/dog"):
        labelled_set.build("mine", spec, classes, HOLDOUT, folders, tmp_path / "out")


def test_check_labels_agrees_with_the_table(folders: dict[str, Path], tmp_path: Path) -> None:
    out = build(folders, tmp_path / "wds")
    names, labels = check_labels(out, out / "test/0.tar")
    table = read_parquet(out / "samples.parquet").to_pylist()
    assert {k: names[i] for k, i in labels.items()} == {r["key"]: r["class_name"] for r in table}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("dog\nhouse cat\nbird\n", "the class lists do not match"),
        ("house cat\ndog\n", r"label 2, but .*classnames\.txt lists 2 classes"),
    ],
)
def test_class_list_that_does_not_match(
    folders: dict[str, Path], tmp_path: Path, names: str, message: str
) -> None:
    out = build(folders, tmp_path / "wds")
    (out / "classnames.txt").write_text(names)
    with pytest.raises(ClipshiftError, match=message):
        check_labels(out, out / "test/0.tar")


def test_tar_with_fewer_samples_than_the_table(folders: dict[str, Path], tmp_path: Path) -> None:
    out = build(folders, tmp_path / "wds")
    write_tar(out / "test/0.tar", list(read_tar(out / "test/0.tar"))[:-1])
    with pytest.raises(ClipshiftError, match="holds 14 samples, its table 15"):
        check_labels(out, out / "test/0.tar")


def test_sample_that_its_source_lost(folders: dict[str, Path], tmp_path: Path) -> None:
    tar = folders["a"] / "samples.tar"
    write_tar(tar, [s for s in read_tar(tar) if s.key != "a-04"])
    with pytest.raises(ClipshiftError, match="lacks the sample 'a-04'"):
        build(folders, tmp_path / "wds")


def test_reference_captions(folders: dict[str, Path], tmp_path: Path) -> None:
    """The labelled set as training data: same images, captions from the template."""
    out = build(folders, tmp_path / "wds", "reference")
    table = read_parquet(out / "samples.parquet").to_pylist()
    rows = {r["key"]: r for r in table}
    found = list(captioned(out / "train/0.tar", rows, "a {class}: {caption}"))
    texts = [s.parts["txt"].decode() for s in found]
    assert texts == [f"a {r['class_name']}: {r['caption']}" for r in table]
    originals: list[Sample] = list(read_tar(out / "train/0.tar"))
    assert [s.image for s in found] == [s.image for s in originals]


def test_another_order_of_classes_is_a_reason_to_build_a_set_again() -> None:
    """It is the order of the labels; that of a rule's parameters is none."""

    def counted(**params: Any) -> str:
        return str(call("datasets.labelled_set.build", **params)["counted"]({}))

    turned = dict(reversed(CLASSES.items()))
    assert counted(classes=CLASSES) != counted(classes=turned)
    assert counted(classes=CLASSES, out="x") == counted(out="x", classes=CLASSES)
