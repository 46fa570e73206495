"""The images to label: drawn of the de-duplicated pool, copied, and read again as a pool."""

from pathlib import Path

import pyarrow as pa
import pytest

from clipshift.apps.labelling.catalogue import open_catalogue
from clipshift.apps.labelling.draw import draw
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet, write_parquet
from clipshift.datasets.external_pool import write_group
from clipshift.datasets.tar_paths import read_tars
from clipshift.splits import split
from clipshift.splits.recipes.rand import Rand
from clipshift.study.config.recipe_base import Margins
from tests.folder_case import write_pool

TARS = {0: 7, 1: 5, 3: 6}


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """A pool, of which every third sample is a duplicate, and the split of those to label."""
    folder = write_pool(tmp_path / "web", TARS)
    tables = [tmp_path / f"tables/{shard:05d}.parquet" for shard in range(2)]
    for table, numbers in zip(tables, ([0, 1], [2, 3]), strict=True):
        write_group("web", [folder / f"{n:05d}.tar" for n in numbers], table)
    keys = [key for table in tables for key in read_parquet(table)["key"].to_pylist()]
    dropped = [i % 3 == 0 for i in range(len(keys))]
    write_parquet(tmp_path / "dropped.parquet", pa.table({"key": keys, "dropped": dropped}))
    scores = split.Scores(
        tables, [tmp_path / "dropped.parquet"], Margins({}, {}), [], Margins({}, {})
    )
    recipe = Rand.model_validate({"recipe": "rand", "keep": 8, "reference": False})
    split.make(recipe, scores, tmp_path / "to_label.parquet")
    return folder


def test_drawn_images_are_a_pool_of_their_own(pool: Path, tmp_path: Path) -> None:
    out = tmp_path / "drawn"
    assert draw(tmp_path / "to_label.parquet", pool, out, per_tar=5) == 8
    chosen = read_parquet(tmp_path / "to_label.parquet")
    kept = chosen.filter(chosen["kept"])["key"].to_pylist()
    duplicates = read_parquet(tmp_path / "dropped.parquet")
    duplicates = duplicates.filter(duplicates["dropped"])["key"].to_pylist()
    assert len(kept) == 8 and not set(kept) & set(duplicates)
    tars = [out / "00000.tar", out / "00001.tar"]
    copied = {sample.key: sample.parts for sample in read_tars(tars)}
    every = read_tars([pool / f"{n:05d}.tar" for n in TARS])
    assert copied == {s.key: s.parts for s in every if s.key in kept}
    assert len(copied) == 8
    # As the workflow reads a pool, and the labelling page its images.
    counts = write_group("drawn", tars, tmp_path / "again.parquet")
    assert (counts.came_in, counts.went_out) == (8, 8)
    assert read_json(tmp_path / "again.json")["shard"]["tars"] == {"00000": 5, "00001": 3}
    again = read_parquet(tmp_path / "again.parquet", ["key", "url_hash", "sha256", "caption"])
    tables = [tmp_path / f"tables/{shard:05d}.parquet" for shard in range(2)]
    before = pa.concat_tables(read_parquet(t, again.column_names) for t in tables).to_pylist()
    assert again.to_pylist() == [row for row in before if row["key"] in kept]
    page = open_catalogue(out)
    assert [item.key for item in page.items] == sorted(kept)
    assert page.read(page.items[0]) == copied[page.items[0].key]["jpg"]
    draw(tmp_path / "to_label.parquet", pool, tmp_path / "twice", per_tar=5)
    for file in sorted(out.iterdir()):
        assert file.read_bytes() == (tmp_path / "twice" / file.name).read_bytes()


def test_faults_are_named(pool: Path, tmp_path: Path) -> None:
    made, out = tmp_path / "to_label.parquet", tmp_path / "drawn"
    with pytest.raises(ClipshiftError, match=r"other.keys.npy is missing: make the split first"):
        draw(tmp_path / "other.parquet", pool, out)
    with pytest.raises(ClipshiftError, match=r"web is there already"):
        draw(made, pool, pool)
    elsewhere = write_pool(tmp_path / "elsewhere", {0: 1, 1: 1, 3: 1})
    with pytest.raises(ClipshiftError, match=r"holds \d of the \d samples that the split keeps"):
        draw(made, elsewhere, out)
    assert not out.exists()
