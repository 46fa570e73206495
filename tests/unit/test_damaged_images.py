"""One damaged image ends no step: it is left out, counted and named."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from clipshift.classifiers import thresholds
from clipshift.core.counts import tolerate
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet, write_parquet
from clipshift.datasets import external_set
from clipshift.datasets.captions.template import captioned
from clipshift.datasets.images import decode
from clipshift.datasets.labels import check_labels
from clipshift.datasets.shards import write_tar
from clipshift.datasets.tar_paths import DATA_VARIABLE
from clipshift.datasets.tars import Sample, read_tar
from clipshift.evaluation import protocols
from clipshift.evaluation.views import entry, joined, read
from clipshift.figures import samples as grids
from clipshift.study.config.folders import FolderSet
from clipshift.training import images
from clipshift.training.local_copy import copy_split, unseen
from clipshift.training.shards import Shard, Shards, write_shards
from clipshift.training.vision import read_chosen
from tests.conftest import photo
from tests.unit.logits_case import said


def drawing() -> bytes:
    """A red square on nothing."""
    out = io.BytesIO()
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[2:5, 2:5] = (200, 0, 0, 255)
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def bmp() -> bytes:
    return photo(7, kind="BMP")


# What a pool may hold: suffixes in capitals, formats that open_clip does not read, damage.
MIXED = {
    "k0": {"JPEG": photo(0), "txt": b"a", "json": b"{}"},
    "k1": {"png": drawing(), "txt": b"b"},
    "k2": {"bmp": bmp(), "txt": b"c"},
    "k3": {"jpg": photo(3)[:300], "txt": b"d"},
    "k4": {"jpg": photo(4), "png": photo(5, kind="PNG"), "mask.png": drawing(), "txt": b"e"},
    "k5": {"txt": b"no image"},
    "k6": {"img.jpe": photo(6), "txt": b"f"},
}
SUFFIXES = {"k0": "jpeg", "k1": "png", "k2": "png", "k4": "jpg", "k6": "jpg"}
LEFT_OUT = {"k3": "undecodable image", "k5": "no image in the sample"}


@pytest.fixture
def mixed(tmp_path: Path) -> dict[str, Any]:
    tar = tmp_path / "m.tar"
    write_tar(tar, (Sample(key, dict(parts)) for key, parts in MIXED.items()))
    split = tmp_path / "split.parquet"
    labels = [[0]] * len(MIXED)
    write_parquet(
        split, pa.table({"key": list(MIXED), "kept": [True] * len(MIXED), "labels": labels})
    )
    np.save(tmp_path / "keep.npy", np.array(list(MIXED)))
    return {"tar": tar, "split": split}


def as_seen(found: dict[str, dict[str, bytes]], background: Any = (255, 255, 255)) -> None:
    """open_clip's decoder sees of each sample what the embedding saw, under a suffix it knows."""
    from webdataset.autodecode import imagehandler

    for key, parts in found.items():
        assert parts.keys() == {SUFFIXES[key], "txt"}
        pictures = [SUFFIXES[key]]
        theirs = imagehandler("pilrgb")(pictures[0], parts[pictures[0]])
        first = next(data for s, data in MIXED[key].items() if s not in ("txt", "json"))
        assert theirs.tobytes() == decode(first, background).tobytes()
        assert parts["txt"] == MIXED[key]["txt"]


@pytest.mark.parametrize("background", [(255, 255, 255), (0, 200, 0)])
def test_the_copy_is_what_the_embedding_saw(
    mixed: dict[str, Any], tmp_path: Path, background: tuple[int, int, int]
) -> None:
    work = tmp_path / "work"
    seen = copy_split(
        mixed["split"], [mixed["tar"]], None, 0, work / "data", 2, background=background
    )
    found = {s.key: s.parts for f in (work / "data").glob("*.tar") for s in read_tar(f)}
    assert seen == len(found) == 5
    as_seen(found, background)
    assert found["k0"]["jpeg"] == MIXED["k0"]["JPEG"]  # plain: the very bytes
    assert unseen(work) == {"undecodable": LEFT_OUT}
    assert copy_split(mixed["split"], [mixed["tar"]], None, 0, work / "data", 2) == 5


def test_a_small_copy_leaves_the_same_out(mixed: dict[str, Any], tmp_path: Path) -> None:
    copy_split(mixed["split"], [mixed["tar"]], 4, 0, tmp_path / "work/data", 2)
    assert unseen(tmp_path / "work") == {"undecodable": LEFT_OUT}


@pytest.mark.parametrize("background", ["#ffffff", "#00c800"])
def test_the_filter_passes_the_same(mixed: dict[str, Any], tmp_path: Path, background: str) -> None:
    kept = Shard(str(mixed["tar"]), 0, len(MIXED), str(tmp_path / "keep.npy"))
    write_shards(tmp_path / "shards.json", [kept], background)
    shards = Shards(tmp_path / "shards.json")
    found = {sample.key: sample.parts for _, sample in shards.read(0)}
    as_seen(found, (255, 255, 255) if background == "#ffffff" else (0, 200, 0))
    assert unseen(tmp_path) == {"undecodable": LEFT_OUT}
    seen = np.array([True] * 4 + [False] * 3)  # k3 is left out; k5, too, k4 and k6 are unseen
    assert shards.account(seen) == {
        "kept": 5, "seen": 3, "unseen": 2, "first_unseen": ["k4", "k6"]
    }  # fmt: skip


def test_the_vision_trainer_checks_once_what_it_reads(mixed: dict[str, Any]) -> None:
    keys, _ = read_chosen(mixed["split"], 1)
    left_out = images.undecodable([mixed["tar"]], keys)
    assert left_out == LEFT_OUT
    assert images.undecodable([mixed["tar"]], ["k3"]) == {"k3": LEFT_OUT["k3"]}
    rest, labels = read_chosen(mixed["split"], 1, left_out)
    assert rest == sorted(SUFFIXES)
    assert len(labels.starts) == len(rest) + 1
    pictures = images.ImageViews(
        images.index_tars([mixed["tar"]], rest), np.asarray, 0, (0, 200, 0)
    )
    assert [pictures[i, i][0].shape[2] for i in range(len(rest))] == [3] * 5
    assert pictures[1, 0][0][0, 0].tolist() == [0, 200, 0]


def model() -> protocols.Model:
    """A model whose feature is the mean colour."""
    return protocols.Model(
        lambda pixels: pixels.mean((2, 3)),
        lambda image: torch.from_numpy(np.asarray(image)).permute(2, 0, 1).float(),
        torch.device("cpu"), None, None, [],
    )  # fmt: skip


def test_an_evaluation_names_what_it_leaves_out() -> None:
    def samples() -> Iterator[Sample]:
        same = {"k2": photo(2), **{k: next(iter(MIXED[k].values())) for k in ("k0", "k3")}}
        return (Sample(key, {"jpg": data}) for key, data in sorted(same.items()))

    seen = protocols.features(model(), samples(), 2)
    assert seen.keys == ["k0", "k2"]
    assert seen.left_out == {"k3": LEFT_OUT["k3"]}
    assert seen.x.shape == (2, 3)
    drawn = [Sample("d", {"png": drawing()})]
    green = protocols.features(model(), iter(drawn), 2, (0, 255, 0)).x
    assert green[0, 1] > protocols.features(model(), iter(drawn), 2, (0, 0, 0)).x[0, 1]
    with pytest.raises(ClipshiftError, match="none of 1 images can be decoded"):
        protocols.features(model(), iter([Sample("k3", {"jpg": b"x"})]), 2)


def test_accuracies_are_of_the_others(tmp_path: Path) -> None:
    scores, labels = np.eye(3)[[0, 1, 1]], np.array([0, 1, 2])
    rows = said(tmp_path / "a-m-s0.parquet", scores, labels, left_out={"x": "empty file"})
    found = entry(read(rows))
    assert (found["n"], found["correct"]) == (3, 2)
    assert found["left_out"] == joined({0: found})["left_out"] == {"x": "empty file"}


def test_a_share_is_tolerated_and_one_in_any_case() -> None:
    bad = {f"k{i}": "empty file" for i in range(3)}
    tolerate({"k": "why"}, 2, "images of a")
    tolerate(bad, 300, "images of a")
    for count, share in ((299, 0.01), (300, 0.001)):
        with pytest.raises(ClipshiftError, match=r"3 of \d+ images of a .*'k0': empty file"):
            tolerate(bad, count, "images of a", share)
    with pytest.raises(ClipshiftError):
        tolerate({"k": "why"}, 1, "images of a")


def test_a_set_counts_a_sample_without_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    folder = tmp_path / "val"
    tar = folder / "test/0.tar"
    write_tar(
        tar,
        [
            Sample("a", {"jpg": photo(1), "cls": b"0"}),
            Sample("b", {"cls": b"1"}),
            Sample("c", {"JPG": photo(2), "cls": b"1"}),
        ],
    )
    (folder / "test/nshards.txt").write_text("1\n")
    (folder / "classnames.txt").write_text("cat\ndog\n")
    spec = FolderSet.model_validate({"folder": "val", "classes": 2, "samples": 3})
    external_set.build("val", spec, tmp_path / "out")
    account = read_json(tmp_path / "out/manifest.json")["account"]
    assert (account["in"], account["out"]) == (3, 2)
    assert account["rejected"] == {"no image in the sample": 1}
    assert read_parquet(tmp_path / "out/samples.parquet")["key"].to_pylist() == ["a", "c"]
    assert check_labels(tmp_path / "out", tar)[1] == {"a": 0, "c": 1}


def test_captions_of_a_sample_without_an_image(tmp_path: Path) -> None:
    tar = tmp_path / "a.tar"
    write_tar(tar, [Sample("a", {"cls": b"0"}), Sample("b", {"png": drawing(), "cls": b"0"})])
    rows = {key: {"class_name": "cat", "caption": ""} for key in "ab"}
    assert [sorted(s.parts) for s in captioned(tar, rows, "a {class}")] == [
        ["txt"],
        ["jpg", "txt"],
    ]


def test_a_grid_shows_a_grey_square(mixed: dict[str, Any]) -> None:
    sheet = grids.grid({"samples": list(MIXED)}, [mixed["tar"]], 1)
    assert sheet.width == grids.COLUMNS * (grids.THUMB + 2)
    assert (200, 200, 200) in {colour for _, colour in sheet.getcolors(1 << 20) or []}


def test_labelled_images_without_a_score(tmp_path: Path) -> None:
    keys = [f"k{i}" for i in range(5)]
    labels = pa.table({"key": keys, "label": pa.array([0, 1, 0, 1, 2], pa.int8())})
    write_parquet(tmp_path / "labels.parquet", labels)
    rows = {"key": keys[:4], "natural": [1.0, 0, 1, 0], "rendition": [0.0, 1, 0, 1]}
    rows["ambiguous"] = [None] * 4
    scores = tmp_path / "scores.parquet"
    write_parquet(scores, pa.table(rows))
    truth, found = thresholds.read_sides(tmp_path / "labels.parquet", [scores])["natural"]
    assert truth.tolist() == [True, False, True, False]
    assert found.tolist() == [1, 0, 1, 0]
    write_parquet(scores, pa.table(rows).slice(0, 3))
    with pytest.raises(ClipshiftError, match="2 of 5 labelled images"):
        thresholds.read_sides(tmp_path / "labels.parquet", [scores])


def test_embedding_lays_drawings_on_the_background(tmp_path: Path) -> None:
    from clipshift.core.counts import StepCounts
    from clipshift.similarity.embed import images as embedded

    write_tar(tmp_path / "a.tar", [Sample("a", {"png": drawing()}), Sample("b", {"jpg": b"x"})])
    step_counts = StepCounts("embed", "a")
    ((_, image),) = embedded(read_tar(tmp_path / "a.tar"), step_counts, (0, 200, 0))
    assert image.getpixel((0, 0)) == (0, 200, 0)
    assert step_counts.rejected == {"undecodable image": 1}


def test_sources_are_drawn_from_deep_grey_and_refuse_bombs() -> None:
    from clipshift.datasets.sources.render import Undrawable, render
    from clipshift.study.config.data import Rendering

    out = io.BytesIO()
    ramp = np.tile(np.linspace(0, 65535, 32).astype(np.uint16), (32, 1))
    Image.fromarray(ramp).save(out, "PNG")
    drawn = np.asarray(decode(render(out.getvalue(), Rendering(px=32)))).astype(int)
    assert np.abs(drawn[16, :, 0] - ramp[0] // 257).max() <= 4
    bomb = io.BytesIO()
    Image.new("1", (20000, 20000)).save(bomb, "PNG")
    with pytest.raises(Undrawable):
        render(bomb.getvalue(), Rendering())
