"""Labels found in captions, language and banned words, and what a corpus makes of an image."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet, write_parquet
from clipshift.datasets.captions.corpora import Reader
from clipshift.datasets.captions.corpora import corpus as write_corpus
from clipshift.datasets.captions.label_statistics import statistics
from clipshift.datasets.captions.language import banned, judge
from clipshift.datasets.captions.matcher import ClassNames, class_names, finder, label_of
from clipshift.datasets.captions.schema import FIELDS
from clipshift.datasets.shards import write_table
from clipshift.splits.usable import choose
from clipshift.study.config.captions import Corpus, English, Matcher
from tests.conftest import row

CLASSES = ["cat", "dog", "tiger shark"]


def matcher(**changes: Any) -> Matcher:
    names = {"cat": ["cat", "kitten"], "dog": ["dog"], "tiger shark": ["tiger shark", "shark"]}
    return Matcher(**({"names": names, "fields": ["title", "tags"]} | changes))


@pytest.mark.parametrize(
    ("text", "changes", "expected"),
    [
        ("a cat and a dog", {}, [0, 1]),
        ("a dog and a cat, dogs", {}, [1, 0]),
        ("a Cat", {}, []),
        ("a Cat", {"case": False}, [0]),
        ("concatenate", {}, []),
        ("concatenate", {"word_boundary": False}, [0]),
        ("tiger shark", {}, [2]),
        ("a dog_house, dog-house", {}, [1]),
        ("", {}, []),
    ],
)
def test_names_of_classes(text: str, changes: dict[str, Any], expected: list[int]) -> None:
    assert finder(matcher(**changes), CLASSES).find(text) == expected


def test_the_longest_name_wins_and_a_shared_name_names_both() -> None:
    names = ClassNames([["tiger"], ["tiger shark"], ["crane"], ["crane"]], True, True)
    assert names.find("a tiger shark") == [1]
    assert names.find("a crane") == [2, 3]
    assert label_of(names.find("a crane"), "drop") == ([], "several classes named")


@given(
    st.lists(st.sampled_from(["cat", "dog", "shark", "kitten", "sky", "Dog", "catty"]), max_size=8)
)
def test_words_agree_with_a_plain_search(words: list[str]) -> None:
    """Of single words, whole-word search is membership."""
    single = matcher(names={"cat": ["cat", "kitten"], "dog": ["dog"], "tiger shark": ["shark"]})
    plain = {i for i, own in enumerate([{"cat", "kitten"}, {"dog"}, {"shark"}]) if own & set(words)}
    assert set(finder(single, CLASSES).find(" ".join(words))) == plain


@pytest.mark.parametrize(
    ("found", "multi", "label", "reason"),
    [
        ([], "first", [], "no class named"),
        ([2, 0], "drop", [], "several classes named"),
        ([2, 0], "first", [2], None),
        ([2, 0], "all", [0, 2], None),
        ([1], "drop", [1], None),
    ],
)
def test_texts_that_name_several(
    found: list[int], multi: str, label: list[int], reason: str | None
) -> None:
    assert label_of(found, multi) == (label, reason)


def test_imagenet_names() -> None:
    """Both lists have 1,000 classes in one order: most classes share a word."""
    thousand = [str(i) for i in range(1000)]
    openai, wordnet = (
        class_names(Matcher(names=source), thousand) for source in ("openai", "wordnet")
    )
    assert len(openai) == len(wordnet) == 1000
    assert wordnet[0] == ["tench", "Tinca tinca"]

    def words(names: list[str]) -> set[str]:
        return set(" ".join(names).casefold().split())

    same = sum(bool(words(a) & words(b)) for a, b in zip(openai, wordnet, strict=True))
    assert same > 900
    with pytest.raises(ClipshiftError, match="1000 classes, and the study has 3"):
        class_names(Matcher(names="openai"), CLASSES)
    with pytest.raises(ClipshiftError, match=r"\['cow'\], which are no classes"):
        class_names(Matcher(names={"cow": ["cow"]}), CLASSES)


def test_english_by_letters_and_by_words(tmp_path: Path) -> None:
    by_letters = judge(English(least=0.9))
    assert by_letters("A cat, 2014") and not by_letters("Кот") and not by_letters("été à Paris")
    assert not by_letters("2014")
    (tmp_path / "words").write_text("a\nCat\nsits\n")
    by_words = judge(English(by="words", least=0.6, words=str(tmp_path / "words")))
    assert by_words("A cat sleeps") and not by_words("eine Katze schläft")
    with pytest.raises(ClipshiftError, match="nowhere"):
        judge(English(by="words", words=str(tmp_path / "nowhere")))


def test_english_by_library() -> None:
    pytest.importorskip("py3langid")
    by_library = judge(English(by="py3langid", least=0.9))
    assert by_library("The quick brown fox jumps over the lazy dog near the river")
    assert not by_library("Der schnelle braune Fuchs springt über den faulen Hund am Fluss")


def test_a_language_library_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "py3langid.langid", None)
    with pytest.raises(ClipshiftError, match="pip install py3langid"):
        judge(English(by="py3langid"))


def test_banned_words_are_whole_words_in_any_case(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("# a comment\nass\nbad phrase\n")
    pattern = banned(tmp_path / "list")
    assert pattern.search("An ASS") and pattern.search("a bad phrase.")
    assert not pattern.search("a glass")


def image(key: str, title: str = "", description: str = "", tags: str = "",
            class_name: str | None = None, label: int | None = None) -> dict[str, Any]:  # fmt: skip
    texts = {"title": title, "description": description, "tags": tags}
    return {"key": key, "class_name": class_name, "label": label} | texts


@pytest.mark.parametrize(
    ("corpus", "row_", "caption", "labels", "reason"),
    [
        ({"fields": ["title"]}, {"title": " A cat "}, "A cat", [], None),
        ({"fields": ["title"]}, {"tags": "cat"}, None, [], "no caption"),
        ({"fields": ["tags", "title"]}, {"title": "t", "tags": "a, b"}, "a, b, t", [], None),
        (
            {"fields": ["title", "description", "tags"]},
            {"title": "t", "tags": "a"},
            "t, a",
            [],
            None,
        ),
        ({"labels": "table"}, {"class_name": "dog"}, None, [1], None),
        ({"labels": "table"}, {"class_name": None}, None, [], "no class of the study"),
        ({"labels": "table"}, {"class_name": "dog", "label": 2}, None, [2], None),
        ({"labels": "m"}, {"title": "the shark"}, None, [2], None),
        ({"labels": "m", "fields": ["tags"]}, {"title": "cat"}, None, [0], "no caption"),
        ({"labels": "m", "fields": ["tags"]}, {"tags": "x"}, "x", [], "no class named"),
        (
            {"template": "a photo of a {class}", "labels": "m"},
            {"title": "cat"},
            "a photo of a cat",
            [0],
            None,
        ),
        (
            {"fields": ["title", "tags", "description"], "separator": " "},
            {"title": "a", "tags": "b, c", "description": "d"},
            "a b, c d",
            [],
            None,
        ),
        ({"fields": ["title"], "language": {}}, {"title": "Кот"}, "Кот", [], "caption not English"),
        ({}, {}, None, [], None),
        ({"texts": ["tags"]}, {"title": "t"}, None, [], "no text"),
        ({"texts": ["tags", "title"], "labels": "m"}, {"title": "x"}, None, [], "no class named"),
    ],
)
def test_what_a_corpus_makes_of_a_picture(
    corpus: dict[str, Any], row_: dict[str, Any], caption: str | None, labels: list[int],
    reason: str | None,
) -> None:  # fmt: skip
    rule = matcher() if corpus.get("labels") == "m" else None
    made = Reader(Corpus.model_validate(corpus), CLASSES, rule).read(image("k", **row_))
    assert made == {"key": "k", "caption": caption, "labels": labels, "reason": reason}


def test_one_template_is_drawn_for_each_image_by_its_key() -> None:
    templates = ["a {class}", "the {class}", "one {class}"]
    corpus = Corpus(template=templates, labels="table")
    rows = [image(f"k{i}", class_name="dog") for i in range(300)]
    captions = [Reader(corpus, CLASSES).read(one)["caption"] for one in rows]
    again = [Reader(corpus, CLASSES).read(one)["caption"] for one in reversed(rows)]
    assert captions == again[::-1]
    counts = {text.replace("{class}", "dog"): 0 for text in templates}
    for caption in captions:
        counts[caption] += 1
    assert all(70 < n < 130 for n in counts.values()), counts


def test_the_80_templates_of_imagenet() -> None:
    corpus = Corpus(template="openai_imagenet", labels="table")
    read = Reader(corpus, CLASSES).read
    captions = {read(image(f"k{i}", class_name="dog"))["caption"] for i in range(3000)}
    assert len(captions) == 80 and "a photo of the dog." in captions
    assert not any("{" in caption for caption in captions)


@pytest.mark.parametrize("template", ["a photo", ["a {class}", "a photo"], []])
def test_templates_without_a_class_are_refused(template: str | list[str]) -> None:
    with pytest.raises(ValueError, match="template"):
        Corpus(template=template, labels="table")


def test_keys_that_came_later_are_left_out_at_their_default() -> None:
    assert "separator" not in Corpus(fields=["title"]).model_dump()
    assert Corpus(fields=["title"], separator=" ").model_dump()["separator"] == " "


def test_a_name_of_two_classes_is_no_label() -> None:
    """ImageNet has two such pairs; only the data can say which of them an image is."""
    reader = Reader(Corpus(labels="table"), ["missile", "dog", "missile"])
    with pytest.raises(ClipshiftError, match=r"'missile' is the name of the classes \[0, 2\]"):
        reader.read(image("k", class_name="missile"))
    assert reader.read(image("k", class_name="missile", label=2))["labels"] == [2]


@pytest.fixture
def shard(tmp_path: Path) -> tuple[Path, list[Path]]:
    """A sample table, and its fields in two files whose order is another."""
    table = tmp_path / "00000.parquet"
    named = {"a": "cat", "b": "dog", "c": None, "d": "cat"}
    write_table(table, [row("s", k, class_name=c) for k, c in named.items()])
    texts = [
        image("s-d", tags="kitten, play"),
        image("s-b", title="a cat", tags="dog"),
        image("s-a", title="my cat"),
        image("other", title="dog"),
    ]
    files = [tmp_path / "f1.parquet", tmp_path / "f2.parquet"]
    for file, part in zip(files, (texts[:2], texts[2:]), strict=True):
        rows = [{k: r[k] for k in FIELDS.names} for r in part]
        write_parquet(file, pa.Table.from_pylist(rows, schema=FIELDS))
    return table, files


def test_a_shard_is_joined_by_key_and_adds_up(
    shard: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    table, files = shard
    out = tmp_path / "corpus.parquet"
    write_corpus(Corpus(fields=["title"], labels="m"), CLASSES, table, files, out, matcher())
    rows = {r["key"]: r for r in read_parquet(out).to_pylist()}
    assert list(rows) == ["s-a", "s-b", "s-c", "s-d"]
    assert rows["s-a"]["caption"] == "my cat" and rows["s-a"]["labels"] == [0]
    assert {k: r["reason"] for k, r in rows.items()} == {
        "s-a": None, "s-b": "several classes named", "s-c": "no class named", "s-d": "no caption",
    }  # fmt: skip
    found = read_json(out.with_suffix(".json"))
    assert (found["in"], found["out"]) == (4, 1)
    assert found["rejected"] == {
        "several classes named": 1, "no class named": 1, "no caption": 1,
    }  # fmt: skip


def test_a_training_reads_what_split_and_corpus_both_keep(
    shard: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    table, files = shard
    corpus, split = tmp_path / "corpus.parquet", tmp_path / "split.parquet"
    write_corpus(Corpus(fields=["title"]), CLASSES, table, files, corpus)
    keys, kept = ["s-a", "s-b", "s-c"], [True, False, True]
    reasons = ["kept", "duplicate", "kept"]
    write_parquet(split, pa.table({"key": keys, "kept": kept, "reason": reasons}))
    guard = tmp_path / "guard.parquet"
    choose(split, None, [str(corpus)], tmp_path / "out.parquet")
    assert read_parquet(tmp_path / "out.parquet", ["key", "kept", "reason"]).to_pylist() == [
        {"key": "s-a", "kept": True, "reason": "kept"},
        {"key": "s-b", "kept": False, "reason": "duplicate"},
        {"key": "s-c", "kept": False, "reason": "no caption"},
    ]
    assert read_json(tmp_path / "out.json")["rejected"] == {"duplicate": 1, "no caption": 1}
    seen = {"key": ["s-a", "s-a"], "test_set": ["val", "sketch"]}
    write_parquet(guard, pa.table(seen))
    with pytest.raises(ClipshiftError, match="same bytes as an image of the test set val': 1"):
        choose(split, guard, [str(corpus)], tmp_path / "out.parquet")
    write_parquet(split, pa.table({"key": ["s-z"], "kept": [True], "reason": ["kept"]}))
    with pytest.raises(ClipshiftError, match="1 points that its corpus does not know"):
        choose(split, guard, [str(corpus)], tmp_path / "out.parquet")


def test_label_in_caption_statistics(shard: tuple[Path, list[Path]]) -> None:
    table, files = shard
    rows = statistics(matcher(), CLASSES, [table], files)
    counts = {(r["field"], r["what"]): r["count"] for r in rows}
    assert {r["n"] for r in rows} == {3}  # c has no true class
    assert (counts["title", "text"], counts["title", "named"]) == (2, 1)
    assert (counts["tags", "text"], counts["tags", "named"]) == (2, 2)
    assert (counts["description", "text"], counts["any", "named"]) == (0, 3)
    assert counts["pseudo-label", "right"] == 2  # a and d; b names two
    assert counts["pseudo-label", "several classes named"] == 1
    assert all(r["share_low"] <= r["share"] <= r["share_high"] for r in rows)
