"""Trainings of several processes: gloo on a CPU, two of them, by torchrun."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import ValidationError

from clipshift.core.brace_ranges import spread
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, sha256_file, write_json, write_parquet
from clipshift.core.step import Job
from clipshift.datasets.shards import write_tar
from clipshift.datasets.tars import Sample
from clipshift.study.config.trainings import Training
from clipshift.training import checkpoints, failures, launch
from clipshift.training.batches import ExactLoader, seen_rows, trained, write_count
from clipshift.training.clip import Filtered, arguments, filtered, plan, train
from clipshift.training.local_copy import copied_shards, copy_split
from clipshift.training.shards import write_shards
from tests.conftest import photo
from tests.processes import descendants

RUN = "s-vit-s0"
MODEL: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def settings(**changes: Any) -> Training:
    values = {"model": MODEL, "samples": 96, "checkpoints": 3, "batch": 16, "warmup": 2}
    return Training(**(values | {"processes": 2} | changes))


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A built pool of four shards, its reference set, and a split that keeps two thirds of it."""
    folder = tmp_path_factory.mktemp("pool")
    rows = []
    for shard in range(4):
        samples = []
        for i in range(12):
            key = f"k{shard}{i:02d}"
            samples.append(Sample(key, {"jpg": photo(100 * shard + i), "txt": key.encode()}))
            rows.append({"key": key, "kept": i % 3 > 0, "reason": "kept"})
        write_tar(folder / f"{shard:05d}.tar", samples)
        write_parquet(folder / f"{shard:05d}.parquet", pa.table({"key": [s.key for s in samples]}))
        entry = {"shard": {"name": f"{shard:05d}.tar", "samples": len(samples)}}
        write_json(folder / f"{shard:05d}.json", entry)
    reference = [Sample(f"r{i}", {"jpg": photo(i), "txt": f"r{i}".encode()}) for i in range(5)]
    write_tar(folder / "captioned.tar", reference)
    rows += [{"key": s.key, "kept": True, "reason": "reference"} for s in reference]
    write_parquet(folder / "s.parquet", pa.Table.from_pylist(rows))
    return {
        "split": folder / "s.parquet",
        "words": [f"{folder}/{{00000..00003}}.tar", f"{folder}/captioned.tar"],
        "how": Filtered(spread(f"{folder}/{{00000..00003}}.parquet")),
        "kept": {row["key"] for row in rows if row["kept"]},
    }


def start(pool: dict[str, Any], training: Training, folder: Path) -> dict[str, Any]:
    """Train to the end; the record."""
    train(
        RUN, pool["split"], pool["words"], training, 0, folder / "work", folder / "out/model.pt",
        how=pool["how"],
    )  # fmt: skip
    record: dict[str, Any] = read_json(folder / "out/record.json")
    return record


@pytest.fixture(scope="module")
def undisturbed(pool: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A training of two processes with all that a small memory asks for, to its end."""
    folder = tmp_path_factory.mktemp("undisturbed")
    training = settings(accumulation=2, grad_checkpointing=True, precision="amp_bf16")
    record = start(pool, training, folder)
    return {"training": training, "record": record, "model": sha256_file(folder / "out/model.pt")}


def test_every_sample_is_counted(undisturbed: dict[str, Any]) -> None:
    record = undisturbed["record"]
    assert record["samples_seen"] == undisturbed["training"].samples == 96
    assert record["plan"]["steps_per_part"] == 2
    assert record["keys"] == {"kept": 37, "seen": 37, "unseen": 0, "first_unseen": []}
    command = record["command"]
    assert "--nproc-per-node=2" in command
    for flag, value in (("--batch-size", "4"), ("--accum-freq", "2"), ("--precision", "amp_bf16")):
        assert command[command.index(flag) + 1] == value
    assert "--grad-checkpointing" in command


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_preempted_and_continued_ends_with_the_same_bytes(
    pool: dict[str, Any], undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """Killed after a checkpoint; nothing of it lives on; then a torn newest checkpoint."""
    work, out = tmp_path / "work", tmp_path / "out"
    words = [sys.executable, "-m", "clipshift.core.step", "training.clip.train"]
    training = undisturbed["training"]
    params = {"run": RUN, "split": pool["split"], "tars": pool["words"], "training": training}
    params |= {"seed": 0, "work": work, "model": out / "model.pt"}
    process = subprocess.Popen(
        words, start_new_session=True, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdin
    with process.stdin:
        process.stdin.write(str(Job("training.clip.train", {}, lambda: params)).encode())
    folder = work / "logs" / RUN / "checkpoints"
    deadline = time.monotonic() + 120
    while not (folder / checkpoints.LATEST).exists():
        assert process.poll() is None, "the training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    below = descendants(process.pid)
    assert len(below) >= 3  # torchrun and its two
    process.kill()  # this process alone: the others have to notice
    process.wait()
    while alive := {pid for pid in below if Path(f"/proc/{pid}").exists()}:
        assert time.monotonic() < deadline, alive
        time.sleep(0.05)
    # A torn newest checkpoint, as a lost node leaves it.
    newest = folder / "epoch_2.pt"
    newest.write_bytes((folder / "epoch_1.pt").read_bytes()[:-200])
    record = start(pool, training, tmp_path)
    assert record["samples_seen"] == 96
    assert sha256_file(out / "model.pt") == undisturbed["model"]


def test_two_processes_train_through_the_filter(pool: dict[str, Any], tmp_path: Path) -> None:
    record = start(pool, settings(read="filter", samples=40, checkpoints=1), tmp_path)
    assert (record["split_samples"], record["samples_seen"]) == (37, 48)  # in whole batches
    assert record["samples_seen"] == plan(settings(samples=40, checkpoints=1))["samples_seen"]


def test_two_processes_have_the_gradient_of_one() -> None:
    """Of the loss as the processes share it (`--local-loss --gather-with-grad`)."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run([*words, str(Path(__file__).with_name("shared_loss.py"))], check=True)


def captions(data: Path, rank: int, world: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What one process of several reads in one pass over its tars, by open_clip's own pipeline."""
    from argparse import Namespace

    import open_clip_train.data
    import open_clip_train.main

    from clipshift.training.open_clip_main import read_exactly

    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(world))
    args = Namespace(
        train_data=str(data), train_num_samples=1, dataset_resampled=False, seed=0, workers=0,
        world_size=world, batch_size=1, train_data_upsampling_factors=None, val_data=None,
        imagenet_val=None, imagenet_v2=None, dataset_type="webdataset",
    )  # fmt: skip
    with monkeypatch.context() as patched:
        for module, name in ((open_clip_train.main, "get_data"),
                             (open_clip_train.data, "tarfile_to_samples_nothrow"),
                             (open_clip_train.data.wds, "decode"),
                             (open_clip_train.data.wds, "to_tuple")):  # fmt: skip
            patched.setattr(module, name, getattr(module, name))  # so that it is restored
        read_exactly()
        info = open_clip_train.main.get_data(
            args, (np.asarray, np.asarray), tokenizer=lambda text: [text]
        )
    dataset = info["train"].dataloader._loader.pipeline[0].dataset
    return [texts[0] for _, texts, _ in dataset.iterator1()]


def test_filter_and_copy_give_the_processes_the_same_samples(
    pool: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clipshift.datasets.tar_paths import tars_of

    tars = tars_of(pool["words"], tmp_path)
    shards = launch.copy_shards(settings())
    copy_split(pool["split"], tars, None, 0, tmp_path / "copy", shards)
    write_shards(tmp_path / "copied.json", copied_shards(tmp_path / "copy"))
    through, count = filtered(pool["split"], pool["words"], tmp_path, pool["how"], tmp_path)
    assert count == len(pool["kept"]) == 37
    for data in (tmp_path / "copied.json", through):
        seen = Counter(text for rank in (0, 1) for text in captions(data, rank, 2, monkeypatch))
        assert seen.keys() == pool["kept"]  # captions are the keys
        assert set(seen.values()) == {1}  # no sample goes to both


def test_shards_and_batches_are_shared_by_the_processes(tmp_path: Path) -> None:
    assert launch.copy_shards(settings(processes=3, batch=18)) == 9
    assert launch.copy_shards(settings(processes=1, gpus=3, batch=18)) == 12
    assert launch.share(settings(accumulation=4)) == 2
    with pytest.raises(ValidationError, match="by 2 processes in 3 parts each"):
        settings(accumulation=3)
    with pytest.raises(ValidationError, match="`gpus` has one on each"):
        settings(gpus=2)
    with pytest.raises(ClipshiftError, match="2 processes of a training cannot share 1 tars"):
        arguments(RUN, settings(), 0, Path("x.json"), 1, tmp_path)


def test_fewer_gpus_than_configured_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    launch.check_gpus(settings(processes=1, gpus=2))
    with pytest.raises(ClipshiftError, match=r"wants 4 GPUs .* sees 2"):
        launch.check_gpus(settings(processes=1, gpus=4))


def test_defaults_leave_trainings_as_they_were() -> None:
    """Their JSON is a parameter of the rule: a new key in it would train everything again."""
    dumped = json.loads(Training(model={}, samples=1).model_dump_json())
    assert not dumped.keys() & {"accumulation", "grad_checkpointing", "processes"}
    assert settings(accumulation=2) == Training.model_validate_json(
        settings(accumulation=2).model_dump_json()
    )


class Loader:
    """As open_clip's loader: a pipeline whose first stage holds the data set."""

    def __init__(self, tars: list[list[int]], size: int, batches: int):
        import webdataset as wds

        stages = [
            lambda: iter([(n, n) for tar in tars for n in tar]),
            wds.batched(size, partial=False),
        ]
        self.dataset = wds.DataPipeline(*stages).with_epoch(batches)
        self.pipeline = [self]

    def __iter__(self) -> Any:
        return iter(self.dataset)


def test_a_part_is_exactly_its_batches(tmp_path: Path) -> None:
    # open_clip gives 3 batches to each of 2 workers for the 5 of a part.
    loader = ExactLoader(
        Loader([[1, 2, 3, 4, 5]], 2, 6), samples=20, size=2, world=2, workers=0, rows=20,
        work=tmp_path,
    )  # fmt: skip
    assert [list(batch[0]) for batch in loader] == [[1, 2], [3, 4], [1, 2], [3, 4], [1, 2]]
    assert (loader.num_batches, loader.samples, loader.num_samples) == (5, 10, 20)
    write_count(loader, tmp_path, 0, 1, 0, [])
    assert np.flatnonzero(seen_rows(tmp_path, 20)).tolist() == [1, 2, 3, 4]  # 5 is in no batch
    again = ExactLoader(
        Loader([[5, 19]], 2, 6), samples=2, size=2, world=1, workers=0, rows=20, work=tmp_path
    )
    assert len(list(again)) == 1
    write_count(again, tmp_path, 1, 1, 0, [])
    assert np.flatnonzero(seen_rows(tmp_path, 20)).tolist() == [1, 2, 3, 4, 5, 19]


def test_a_reader_without_a_batch_does_not_search_forever(tmp_path: Path) -> None:
    loader = ExactLoader(
        Loader([[1]], 2, 3), samples=6, size=2, world=1, workers=0, rows=9, work=tmp_path
    )
    with pytest.raises(ClipshiftError, match="fewer than the 2 samples"):
        list(loader)
    with pytest.raises(ClipshiftError, match="fewer than the 2 samples"):
        failures.check(tmp_path)


def test_uncounted_parts_are_an_error(tmp_path: Path) -> None:
    write_json(tmp_path / "00000.json", {"samples": 7, "batches": 1, "watched": [3]})
    assert trained(tmp_path, 1) == (7, [[3]])
    with pytest.raises(ClipshiftError, match=r"counts of 1 parts.*00001\.json"):
        trained(tmp_path, 2)


def saved(path: Path, epoch: int) -> Path:
    torch.save({"epoch": epoch, "state_dict": {"w": torch.arange(1000.0)}}, path)
    return path


def test_the_newest_whole_checkpoint_is_found(tmp_path: Path) -> None:
    latest = tmp_path / checkpoints.LATEST
    assert checkpoints.settle(tmp_path) is None
    saved(tmp_path / "epoch_9.pt", 9)
    saved(latest, 9)
    assert checkpoints.settle(tmp_path) == 9
    saved(tmp_path / "epoch_10.pt", 10)  # killed before the latest was renamed
    assert checkpoints.settle(tmp_path) == 10
    assert checkpoints.parts_done(latest) == 10
    torn = bytearray(latest.read_bytes())
    torn[len(torn) // 2] ^= 1  # a page that never reached the disk
    latest.write_bytes(bytes(torn))
    (tmp_path / "epoch_11.pt").write_bytes(b"PK")
    assert checkpoints.settle(tmp_path) == 10
    for file in tmp_path.glob("*.pt"):
        file.write_bytes(file.read_bytes()[:100])
    assert checkpoints.settle(tmp_path) is None
    assert not latest.exists()


def test_variables_of_a_cluster_do_not_reach_open_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    look = "import os; assert not {'SLURM_NTASKS', 'OMPI_COMM_WORLD_SIZE'} & set(os.environ)"
    assert launch.start([sys.executable, "-c", look], {}) == 0
    assert launch.start([sys.executable, "-c", "raise SystemExit(3)"], {}) == 3
    assert os.environ["SLURM_NTASKS"] == "2"


def test_signal_reaches_the_children() -> None:
    """`die_with_parent`, by itself: a grandchild ends when the child is killed."""
    child = (
        "import subprocess, sys; from clipshift.core.processes import die_with_parent as d;"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], preexec_fn=d);"
        "print(p.pid, flush=True); p.wait()"
    )
    process = subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    grandchild = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    for _ in range(200):
        if not Path(f"/proc/{grandchild}").exists():
            break
        time.sleep(0.02)
    assert not Path(f"/proc/{grandchild}").exists()
