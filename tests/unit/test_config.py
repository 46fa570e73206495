"""Configurations: valid ones load, faults are named by file, key and nearest valid key."""

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, TypeAdapter

from clipshift.core.errors import ClipshiftError
from clipshift.study.config import docs, study
from clipshift.study.config.classifier_base import classifier
from clipshift.study.config.encoder_base import encoder
from clipshift.study.config.load import load, parse
from clipshift.study.config.recipe_base import recipe, reference_rule
from clipshift.study.config.references import references
from tests.conftest import ROOT

FULL = [
    path
    for path in sorted((ROOT / "config").glob("*.yaml"))
    if "study" in yaml.safe_load(path.read_text()) and "pools" in yaml.safe_load(path.read_text())
]
STUDY = yaml.safe_load((Path(__file__).parent / "study.yaml").read_text())
BLOCKS = [
    block
    for block in [
        *vars(study).values(),
        *(b for r in (recipe, reference_rule, encoder, classifier) for b in r.blocks.values()),
    ]
    if isinstance(block, type) and issubclass(block, study.Block) and block is not study.Block
]


@pytest.mark.parametrize("path", FULL, ids=lambda path: path.name)
def test_configurations_of_the_repository_are_valid(path: Path) -> None:
    loaded = load(path)
    assert TypeAdapter(study.Config).validate_json(loaded.model_dump_json()) == loaded


# Overlay -> the other one that it lies on.
BELOW = {"domains-more.yaml": "mini-domains.yaml"}


@pytest.mark.parametrize(
    "path", sorted(set((ROOT / "config").glob("*.yaml")) - set(FULL)), ids=lambda path: path.name
)
def test_overlays_are_valid_on_the_mini_study(path: Path) -> None:
    below = yaml.safe_load((ROOT / "config/mini.yaml").read_text())
    if path.name in BELOW:
        between = (ROOT / "config" / BELOW[path.name]).read_text()
        below = merged(below, yaml.safe_load(between))
    parse(merged(below, yaml.safe_load(path.read_text())))


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """As Snakemake merges configuration files."""
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(below.get(key), dict)
        below[key] = merged(below[key], value) if both else value
    return below


def fault(tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> str:
    """The message about a valid study after one change."""
    raw = copy.deepcopy(STUDY)
    change(raw)
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(ClipshiftError) as error:
        load(path)
    return str(error.value).replace(str(path), "FILE")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(seed=[1]), "FILE: seed: unknown key; did you mean 'seeds'?"),
        (
            lambda c: c["holdout"].update(fractoin=1),
            "FILE: holdout.fractoin: unknown key; did you mean 'fraction'?",
        ),
        (
            lambda c: c["splits"]["pruned"].update(tolerence=1),
            "FILE: splits.pruned.tolerence: unknown key; did you mean 'tolerance'?",
        ),
        (
            lambda c: c["splits"].update(
                a={"recipe": "full", "within": "b"}, b={"recipe": "full", "within": "a"}
            ),
            "splits.a.within: a in b in a: a circle",
        ),
        (
            lambda c: c["splits"]["full"].update(within="nothing"),
            "splits.full.within",
        ),
        (
            lambda c: c["splits"]["full"].update(keep=3),
            "FILE: splits.full.keep: unknown key",
        ),
        (
            lambda c: c["sources"]["noto"].update(picture=1),
            "FILE: sources.noto.picture: unknown key; did you mean 'pictures'?",
        ),
        (
            lambda c: c["encoders"]["lite0"].update(pix=1),
            "FILE: encoders.lite0.pix: unknown key; did you mean 'px'?",
        ),
        (
            lambda c: c["pools"]["small"]["take"][1].update(limits=1),
            "FILE: pools.small.take.1.limits: unknown key; did you mean 'limit'?",
        ),
        (
            lambda c: c["models"]["tiny"].update(sample=1),
            "FILE: models.tiny.sample: unknown key; did you mean 'samples'?",
        ),
        (
            lambda c: c["figures"]["accuracy_vs_pruned"]["sketch"].update(lnes={}),
            "FILE: figures.accuracy_vs_pruned.sketch.lnes: unknown key; did you mean 'lines'?",
        ),
        (lambda c: c["splits"]["rand"].update(keep=[]), "FILE: splits.rand.keep: "),
        (lambda c: c["splits"]["rand"].update(keep=-1), "FILE: splits.rand.keep: "),
        (lambda c: c["splits"]["rand"].update(recipe="random"), "FILE: splits.rand: "),
        (lambda c: c["holdout"].pop("fraction"), "FILE: holdout.fraction: Field required"),
        (lambda c: c["seeds"].append("x"), "FILE: seeds.1: "),
    ],
)  # fmt: skip
def test_fault_names_file_key_and_nearest_key(tmp_path: Path, change: Any, message: str) -> None:
    assert message in fault(tmp_path, change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(pool="maxi"), "pool: 'maxi' is not one of ['small']"),
        (
            lambda c: c.update(reference="photo"),
            "reference: 'photo' is not one of ['photos', 'sketch', 'val']",
        ),
        (lambda c: c.update(encoder="clip"), "encoder: 'clip' is not one of ['lite0']"),
        (lambda c: c.update(model="big"), "model: 'big' is not one of ['tiny']"),
        (
            lambda c: c["splits"]["pruned"].update(sets=["photos"]),
            "splits.pruned.sets: 'photos' is not one of ['sketch', 'val']",
        ),
        (
            lambda c: c["pools"]["small"]["take"][0].update(source="openmoji"),
            "pools.small.take.source: 'openmoji' is not one of ['clipart', 'ifct', 'noto']",
        ),
        (
            lambda c: c["sources"]["ifct"].update(table="ifct"),
            "sources.ifct.table: 'ifct' is not one of ['clips', 'icons', 'labels', 'table']",
        ),
        (
            lambda c: c["figures"]["accuracy_vs_pruned"]["sketch"]["lines"].update(x=["rand2"]),
            "lines.x: 'rand2' is not one of ['full', 'pruned', 'rand']; did you mean 'rand'?",
        ),
        (
            lambda c: c["figures"]["contrasts"].append(["full", "rand", "photos"]),
            "figures.contrasts: 'photos' is not one of ['sketch', 'val']",
        ),
        (
            lambda c: c["sets"]["val"].update(classes=["anmal"]),
            "sets.val.classes: 'anmal' is not one of ['animal', 'food']",
        ),
        (lambda c: c.update(reference="val"), "the set 'val' needs `role: reference`"),
        (lambda c: c["pools"].update(val=c["pools"]["small"]), "share the names ['val']"),
    ],
)  # fmt: skip
def test_unknown_names_are_answered_with_the_known(
    tmp_path: Path, change: Any, message: str
) -> None:
    assert message in fault(tmp_path, change)


def test_every_fault_is_reported_at_once(tmp_path: Path) -> None:
    def change(c: dict[str, Any]) -> None:
        c.update(seed=1)
        c["holdout"].update(fractoin=1)

    assert fault(tmp_path, change).count("FILE: ") == 2


def test_fault_of_merged_files_names_the_guilty_one(tmp_path: Path) -> None:
    a, b = tmp_path / "a.yaml", tmp_path / "b.yaml"
    a.write_text(yaml.safe_dump(STUDY | {"seed": 1}))
    b.write_text("holdout: {fractoin: 0.5}\n")
    raw = merged(yaml.safe_load(a.read_text()), yaml.safe_load(b.read_text()))
    with pytest.raises(ClipshiftError) as error:
        parse(raw, [a, b])
    assert f"{a}: seed: unknown" in str(error.value)
    assert f"{b}: holdout.fractoin: unknown" in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "is not YAML"), ("- 1\n", "holds no keys"), ("", "holds no keys")],
)
def test_file_that_is_no_configuration(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ClipshiftError, match=rf"x\.yaml.*{message}"):
        load(tmp_path / "x.yaml")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ClipshiftError, match=r"x\.yaml is not there"):
        load(tmp_path / "x.yaml")


def test_page_of_keys_is_in_step() -> None:
    page = ROOT / "config/README.md"
    if not page.exists():
        pytest.skip("config/README.md is not written yet")
    assert page.read_text() == docs.page(), "run `clipshift config-docs --out config/README.md`"


def test_page_has_every_key() -> None:
    page = docs.page()
    for block in BLOCKS:
        if block.__name__ not in ("SourceBase", "Recipe", "Sized", "Folder"):  # only ever inherited
            section = page.split(
                f"\n## {'Top level' if block is study.Config else block.__name__}\n"
            )[1]
            section = section.split("\n## ")[0]
            assert all(f"| `{name}` |" in section for name in block.model_fields)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.__name__)
def test_every_key_is_described(block: type[BaseModel]) -> None:
    assert block.__doc__
    assert [n for n, field in block.model_fields.items() if not field.description] == []


def test_reading_a_configuration_imports_nothing_heavy() -> None:
    """Every cluster job parses the Snakefile first."""
    code = (
        "import sys, clipshift.study.config.load, clipshift.core.step\n"
        "heavy = {'torch', 'pandas', 'open_clip', 'duckdb', 'matplotlib', 'sklearn', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_several_files_are_merged_as_snakemake_merges_them() -> None:
    from snakemake.utils import update_config

    files = [ROOT / "config/mini.yaml", ROOT / "config/mini-full.yaml"]
    raw, more = (yaml.safe_load(file.read_text()) for file in files)
    update_config(raw, more)
    assert load(*files) == parse(raw)
    assert len(load(*files).seeds) == 5


def test_every_reference_of_the_shipped_studies_is_of_a_known_kind() -> None:
    """And the walk finds them where they are: in lists, keys of dictionaries, tuples, unions."""
    config = load(*(ROOT / f"config/{n}.yaml" for n in ("mini", "mini-domains", "mini-causes")))
    names = study.known(config)
    found = list(references(config))
    assert {kind for _, kind, _ in found} <= names.keys()
    assert ("figures.contrasts", "trained split", "near_sketch_40") in found
    assert ("encoders.clip_full.split", "split", "full") in found
    assert ("splits.rand_as_pruned.keep", "split of no fixed size", "pruned_sketch") in found
    assert {where for where, kind, _ in found if kind == "test set"} >= {
        "splits.pruned_sketch.sets", "figures.density.sketch.sets"
    }  # fmt: skip
