"""Two data about the same samples: joined by one thing, and checked by the others."""

from typing import Any

import pyarrow as pa
import pytest

from clipshift.core.errors import ClipshiftError
from clipshift.datasets.identity import check, join


def table(**columns: list[Any]) -> pa.Table:
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def partners(left: pa.Table, right: pa.Table, by: str, **named: Any) -> list[int]:
    found = join(left, right, by, "them.parquet", **named)
    counts = found.counts
    assert counts["matched"] + sum(found.reasons.values()) == len(left)
    return found.partner.tolist()


def test_rows_find_each_other_in_any_order() -> None:
    mine = table(key=["a", "b", "c", None], url=["http://a", "http://b", "http://c", "x"])
    theirs = table(key=["c", "x", "a"], url=["http://c ", "http://x", "http://a"])
    found = join(mine, theirs, "key", "them.parquet")
    assert found.partner.tolist() == [2, -1, 0, -1]
    assert found.counts == {
        "matched": 2,
        "no key": 1,
        "key is not there": 1,
        "witnesses": {"url": {"agree": 2, "differ": 0, "share": 1.0}},
        "other_side": {"rows": 3, "no key": 0, "repeats": 0, "strangers": 1},
    }


def test_a_url_with_two_captions_is_decided_by_the_caption() -> None:
    """LAION is unique in URL and text."""
    mine = table(url=["http://b", "http://b", "http://b"], caption=["one", "two ", "three"])
    theirs = table(url=["http://b", "http://b"], caption=["two", "one"])
    found = join(mine, theirs, "url", "them.parquet")
    assert found.partner.tolist() == [1, 0, -1]
    assert found.reasons == {"url is there several times": 1}


def test_without_a_witness_repeats_are_ambiguous() -> None:
    mine, theirs = table(url=["http://b", "http://c"]), table(url=["http://b"] * 2 + ["http://c"])
    found = join(mine, theirs, "url", "them.parquet")
    assert found.partner.tolist() == [-1, 2]
    assert found.counts["other_side"]["repeats"] == 1


def test_forms_are_the_same_on_both_sides() -> None:
    mine = table(url=["http://a"], caption=[" cafe\u0301\u00a0"], sha256=["AB"])
    theirs = table(url=["http://a\t"], caption=["caf\u00e9"], sha256=["ab"])
    found = join(mine, theirs, "url", "them.parquet")
    assert (found.agree, found.partner.tolist()) == ({"sha256": (1, 0), "caption": (1, 0)}, [0])


def rows(count: int, wrong: int, by: str = "key") -> tuple[pa.Table, pa.Table]:
    names = [f"{by}{i}" for i in range(count)]
    texts = [f"text {i}" for i in range(count)]
    other = [f"other {i}" if i < wrong else text for i, text in enumerate(texts)]
    return table(**{by: names, "caption": texts}), table(**{by: names, "caption": other})


def test_keys_of_another_download_are_refused() -> None:
    """Keys are the same in every download of img2dataset's."""
    with pytest.raises(ClipshiftError, match=r"them\.parquet: of 100 rows .* only 80 .*caption"):
        partners(*rows(100, 20), "key")
    assert partners(*rows(100, 20), "key", share=0.8).count(-1) == 20
    assert partners(*rows(100, 20), "key", share=0).count(-1) == 0


def test_a_key_with_another_caption_has_no_partner_but_a_url_has() -> None:
    found = join(*rows(100, 5), "key", "them.parquet")
    assert found.reasons == {"key is there with another caption": 5}
    assert partners(*rows(100, 5, "url"), "url").count(-1) == 0


def test_hashes_of_other_bytes_are_no_witnesses() -> None:
    """Of the download here, of the resized image there: none agrees, though captions do."""
    mine, theirs = rows(20, 0)
    mine = mine.append_column("sha256", pa.array([f"a{i}" for i in range(20)]))
    theirs = theirs.append_column("sha256", pa.array([f"b{i}" for i in range(20)]))
    found = join(mine, theirs, "key", "them.parquet")
    assert (found.counts["matched"], found.agree) == (20, {"caption": (20, 0)})
    with pytest.raises(ClipshiftError, match="only 0 have the same sha256"):
        join(mine.select(["key", "sha256"]), theirs, "key", "them.parquet")


@pytest.mark.parametrize(("agree", "differ", "fine"), [
    (2, 1, True), (1, 2, False), (0, 1, False), (0, 0, True), (89, 11, False), (90, 10, True),
])  # fmt: skip
def test_one_of_a_few_may_differ(agree: int, differ: int, fine: bool) -> None:
    if fine:
        check("caption", agree, differ, "url", "them.parquet")
    else:
        with pytest.raises(ClipshiftError, match=r"lower `agree`"):
            check("caption", agree, differ, "url", "them.parquet")
