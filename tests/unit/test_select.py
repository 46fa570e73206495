"""Which items go where: classes, hold-out of concepts, limits, shards."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet
from clipshift.datasets.pool import sum_shards, write_shard
from clipshift.datasets.select import Selection, class_of, select
from clipshift.datasets.tars import read_tar
from clipshift.study.config.data import Holdout, Take
from tests.conftest import row, write_source

CLASSES = {"animal": ["fam/animals"], "bird": ["fam/animals/birds", "other"], "food": ["fam/food"]}
HALF = Holdout(fraction=0.5)
STYLES = ("colour", "line", "model")


def rows_of(source: str, n: int = 40) -> list[dict[str, Any]]:
    folders = ("animals", "animals/birds", "food", "stones")
    return [
        row(source, f"{i:02d}", f"fam/{folders[i % 4]}/thing{i}", concept=f"thing{i}")
        for i in range(n)
    ]


@pytest.fixture
def tables() -> dict[str, list[dict[str, Any]]]:
    return {style: rows_of(style) for style in STYLES}


def keys(selection: Selection) -> list[str]:
    return [r["key"] for r in selection.rows]


@pytest.mark.parametrize(
    ("category", "name"),
    [
        ("fam/animals", "animal"),
        ("fam/animals/cat/tom", "animal"),
        ("fam/animals/birds/crane", "bird"),
        ("fam/animals/birdsong", "animal"),
        ("fam/animalsx", None),
        ("other/x", "bird"),
        ("fam", None),
        ("", None),
    ],
)
def test_longest_class_path_wins(category: str, name: str | None) -> None:
    assert class_of(category, CLASSES) == name
    assert class_of(category, dict(reversed(CLASSES.items()))) == name


def test_all_styles_of_a_concept_are_on_one_side(tables: Any) -> None:
    both = [
        select(tables, [Take(source=s, concepts=side) for s in STYLES], CLASSES, HALF)
        for side in ("held-out", "not-held-out")
    ]
    tested, trained = ({r["concept"] for r in s.rows} for s in both)
    assert tested and trained and not tested & trained
    assert sorted(keys(both[0]) + keys(both[1])) == sorted(
        r["key"] for t in tables.values() for r in t
    )
    assert all(len([r for r in both[0].rows if r["concept"] == c]) == len(STYLES) for c in tested)
    assert all(r["class_name"] is not None for r in both[0].rows), "only classed items are tested"


def test_hold_out_does_not_depend_on_other_items(tables: Any) -> None:
    def side(rows: Sequence[dict[str, Any]]) -> dict[str, bool]:
        found = select({"colour": rows}, [Take(source="colour")], CLASSES, HALF).rows
        return {r["key"]: r["held_out"] for r in found}

    whole = side(tables["colour"])
    assert side(tables["colour"][10:20]).items() <= whole.items()
    assert side(tables["colour"][::-1]) == whole


def test_hold_out_depends_on_seed_and_grows_with_its_fraction(tables: Any) -> None:
    def tested(fraction: float, seed: int = 0) -> set[str]:
        take = [Take(source="colour", concepts="held-out")]
        return set(keys(select(tables, take, CLASSES, Holdout(fraction=fraction, seed=seed))))

    assert tested(0.2) < tested(0.5) < tested(0.9)
    assert tested(0.5) != tested(0.5, seed=1)


def test_same_concept_name_in_another_family_is_another_concept() -> None:
    names = [f"c{i}" for i in range(64)]
    tables = {
        family: [row(family, n, "other/x", concept=n, family=family) for n in names]
        for family in "ab"
    }
    taken = select(tables, [Take(source=s, concepts="held-out") for s in "ab"], CLASSES, HALF)
    a, b = ({r["concept"] for r in taken.rows if r["family"] == family} for family in "ab")
    assert a != b


def test_limit_is_seeded_and_independent_of_order(tables: Any) -> None:
    take = [Take(source="colour", limit=7)]
    chosen = select(tables, take, CLASSES, HALF)
    assert len(chosen.rows) == 7
    assert set(chosen.rejected.values()) == {"over the limit"} and len(chosen.rejected) == 33
    again = select({"colour": tables["colour"][::-1]}, take, CLASSES, HALF)
    assert again == chosen
    assert keys(select(tables, take, CLASSES, HALF, seed=1)) != keys(chosen)
    more = select(tables, [Take(source="colour", limit=8)], CLASSES, HALF)
    assert set(keys(chosen)) < set(keys(more))


def test_every_reason_is_given(tables: Any) -> None:
    def reasons(**rules: Any) -> set[str]:
        return set(select(tables, [Take(source="line", **rules)], CLASSES, HALF).rejected.values())

    assert reasons() == set()
    assert reasons(concepts="held-out") == {"concept is not held out"}
    assert reasons(concepts="not-held-out") == {"concept is held out for testing"}
    assert reasons(classed=True) == {"no class of the study"}
    assert reasons(classed=False) == {"has a class of the study"}


def test_source_taken_twice_with_disjoint_rules(tables: Any) -> None:
    takes = [Take(source="line", classed=True), Take(source="line", classed=False, limit=3)]
    chosen = select(tables, takes, CLASSES, HALF)
    assert len(chosen.rows) == 33
    assert set(chosen.rejected.values()) == {"over the limit"}
    assert len(chosen.rows) + len(chosen.rejected) == 40


def test_item_taken_twice_is_refused(tables: Any) -> None:
    with pytest.raises(ClipshiftError, match="'line' is taken twice: key 'line-00'"):
        select(tables, [Take(source="line"), Take(source="line", classed=True)], CLASSES, HALF)


def test_a_copy_of_a_held_out_item_is_held_out(tables: Any) -> None:
    takes = [Take(source="line", concepts="not-held-out"), Take(source="colour")]
    plain = select(tables, takes, CLASSES, HALF)
    tested = select(tables, [Take(source="line", concepts="held-out")], CLASSES, HALF).rows
    copied = [
        row | {"sha256": tested[0]["sha256"]} if row["key"] == "colour-03" else row
        for row in tables["colour"]
    ]
    chosen = select(tables | {"colour": copied}, takes, CLASSES, HALF)
    assert set(keys(plain)) - set(keys(chosen)) == {"colour-03"}
    assert chosen.rejected["colour-03"] == "same bytes as an item held out for testing"
    # Only of sources that are taken without their held-out concepts.
    both = [Take(source="line"), Take(source="colour")]
    assert "colour-03" in keys(select(tables | {"colour": copied}, both, CLASSES, HALF))


@pytest.fixture
def pool(tmp_path: Path) -> tuple[Selection, dict[str, Path]]:
    """A selection over two written sources."""
    folders = {s: write_source(tmp_path / s, rows_of(s, 20)) for s in ("line", "colour")}
    tables = {s: read_parquet(f / "samples.parquet").to_pylist() for s, f in folders.items()}
    takes = [Take(source="line", classed=True), Take(source="colour")]
    return select(tables, takes, CLASSES, HALF), folders


@pytest.mark.parametrize("shards", [1, 4])
def test_union_of_shards_is_the_selection(pool: Any, tmp_path: Path, shards: int) -> None:
    selection, folders = pool
    accounts = []
    found: list[dict[str, Any]] = []
    for shard in range(shards):
        tar = tmp_path / f"pool/{shard:05d}.tar"
        write_shard(shard, shards, selection, folders, tar)
        rows = read_parquet(tar.with_suffix(".parquet")).to_pylist()
        assert [s.key for s in read_tar(tar)] == [r["key"] for r in rows]
        accounts.append(tar.with_suffix(".json"))
        found += rows
    assert sorted(r["key"] for r in found) == [r["key"] for r in selection.rows]
    sum_shards("pool", accounts, tmp_path / "manifest.json")
    manifest = read_json(tmp_path / "manifest.json")
    step_counts = manifest["account"]
    assert step_counts["in"] == 40
    assert step_counts["out"] == len(found) == 35
    assert step_counts["rejected"] == {"no class of the study": 5}
    assert [s["samples"] for s in manifest["shards"]] == [
        read_json(a)["account"]["out"] for a in accounts
    ]


def test_new_item_changes_one_shard(pool: Any, tmp_path: Path) -> None:
    selection, folders = pool
    less = Selection(selection.rows[1:], selection.rejected)
    same = []
    for shard in range(4):
        for name, chosen in (("a", selection), ("b", less)):
            write_shard(shard, 4, chosen, folders, tmp_path / f"{name}/{shard}.tar")
        same.append(
            (tmp_path / f"a/{shard}.tar").read_bytes() == (tmp_path / f"b/{shard}.tar").read_bytes()
        )
    assert sorted(same) == [False, True, True, True]


def test_key_in_two_shards_is_refused(pool: Any, tmp_path: Path) -> None:
    selection, folders = pool
    for shard in (0, 1):
        write_shard(0, 1, selection, folders, tmp_path / f"{shard:05d}.tar")
    with pytest.raises(ClipshiftError, match=r"0000.*0001\.tar: the key 'colour-00' occurs twice"):
        sum_shards("pool", [tmp_path / f"0000{i}.json" for i in (0, 1)], tmp_path / "manifest.json")
