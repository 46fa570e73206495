"""What a training does around open_clip's program: its copy, its folder, its plan, its log."""

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import write_json, write_parquet
from clipshift.datasets.shards import write_tar
from clipshift.datasets.tars import Sample, read_tar
from clipshift.study.config.trainings import Training
from clipshift.training.clip import claim, identity_of, loss_rows, plan, train
from clipshift.training.local_copy import copy_split


def image(shade: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def data(tmp_path: Path) -> tuple[Path, list[Path]]:
    """A split of 20 kept and 10 removed samples in two tars."""
    keys = [f"k{i:02d}" for i in range(30)]
    tars = [tmp_path / "0.tar", tmp_path / "1.tar"]
    for tar, part in zip(tars, (keys[:17], keys[17:]), strict=True):
        samples = (Sample(k, {"png": image(int(k[1:])), "txt": k.encode()}) for k in part)
        write_tar(tar, samples)
    split = tmp_path / "split.parquet"
    write_parquet(split, pa.table({"key": keys, "kept": [i % 3 > 0 for i in range(30)]}))
    return split, tars


def settings(**changes: Any) -> Training:
    return Training(model={}, samples=100, **changes)


def copied(folder: Path) -> dict[str, list[str]]:
    return {tar.name: [s.key for s in read_tar(tar)] for tar in sorted(folder.glob("*.tar"))}


def test_the_copy_holds_the_kept_samples_shuffled(
    data: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    split, tars = data
    assert copy_split(split, tars, None, 0, tmp_path / "a") == 20
    keys = [key for part in copied(tmp_path / "a").values() for key in part]
    assert sorted(keys) == [f"k{i:02d}" for i in range(30) if i % 3 > 0]
    assert keys != sorted(keys)


def test_the_copy_depends_on_the_seed_and_not_on_memory_or_order(
    data: tuple[Path, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split, tars = data
    copy_split(split, tars, 4, 0, tmp_path / "a")
    copy_split(split, tars, 4, 1, tmp_path / "other")
    copy_split(split, tars[::-1], 4, 0, tmp_path / "b")
    assert copied(tmp_path / "a") == copied(tmp_path / "b") != copied(tmp_path / "other")
    assert Image.open(io.BytesIO(next(read_tar(tmp_path / "a/00000.tar")).image)).size == (4, 4)


def test_a_kept_sample_that_is_nowhere_is_an_error(
    data: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    split, tars = data
    with pytest.raises(ClipshiftError, match=r"9 samples .* none of its 1 tars, e\.g\. 'k17'"):
        copy_split(split, tars[:1], None, 0, tmp_path / "a")


def test_a_key_in_two_tars_is_an_error(data: tuple[Path, list[Path]], tmp_path: Path) -> None:
    split, tars = data
    with pytest.raises(ClipshiftError, match="in another tar, too"):
        copy_split(split, [*tars, tars[0]], None, 0, tmp_path / "a")


def test_a_split_smaller_than_a_batch_is_an_error(
    data: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    split, tars = data
    with pytest.raises(ClipshiftError, match="keeps 20 samples, fewer than one batch of 64"):
        train(
            "s-m-s0", split, [str(t) for t in tars], settings(batch=64), 0, tmp_path / "work",
            tmp_path / "out/model.pt",
        )  # fmt: skip


def test_a_folder_of_another_training_is_not_continued(
    data: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    split, tars = data
    work = tmp_path / "work"
    checkpoint = work / "logs/run/checkpoints/epoch_latest.pt"

    def start(training: Training, seed: int = 0) -> bool:
        same = claim(work, identity_of(split, tars, training, seed))
        assert checkpoint.exists() == same
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.touch()
        return same

    assert not start(settings())
    assert start(settings())
    assert not start(settings(lr=0.5))
    assert not start(settings(lr=0.5), seed=1)
    write_parquet(split, pa.table({"key": ["k00"], "kept": [True]}))
    assert not start(settings(lr=0.5), seed=1)
    assert start(settings(lr=0.5), seed=1)


def test_every_split_sees_as_many_samples_in_whole_batches() -> None:
    steps = plan(Training(model={}, samples=1000, batch=64, checkpoints=3))
    assert steps == {
        "parts": 3,
        "steps_per_part": 6,
        "samples_per_part": 384,
        "samples_seen": 1152,
    }


def test_losses_of_all_parts_with_what_was_watched() -> None:
    row = {"samples": 64, "loss": 3.5, "gradient_norm": 1.25, "learning_rate": 1e-5}
    skipped = row | {"samples": 128, "gradient_norm": None}
    found = [tuple(row.values()) for row in loss_rows([[row, skipped], [row]], 128)]
    assert found == [
        (0, 64, "3.5", "1.25", "1e-05"),
        (0, 128, "3.5", "", "1e-05"),
        (1, 192, "3.5", "1.25", "1e-05"),
    ]


def test_identity_is_json(data: tuple[Path, list[Path]], tmp_path: Path) -> None:
    """What is written and read again is equal, or no training would ever continue."""
    split, tars = data
    identity = identity_of(split, tars, settings(augmentation={"scale": (0.5, 1.0)}), 0)
    write_json(tmp_path / "a.json", identity)
    assert claim(tmp_path / "work", identity) is False
    assert claim(tmp_path / "work", identity) is True
