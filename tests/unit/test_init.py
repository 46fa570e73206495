"""`clipshift init`: a study of any path is valid, short, and states the numbers that steps find."""

import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from clipshift.apps.inspect.init import Asked, named, study, write
from clipshift.apps.inspect.look import look
from clipshift.apps.inspect.report import text
from clipshift.core.errors import ClipshiftError
from clipshift.datasets.conversion import chosen_units, opened
from clipshift.datasets.parts import Part
from clipshift.datasets.records import Record
from clipshift.study.config.folders import ConvertedPool, FolderPool
from clipshift.study.config.load import load
from clipshift.study.config.study import Config
from tests.conftest import photo
from tests.formats_case import img2dataset

SIZES = {"cat": 25, "dog": 10, "fox": 3, "eel": 1}


def class_folders(root: Path, sizes: dict[str, int] = SIZES) -> Path:
    for name, size in sizes.items():
        (root / name).mkdir(parents=True)
        for i in range(size):
            (root / name / f"{i}.jpg").write_bytes(photo(i))
    return root


def written(tmp_path: Path, asked: Asked) -> Config:
    out = tmp_path / "My study.yaml"
    write(asked, out)
    assert len(out.read_text().splitlines()) <= 40
    return load(out)


def keys_of(block: ConvertedPool) -> set[str]:
    """Keys that the steps read for a block."""
    dataset = opened(block, Path())
    units = chosen_units(dataset, block.units)
    part = Part(block, dataset, units)
    records = (r for unit in units for r in dataset.records(unit) if isinstance(r, Record))
    return {r.key for r in records if part.refused(r) is None}


def test_one_folder_is_pool_reference_and_test_set(tmp_path: Path) -> None:
    cfg = written(tmp_path, Asked(class_folders(tmp_path / "photos"), {}, held_out=0.2))
    blocks = [cfg.pools["own"], cfg.sets["held_out"], cfg.sets["reference"]]
    parts = [keys_of(block) for block in blocks]
    assert [len(part) for part in parts] == [block.samples for block in blocks]
    assert len(set.union(*parts)) == sum(map(len, parts)) == sum(SIZES.values())
    held_out = [sum(key.startswith(name) for key in parts[1]) for name in SIZES]
    assert held_out == [5, 2, 1, 0]
    assert cfg.pools["own"].template == "a photo of a {class}"
    assert set(cfg.splits) == {"full", "pruned_held_out", "rand_as_held_out"}


def test_a_test_set_inside_the_pool_is_no_part_of_it(tmp_path: Path) -> None:
    for domain in ("photo", "line", "flat"):
        class_folders(tmp_path / "domains" / domain, {"cat": 10, "dog": 5})
    asked = Asked(
        tmp_path / "domains", named([f"sketch={tmp_path / 'domains/line'}"]),
        columns={"label": "folder:2"},
    )  # fmt: skip
    cfg = written(tmp_path, asked)
    pool, sketch = keys_of(cfg.pools["own"]), keys_of(cfg.sets["sketch"])
    assert {key.partition("/")[0] for key in pool} == {"photo", "flat"}
    assert (len(pool), len(sketch)) == (cfg.pools["own"].samples, cfg.sets["sketch"].samples)
    assert len(pool) + cfg.sets["reference"].samples == 30


def test_captions_from_a_table(tmp_path: Path) -> None:
    class_folders(tmp_path / "val", {"cat": 2, "dog": 2})
    (tmp_path / "pairs.csv").write_text(
        "filepath,title\nval/cat/0.jpg,a cat\nval/dog/0.jpg,a dog\n"
    )
    asked = Asked(tmp_path / "pairs.csv", {"val": tmp_path / "val"}, tmp_path / "val")
    pool = written(tmp_path, asked).pools["own"]
    assert (pool.format, pool.template, pool.samples) == ("table", None, 2)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    (flat / "a.jpg").write_bytes(photo(0))
    with pytest.raises(ClipshiftError, match=r"no labels .*--test NAME=PATH"):
        study(Asked(flat, {}), "x")
    with pytest.raises(ClipshiftError, match="'val': expected NAME=PATH"):
        named(["val"])
    with pytest.raises(ClipshiftError, match="the name val is given twice"):
        named(["val=a", "VAL=b"])


def test_a_study_that_is_there_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "s.yaml"
    out.write_text("mine")
    with pytest.raises(ClipshiftError, match="is there already"):
        write(Asked(class_folders(tmp_path / "p"), {}), out)
    assert out.read_text() == "mine"


@pytest.mark.parametrize(
    "edges", [(0.0, 0.1, 1.0), (0.0, 0.25, 0.5, 1.0), (0.0, 1 / 3, 2 / 3, 1.0)]
)
def test_parts_divide_every_class(tmp_path: Path, edges: tuple[float, ...]) -> None:
    folder = class_folders(tmp_path / "p")
    seen: list[str] = []
    for part in pairwise(edges):
        block = ConvertedPool(folder=str(folder), samples=1, shards=1, part=part)
        seen += keys_of(block)
    assert len(seen) == len(set(seen)) == sum(SIZES.values())


@pytest.mark.parametrize("share", [float("nan"), float("inf"), -1, 0, 0.5, 2])
def test_a_share_that_leaves_nothing_is_refused(tmp_path: Path, share: float) -> None:
    """A test set and the reference set take one each."""
    photos = class_folders(tmp_path / "photos")
    with pytest.raises(ClipshiftError, match=r"--hold-out .* above 0 and below 0\.5"):
        study(Asked(photos, {}, held_out=share), "x")
    assert study(Asked(photos, {"val": photos}, held_out=0.5), "x")


def test_the_share_that_is_held_out_is_the_one_asked_for(tmp_path: Path) -> None:
    cfg = written(tmp_path, Asked(class_folders(tmp_path / "photos"), {}, held_out=0.4))
    assert cfg.sets["held_out"].part == (0.0, 0.4) and cfg.pools["own"].part == (0.8, 1.0)
    assert cfg.sets["held_out"].samples == 10 + 4 + 1 + 0


@pytest.mark.parametrize(("form", "in_place"), [("webdataset", True), ("files", False)])
def test_a_download_is_read_where_its_tars_lie(tmp_path: Path, form: str, in_place: bool) -> None:
    labelled = class_folders(tmp_path / "val")
    pool = img2dataset(tmp_path / "pool", {0: 2, 2: 3}, width=8, form=form)
    block = written(tmp_path, Asked(pool, {"val": labelled}, labelled)).pools["own"]
    assert isinstance(block, FolderPool) == in_place and block.samples == 5
    assert not in_place or (block.tars, block.digits) == (3, 8)


def test_a_download_with_columns_of_ones_own_is_copied(tmp_path: Path) -> None:
    labelled = class_folders(tmp_path / "val")
    pool = img2dataset(tmp_path / "pool", {0: 2})
    asked = Asked(pool, {"val": labelled}, labelled, columns={"caption": "caption"})
    assert isinstance(written(tmp_path, asked).pools["own"], ConvertedPool)


def test_commands_quote_a_path_with_a_blank(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "My photos")
    check, run = write(Asked(folder, {}), tmp_path / "my study.yaml")
    assert shlex.split(check)[-1] == str(tmp_path / "my study.yaml")
    assert shlex.split(run)[-3:] == [
        str(tmp_path / "my study.yaml"), "--directory", "studies/my_study"
    ]  # fmt: skip
    assert f"--train-images '{folder}' --test-images" in text(look(folder))
