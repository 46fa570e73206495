"""What may be labelled: keys, samples, order, and nothing outside the pool."""

import tarfile
from pathlib import Path

import pyarrow as pa
import pytest

from clipshift.apps.labelling.catalogue import Unreadable, open_catalogue
from clipshift.apps.labelling.scores import sort_items
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import write_parquet
from clipshift.datasets.shards import write_table, write_tar
from clipshift.datasets.tars import Sample
from tests.conftest import photo, row


def pool(root: Path, shards: dict[str, list[str]]) -> Path:
    """The project's layout: tars with their tables."""
    for shard, names in shards.items():
        rows = [row("photos", name, concept=f"c-{name}") for name in names]
        samples = [Sample(r["key"], {"jpg": photo(i)}) for i, r in enumerate(rows)]
        write_tar(root / f"{shard}.tar", samples)
        write_table(root / f"{shard}.parquet", rows)
    return root


def files(root: Path, names: list[str]) -> Path:
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(photo(i, kind="PNG"))
    return root


def keys(folder: Path, **more: int) -> list[str]:
    return [item.key for item in open_catalogue(folder, **more).items]


def test_pool_by_its_tables(tmp_path: Path) -> None:
    catalogue = open_catalogue(pool(tmp_path, {"00001": ["d", "a"], "00000": ["c", "b"]}))
    assert [i.key for i in catalogue.items] == [f"photos-{n}" for n in "abcd"]
    item = catalogue.item("photos-c")
    assert item and (item.concept, item.source) == ("c-c", "photos")
    assert catalogue.read(item) == photo(0)
    assert catalogue.step_counts.as_json()["in"] == 4


def test_img2datasets_failures_are_counted(tmp_path: Path) -> None:
    write_tar(tmp_path / "00000.tar", [Sample("000000000", {"jpg": photo(0)})])
    table = {
        "key": ["000000000", "000000001", "000000002"],
        "status": ["success", "failed_to_download", "failed_to_download"],
    }
    write_parquet(tmp_path / "00000.parquet", pa.table(table))
    (tmp_path / "00000_stats.json").write_text("{}")
    catalogue = open_catalogue(tmp_path)
    assert [i.key for i in catalogue.items] == ["000000000"]
    assert catalogue.step_counts.rejected == {"failed_to_download": 2}


def test_set_takes_concepts_from_its_table(tmp_path: Path) -> None:
    rows = [row("photos", "a", concept="cat"), row("photos", "b", concept="dog")]
    write_tar(tmp_path / "test/0.tar", [Sample(r["key"], {"webp": photo(1)}) for r in rows])
    write_table(tmp_path / "samples.parquet", rows)
    assert [i.concept for i in open_catalogue(tmp_path).items] == ["cat", "dog"]


def test_sample_is_seeded_nested_and_blind_to_shards(tmp_path: Path) -> None:
    names = [f"{i:03d}" for i in range(60)]
    one = pool(tmp_path / "one", {"00000": names[:20], "00001": names[20:]})
    two = pool(tmp_path / "two", {"00000": names[::-1][:45], "00001": names[::-1][45:]})
    small, large = keys(one, sample=10, seed=3), keys(one, sample=25, seed=3)
    assert len(small) == 10 and set(small) < set(large)
    assert keys(two, sample=10, seed=3) == small
    assert keys(one, sample=10, seed=4) != small
    assert len(keys(one, sample=1000)) == 60
    assert open_catalogue(one, sample=10).step_counts.rejected == {"not in the sample": 50}


def test_links_that_lead_out_are_counted_and_never_read(tmp_path: Path) -> None:
    secret = files(tmp_path / "outside", ["secret.png"]) / "secret.png"
    inside = files(tmp_path / "pool", ["a.png", "deep/b.png"])
    (inside / "link.png").symlink_to(secret)
    (inside / "folder").symlink_to(tmp_path / "outside")
    (inside / "own.png").symlink_to(inside / "a.png")
    write_tar(tmp_path / "outside/t.tar", [Sample("t", {"png": photo(1)})])
    (inside / "t.tar").symlink_to(tmp_path / "outside/t.tar")
    catalogue = open_catalogue(inside)
    assert [i.key for i in catalogue.items] == ["a.png", "deep/b.png", "own.png"]
    assert catalogue.step_counts.rejected == {
        "leads out of the folder": 2,  # by a link of its own, and below a link to a folder
        "its tar leads out of the folder": 2,
    }
    # A file that becomes a link after the start, and a folder that does.
    for name, target in (("a.png", secret), ("deep", tmp_path / "outside")):
        item = catalogue.item("a.png" if name == "a.png" else "deep/b.png")
        assert item
        (inside / name).rename(tmp_path / f"away-{name}")
        (inside / name).symlink_to(target)
        with pytest.raises(Unreadable, match="leads out"):
            catalogue.read(item)
    for key in ("../outside/secret.png", str(secret), "link.png", "folder/secret.png"):
        assert catalogue.item(key) is None


def test_key_that_is_not_in_its_tar_is_said_so(tmp_path: Path) -> None:
    pool(tmp_path, {"00000": ["a", "b"]})
    write_tar(tmp_path / "00000.tar", [Sample("photos-a", {"jpg": photo(0)})])
    catalogue = open_catalogue(tmp_path)
    item = catalogue.item("photos-b")
    assert item
    with pytest.raises(Unreadable, match="not in its tar"):
        catalogue.read(item)


def test_doubled_keys_and_empty_folders_are_refused(tmp_path: Path) -> None:
    for shard in ("a", "b"):
        write_tar(tmp_path / f"two/{shard}.tar", [Sample("k", {"jpg": photo(0)})])
    with pytest.raises(ClipshiftError, match=r"the key 'k' is in .*a.tar and in .*b.tar"):
        open_catalogue(tmp_path / "two")
    (tmp_path / "none").mkdir()
    with pytest.raises(ClipshiftError, match="holds no image"):
        open_catalogue(tmp_path / "none")
    (tmp_path / "texts").mkdir()
    with tarfile.open(tmp_path / "texts/0.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("a.txt"))
    with pytest.raises(ClipshiftError, match=r"no image that could be shown.*no image in the"):
        open_catalogue(tmp_path / "texts")


def test_order_by_scores(tmp_path: Path) -> None:
    catalogue = open_catalogue(files(tmp_path / "pool", [f"{n}.png" for n in "abcdef"]))
    scores = tmp_path / "scores"
    write_parquet(
        scores / "0.parquet",
        pa.table({"key": ["c.png", "a.png", "x.png"], "score": [0.5, 0.5, 0.9], "n": [1, 1, 1]}),
    )
    write_parquet(
        scores / "1.parquet",
        pa.table({"key": ["f.png", "b.png", "d.png"], "score": [0.9, float("nan"), None]}),
    )
    ordered, unscored = sort_items(catalogue.items, scores)
    assert [i.key[0] for i in ordered] == list("facbde") and unscored == 3
    uncertain, _ = sort_items(catalogue.items, scores, least=0.6)
    assert [i.key[0] for i in uncertain] == list("acfbde")
    write_parquet(scores / "2.parquet", pa.table({"key": ["f.png"], "score": [0.1]}))
    with pytest.raises(ClipshiftError, match=r"'f.png' is scored twice"):
        sort_items(catalogue.items, scores)
    one = scores / "0.parquet"
    write_parquet(one, pa.table({"key": ["a.png"], "natural": [0.1], "rendition": [0.9]}))
    with pytest.raises(ClipshiftError, match="--score-column"):
        sort_items(catalogue.items, one)
    assert sort_items(catalogue.items, one, "natural")[1] == 5
    with pytest.raises(ClipshiftError, match=r"lacks the columns \['other'\]"):
        sort_items(catalogue.items, one, "other")
