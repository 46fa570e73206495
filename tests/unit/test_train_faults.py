"""Trainings on damaged or hostile tars, and those that diverge: they stop, and say why."""

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, write_json, write_npy, write_parquet
from clipshift.datasets.shards import write_tar
from clipshift.datasets.tars import Sample, read_tar
from clipshift.study.config.trainings import Training
from clipshift.training import vision
from clipshift.training.clip import Filtered, train
from clipshift.training.objectives.cross_entropy import CrossEntropy
from clipshift.training.shards import Shard, Shards, decoded, write_shards
from clipshift.training.tar_filter import reference_shards
from clipshift.training.watch import check_loss
from tests.conftest import photo

RUN = "s-vit-s0"
MODEL: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
HOSTILE = "a b'\"; touch owned; $(id) {00000..00001}::é"


class Payload:
    """Unpickled, it leaves a file."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


@pytest.fixture
def pool(tmp_path: Path) -> dict[str, Any]:
    """Two tars of 20 samples in a folder of a hostile name, each with a pickle."""
    folder = tmp_path / HOSTILE
    rows, tars = [], []
    for shard in range(2):
        samples = []
        for i in range(20):
            key = f"k{shard}{i:02d}"
            parts = {"jpg": photo(100 * shard + i), "txt": key.encode()}
            parts["pyd"] = pickle.dumps(Payload(tmp_path / "owned"))
            samples.append(Sample(key, parts))
            rows.append({"key": key, "kept": True, "reason": "kept", "labels": [i % 3]})
        tars.append(folder / f"{shard:05d}.tar")
        write_tar(tars[-1], samples)
        table = folder / f"{shard:05d}.parquet"
        write_parquet(table, pa.table({"key": [s.key for s in samples]}))
        entry = {"shard": {"name": tars[-1].name, "samples": 20}}
        write_json(table.with_suffix(".json"), entry)
    write_parquet(folder / "s.parquet", pa.Table.from_pylist(rows))
    write_json(folder / "s.json", {"out": 40})
    words = [f"{folder}/{{00000..00001}}.tar"]
    how = Filtered([folder / f"{i:05d}.parquet" for i in range(2)])
    return {"split": folder / "s.parquet", "words": words, "how": how, "tars": tars}


def start(pool: dict[str, Any], folder: Path, **changes: Any) -> dict[str, Any]:
    values = {"model": MODEL, "samples": 80, "checkpoints": 2, "batch": 8, "warmup": 2}
    # A rate that no configuration may have diverges at once.
    rate = {"lr": changes.pop("lr")} if "lr" in changes else {}
    settings = Training(**(values | changes)).model_copy(update=rate)
    train(
        RUN, pool["split"], pool["words"], settings, 0, folder / "work",
        folder / "out/model.pt", how=pool["how"],
    )  # fmt: skip
    record: dict[str, Any] = read_json(folder / "out/record.json")
    return record


def rewrite(tar: Path, change: Any) -> None:
    samples = list(read_tar(tar))
    write_tar(tar, change(samples))


@pytest.mark.parametrize("read", ["filter", "copy"])
def test_nothing_of_a_tar_or_its_name_runs(
    pool: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    monkeypatch.chdir(tmp_path)
    record = start(pool, tmp_path / HOSTILE / "run", read=read)
    assert not list(tmp_path.rglob("owned*"))
    assert record["keys"] == {"kept": 40, "seen": 40, "unseen": 0, "first_unseen": []}


@pytest.mark.parametrize("processes", [1, 2])
def test_a_damaged_tar_ends_the_training_by_name(
    pool: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str], processes: int
) -> None:
    tar = pool["tars"][1]
    tar.write_bytes(tar.read_bytes()[:9000])
    with pytest.raises(ClipshiftError, match=r"00001\.tar"):
        start(pool, tmp_path, read="filter", processes=processes)
    assert not (tmp_path / "out/model.pt").exists()
    assert "Traceback" not in capfd.readouterr().err


def test_what_a_short_training_never_saw_is_recorded(
    pool: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    record = start(pool, tmp_path, samples=16, checkpoints=1)
    keys = record["keys"]
    assert (keys["kept"], keys["seen"], keys["unseen"]) == (40, 16, 24)
    assert len(set(keys["first_unseen"])) == 10
    assert "note: the training s-vit-s0 never saw 24 of the 40" in capfd.readouterr().err


def test_a_diverged_training_says_where_and_leaves_no_model(
    pool: dict[str, Any], tmp_path: Path
) -> None:
    said = r"loss is (nan|inf) at step 2, at the learning rate 9\.7\d*e\+29\. Lower `lr`"
    with pytest.raises(ClipshiftError, match=said):
        start(pool, tmp_path, lr=1e30, warmup=0)
    assert not list((tmp_path / "out").glob("*"))
    record = read_json(tmp_path / "work/diverged.json")
    assert (record["step"], len(record["watched"])) == (2, 1)
    with pytest.raises(ClipshiftError, match=said):  # at once
        start(pool, tmp_path, lr=1e30, warmup=0)
    start(pool, tmp_path, samples=8, checkpoints=1)  # another training takes the folder
    assert (tmp_path / "out/model.pt").exists()


def test_a_diverged_tower(pool: dict[str, Any], tmp_path: Path) -> None:
    spec = CrossEntropy(objective="cross_entropy", base="b", corpus="c")
    settings = Training(model=MODEL, samples=64, batch=8, warmup=0, checkpoints=2)
    settings = settings.model_copy(update={"lr": 1e30})
    with pytest.raises(ClipshiftError, match=r"diverged: its loss is (nan|inf) at step \d, at the"):
        vision.train("s-v-s0", pool["split"], pool["words"], settings, spec, ["a", "b", "c"], 0,
                     tmp_path / "work", tmp_path / "out/model.pt")  # fmt: skip
    assert not list((tmp_path / "out").glob("*"))


def test_a_tower_that_saw_little(pool: dict[str, Any], tmp_path: Path) -> None:
    spec = CrossEntropy(objective="cross_entropy", base="b", corpus="c")
    settings = Training(model=MODEL, samples=16, batch=8, checkpoints=1)
    vision.train("s-v-s0", pool["split"], pool["words"], settings, spec, ["a", "b", "c"], 0,
                 tmp_path / "work", tmp_path / "out/model.pt")  # fmt: skip
    keys = read_json(tmp_path / "out/record.json")["keys"]
    assert (keys["kept"], keys["seen"], keys["unseen"]) == (40, 16, 24)
    assert len(set(keys["first_unseen"])) == 10
    header, row = (tmp_path / "out/loss.csv").read_text().splitlines()
    assert header == "part,samples_seen,mean_loss_of_part,gradient_norm,learning_rate"
    assert float(row.split(",")[3]) > 0


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
def test_losses_that_are_no_numbers(tmp_path: Path, loss: float) -> None:
    check_loss(1e30, 1, 0.1, tmp_path, [])
    with pytest.raises(ClipshiftError, match=r"at step 7, at the learning rate 0\.1\."):
        check_loss(loss, 7, 0.1, tmp_path, [])


def listed(tar: Path, keys: list[str]) -> Shards:
    keep = tar.with_name("keep.npy")
    write_npy(keep, np.array(keys, np.str_))
    write_shards(tar.with_name("shards.json"), [Shard(str(tar), 0, len(keys), str(keep))])
    return Shards(tar.with_name("shards.json"))


def test_samples_are_a_key_an_image_and_a_text(pool: dict[str, Any]) -> None:
    shards = listed(pool["tars"][0], ["k003", "k017"])
    samples = list(shards.source([{"url": "0"}]))
    assert [set(s) for s in samples] == [{"__key__", "__row__", "jpg", "txt"}] * 2
    assert [(s["__row__"], s["txt"]) for s in samples] == [(0, b"k003"), (1, b"k017")]
    assert decoded(samples[0])["txt"] == "k003"


def test_a_tar_without_a_kept_sample_is_an_error(pool: dict[str, Any]) -> None:
    shards = listed(pool["tars"][0], ["k003", "k0zz"])
    with pytest.raises(ClipshiftError, match=r"00000\.tar lacks 1 of the 2 samples .* 'k0zz'"):
        list(shards.source([{"url": "0"}]))


def test_a_key_twice_is_an_error(pool: dict[str, Any]) -> None:
    tar = pool["tars"][0]
    with tarfile.open(tar, "a") as more:
        for suffix, data in (("jpg", photo(0)), ("txt", b"again")):
            member = tarfile.TarInfo(f"k000.{suffix}")
            member.size = len(data)
            more.addfile(member, io.BytesIO(data))
    with pytest.raises(ClipshiftError, match="'k000' occurs twice"):
        list(listed(tar, ["k000"]).source([{"url": "0"}]))


def test_a_tar_that_is_gone_is_an_error(pool: dict[str, Any]) -> None:
    shards = listed(pool["tars"][0], ["k003"])
    pool["tars"][0].unlink()
    with pytest.raises(ClipshiftError, match=r"00000\.tar"):
        list(shards.source([{"url": "0"}]))


def test_a_copy_that_lost_samples_is_an_error(pool: dict[str, Any]) -> None:
    tar = pool["tars"][0]
    write_shards(tar.with_suffix(".json"), [Shard(str(tar), 0, 21)])
    with pytest.raises(ClipshiftError, match="holds 20 samples, copied were 21"):
        list(Shards(tar.with_suffix(".json")).source([{"url": "0"}]))


def test_captions_that_cannot_be_read_are_counted(pool: dict[str, Any]) -> None:
    tar = pool["tars"][0]
    rewrite(tar, lambda samples: [
        Sample("k000", {"jpg": samples[0].parts["jpg"]}),
        Sample("k001", samples[1].parts | {"txt": b"\xff\xfe\xff"}),
        samples[2],
    ])  # fmt: skip
    shards = listed(tar, ["k000", "k001", "k002"])
    assert [s["__key__"] for s in shards.source([{"url": "0"}])] == ["k002"]
    keys = shards.account(np.array([False, False, True]))
    assert keys == {"kept": 1, "seen": 1, "unseen": 0, "first_unseen": []}
    left_out = read_json(tar.parent / "undecodable/0.json")
    assert left_out == {"k000": "no caption in the sample", "k001": "caption is not UTF-8"}


def test_reference_samples_in_no_tar_are_an_error(pool: dict[str, Any], tmp_path: Path) -> None:
    write_npy(tmp_path / "reference.npy", np.array(["k001", "k101"], np.str_))
    shards = reference_shards(pool["tars"], tmp_path, 5, [False, True])
    assert [(s.first, s.rows, s.labelled) for s in shards] == [(5, 1, False), (6, 1, True)]
    with pytest.raises(ClipshiftError, match=r"keeps 2 samples .* its 1 tars hold 1"):
        reference_shards(pool["tars"][:1], tmp_path, 5, [False])
