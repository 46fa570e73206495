"""Resharded tars hold exactly what splits keep; trainings see of them what the filter passes."""

import hashlib
import io
import signal
import subprocess
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from PIL import Image

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet, sha256_file, write_json, write_parquet
from clipshift.datasets.shards import tar_writer, write_tar
from clipshift.datasets.tar_paths import every_tar, tars_of
from clipshift.datasets.tars import Sample, read_tar
from clipshift.splits import reshard
from clipshift.study.config.load import parse
from clipshift.study.config.study import Config
from clipshift.study.layout.reading import Reading
from clipshift.study.layout.study import Layout
from clipshift.training.clip import Filtered, filtered
from clipshift.training.images import index_tars
from clipshift.training.local_copy import copy_split
from clipshift.training.shards import Shards, undecodable
from tests.conftest import ROOT, photo
from tests.unit import dying

SHARDS, ROWS = 2, 30
# Of every shard: two tars.
OF_TAR = 15


def kept_by(split: str, i: int) -> bool:
    return {"third": i % 3 == 0, "half": i % 2 == 0, "few": i == 6}[split]


def written(folder: Path, spoilt: dict[str, dict[str, bytes]] | None = None) -> dict[str, Any]:
    """A pool of two shards with two tars each, and three splits of it."""
    rows = []
    for shard in range(SHARDS):
        sizes = {}
        for part in range(2):
            keys = [f"k{shard}{part}{i:02d}" for i in range(OF_TAR)]
            samples = [
                Sample(key, {"jpg": photo(i), "txt": key.encode(), "json": b"{}"})
                for i, key in enumerate(keys)
            ]
            samples = [Sample(s.key, (spoilt or {}).get(s.key, s.parts)) for s in samples]
            name = f"{2 * shard + part:05d}"
            write_tar(folder / f"{name}.tar", samples)
            sizes[name] = OF_TAR
            rows += keys
        table = folder / f"tables/{shard:05d}.parquet"
        write_parquet(table, pa.table({"key": rows[-ROWS:]}))
        write_json(table.with_suffix(".json"), {"shard": {"samples": ROWS, "tars": sizes}})
    splits = {}
    for name in ("third", "half", "few"):
        splits[name] = folder / f"{name}.parquet"
        kept = [kept_by(name, i % ROWS) for i in range(len(rows))]
        reasons = ["kept" if k else "no" for k in kept]
        table = pa.table({"key": rows, "kept": kept, "reason": reasons})
        # One of the reference set, which no tar of the pool has.
        more = pa.table({"key": ["zz"], "kept": [name == "few"], "reason": ["reference"]})
        write_parquet(splits[name], pa.concat_tables([table, more]))
    return {"folder": folder, "keys": rows, "splits": splits}


@pytest.fixture
def pool(tmp_path: Path) -> dict[str, Any]:
    return written(tmp_path / "pool")


def words(pool: dict[str, Any], shard: int) -> dict[str, Any]:
    """The arguments of the step for a shard, but for the splits and `out`."""
    name = f"{pool['folder']}/{{{2 * shard:05d}..{2 * shard + 1:05d}}}.tar"
    return {"tars": [name], "table": pool["folder"] / f"tables/{shard:05d}.parquet"}


def make(pool: dict[str, Any], out: Path, *splits: str, samples: int = 4) -> Path:
    """The manifest of all shards."""
    files = [pool["splits"][name] for name in splits]
    records = []
    for shard in range(SHARDS):
        table = out / f"{shard:05d}.parquet"
        reshard.shard(**words(pool, shard), splits=files, samples=samples, out=table)
        records.append(table.with_suffix(".json"))
    reshard.sum_shards("group", records, out / "manifest.json")
    return out / "manifest.json"


def contents(manifest: Path) -> dict[str, list[Sample]]:
    return {tar.stem: list(read_tar(tar)) for tar in tars_of([str(manifest)], Path())}


def test_the_tars_hold_exactly_the_union(pool: dict[str, Any], tmp_path: Path) -> None:
    manifest = make(pool, tmp_path / "out", "third", "half")
    union = {k for i, k in enumerate(pool["keys"]) if kept_by("third", i) or kept_by("half", i)}
    found = contents(manifest)
    keys = [sample.key for samples in found.values() for sample in samples]
    assert len(keys) == len(set(keys)) == len(union) == 40 and set(keys) == union
    originals = {s.key: s.parts for t in pool["folder"].glob("*.tar") for s in read_tar(t)}
    for sample in (s for samples in found.values() for s in samples):
        own = originals[sample.key]
        assert sample.parts == {"jpg": own["jpg"], "txt": own["txt"]}  # no byte changed
    # Each shard's 20 are dealt to five tars by their hash, and are in the order of the pool there.
    for shard in range(SHARDS):
        mine = sorted(key for key in union if key[1] == str(shard))
        dealt = sorted(mine, key=lambda key: hashlib.sha256(f"0:{key}".encode()).hexdigest())
        for i in range(5):
            assert [s.key for s in found[f"{shard:05d}-{i:05d}"]] == sorted(dealt[i::5])
    tables = [read_parquet(tmp_path / f"out/{i:05d}.parquet")["key"].to_pylist() for i in (0, 1)]
    assert [key for table in tables for key in table] == keys


def test_the_manifest_counts(pool: dict[str, Any], tmp_path: Path) -> None:
    manifest = read_json(make(pool, tmp_path / "out", "third", "half", "few"))
    assert manifest["account"] == {
        "step": "reshard", "name": "group", "in": 60, "out": 40,
        "rejected": {"kept by no split": 20},
    }  # fmt: skip
    assert manifest["splits"] == {
        "third": {"samples": 20, "share": 0.5},
        "half": {"samples": 30, "share": 0.75},
        "few": {"samples": 2, "share": 0.05},  # without the one of the reference set
    }
    tars = [tmp_path / f"out/{name}.tar" for name in manifest["tars"]]
    assert manifest["bytes"] == sum(tar.stat().st_size for tar in tars)
    assert set(manifest["tars"].values()) == {4} and manifest["without_image"] == {}


def passed(path: Path) -> Counter[tuple[str, bytes, bytes]]:
    """What one pass over the tars of a list gives: key, image and text."""
    shards = Shards(path)
    read = shards.source({"url": name} for name in shards.names)
    return Counter((s["__key__"], s["jpg"], s["txt"]) for s in read)


@pytest.mark.parametrize("split", ["third", "half"])
def test_a_training_sees_what_the_filter_passes(
    pool: dict[str, Any], tmp_path: Path, split: str
) -> None:
    """Through the tars of several splits, through the pool, and from a copy of either."""
    manifest = make(pool, tmp_path / "out", "third", "half", "few")
    own, file = f"{pool['folder']}/{{00000..00003}}.tar", pool["splits"][split]
    shared = Filtered([tmp_path / f"out/{i:05d}.parquet" for i in range(SHARDS)])
    direct = Filtered([pool["folder"] / f"tables/{i:05d}.parquet" for i in range(SHARDS)])
    lists = [
        filtered(file, [str(manifest)], tmp_path, shared, tmp_path / "shared"),
        filtered(file, [own], tmp_path, direct, tmp_path / "direct"),
    ]
    (through, count), (pooled, same) = lists
    expected = {k for i, k in enumerate(pool["keys"]) if kept_by(split, i % ROWS)}
    found = passed(through)
    assert count == same == len(found) == len(expected)
    assert found == passed(pooled) and set(found.values()) == {1}
    assert {key for key, *_ in found} == expected
    for words_of, out in (([str(manifest)], "a"), ([own], "b")):
        copy_split(file, tars_of(words_of, tmp_path), None, 0, tmp_path / out)
    for tar in (tmp_path / "a").glob("*.tar"):
        assert sha256_file(tar) == sha256_file(tmp_path / "b" / tar.name)
    # By place, as the classifiers read.
    index = index_tars(tars_of([str(manifest)], tmp_path), sorted(expected))
    assert len(index.tar) == len(expected)


def test_what_cannot_be_decoded_is_accounted_for_alike(tmp_path: Path) -> None:
    """A damaged image, none at all, and no caption: kept, and left out by each training."""
    spoilt = {
        "k0000": {"jpg": b"no image", "txt": b"a"},
        "k0002": {"json": b"{}", "txt": b"b"},
        "k0004": {"npy": b"1"},
        "k0006": {"jpg": photo(6)},
    }
    pool = written(tmp_path / "pool", spoilt)
    manifest = make(pool, tmp_path / "out", "half")
    assert read_json(manifest)["without_image"] == {
        "no image in the sample": 2
    } and read_json(manifest)["account"]["out"] == 30  # fmt: skip
    own = f"{pool['folder']}/{{00000..00003}}.tar"
    reasons = []
    for word, tables, name in ((str(manifest), "out", "a"), (own, "pool/tables", "b")):
        how = Filtered([tmp_path / f"{tables}/{i:05d}.parquet" for i in range(SHARDS)])
        path, count = filtered(pool["splits"]["half"], [word], tmp_path, how, tmp_path / name)
        assert (count, len(passed(path))) == (30, 26)
        reasons.append(undecodable(tmp_path / name / "undecodable"))
    assert reasons[0] == reasons[1] and reasons[0].keys() == spoilt.keys()


def test_few_tars_of_many_samples(
    pool: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more are open at the same time than `TARS`; those of an earlier run are removed."""
    make(pool, tmp_path / "out", "half", samples=1)
    assert len(list((tmp_path / "out").glob("*.tar"))) == 30
    monkeypatch.setattr(reshard, "TARS", 2)
    manifest = make(pool, tmp_path / "out", "half", samples=1)
    assert [len(samples) for samples in contents(manifest).values()] == [8, 7, 8, 7]
    assert len(list((tmp_path / "out").glob("*.tar"))) == 4


def test_same_bytes_in_any_order_of_splits_and_jobs(pool: dict[str, Any], tmp_path: Path) -> None:
    make(pool, tmp_path / "a", "third", "half")
    files = [pool["splits"][name] for name in ("half", "third")]
    for shard in (1, 0):
        out = tmp_path / f"b/{shard:05d}.parquet"
        reshard.shard(**words(pool, shard), splits=files, samples=4, out=out)
    tars = sorted((tmp_path / "a").glob("0*.tar"))
    assert len(tars) == 10
    for file in [*tars, *(tmp_path / "a").glob("*.parquet")]:
        assert sha256_file(file) == sha256_file(tmp_path / "b" / file.name)


def test_a_shard_of_which_nothing_is_kept(pool: dict[str, Any], tmp_path: Path) -> None:
    table = pool["folder"] / "tables/00001.parquet"
    split = tmp_path / "s.parquet"
    keys = read_parquet(pool["folder"] / "tables/00000.parquet")["key"].to_pylist()
    write_parquet(split, pa.table({"key": keys, "kept": [True] * ROWS, "reason": ["kept"] * ROWS}))
    (pool["folder"] / "00002.tar").unlink()  # it is not even opened
    (pool["folder"] / "00003.tar").write_bytes(b"no tar")
    out = tmp_path / "out/00001.parquet"
    reshard.shard(**words(pool, 1), splits=[split], samples=4, out=out)
    assert table.exists() and len(read_parquet(out)) == 0
    assert read_json(out.with_suffix(".json"))["shard"]["tars"] == {}


def test_damaged_missing_and_changed_tars_are_named(pool: dict[str, Any], tmp_path: Path) -> None:
    tar = pool["folder"] / "00001.tar"
    whole = tar.read_bytes()
    tar.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ClipshiftError, match=r"00001\.tar.*(truncated|unexpected end|damaged)"):
        make(pool, tmp_path / "out", "half")
    assert not list((tmp_path / "out").glob("*"))  # nothing half made
    write_tar(tar, [next(read_tar(pool["folder"] / "00000.tar"))])
    with pytest.raises(ClipshiftError, match=r"00001\.tar lacks 7 of the 7 samples .* 'k0101'"):
        make(pool, tmp_path / "out", "half")
    tar.unlink()
    with pytest.raises(ClipshiftError, match=r"00001\.tar, which is gone"):
        make(pool, tmp_path / "out", "half")


def test_a_lost_tar_is_named_by_the_training(pool: dict[str, Any], tmp_path: Path) -> None:
    manifest = make(pool, tmp_path / "out", "half")
    (tmp_path / "out/00001-00000.tar").unlink()
    for read in (
        lambda: tars_of([str(manifest)], Path()),
        lambda: every_tar(str(manifest), Path()),
    ):
        with pytest.raises(ClipshiftError, match=r"8 tars, of which 1 are missing.*delete the fol"):
            read()


DYING = dying.killed(
    "from clipshift.splits import reshard",
    "{'sample': (reshard, '_stored'), 'tar': (Path, 'replace'), 'table': (reshard, "
    "'write_parquet'), 'record': (reshard, 'write_json')}",
    "reshard.shard([f'{root}/pool/{{00000..00001}}.tar'], root / 'pool/tables/00000.parquet', "
    "[root / 'pool/third.parquet', root / 'pool/half.parquet'], 4, root / 'out/00000.parquet')",
)


@pytest.mark.parametrize(
    ("where", "at"), [("sample", 1), ("sample", 19), ("tar", 3), ("table", 1), ("record", 1)]
)
def test_killed_and_started_again(
    pool: dict[str, Any], tmp_path: Path, where: str, at: int
) -> None:
    """A killed job leaves no tar that is not whole, and no record; the next one is as any."""
    make(pool, tmp_path / "whole", "third", "half")
    words_of = [sys.executable, "-c", DYING, str(tmp_path), where, str(at)]
    assert subprocess.run(words_of, check=False).returncode == -signal.SIGKILL
    whole = {f.name: sha256_file(f) for f in (tmp_path / "whole").glob("00000*")}
    left = {f.name: sha256_file(f) for f in (tmp_path / "out").glob("0*")}
    assert left.items() <= whole.items() and "00000.json" not in left
    assert len(left) == {"sample": 0, "tar": 2, "table": 5, "record": 6}[where]
    files = [pool["splits"][name] for name in ("third", "half")]
    out = tmp_path / "out/00000.parquet"
    reshard.shard(**words(pool, 0), splits=files, samples=4, out=out)
    assert {f.name: sha256_file(f) for f in out.parent.iterdir()} == whole


def test_no_image_stays_in_memory(tmp_path: Path) -> None:
    """Neither in resharding nor in a training's copy: 10 MB of images pass."""
    keys = [f"k{i:03d}" for i in range(100)]
    noise = np.random.default_rng(0).integers(0, 256, (100, 180, 180, 3), np.uint8)
    images = [io.BytesIO() for _ in keys]
    for stream, pixels in zip(images, noise, strict=True):
        Image.fromarray(pixels).save(stream, "PNG")
    samples = [
        Sample(k, {"png": i.getvalue(), "txt": b"x"}) for k, i in zip(keys, images, strict=True)
    ]
    write_tar(tmp_path / "00000.tar", samples)
    write_parquet(tmp_path / "00000.parquet", pa.table({"key": keys}))
    write_json(tmp_path / "00000.json", {"shard": {"samples": 100}})
    split = tmp_path / "s.parquet"
    write_parquet(split, pa.table({"key": keys, "kept": [True] * 100, "reason": ["kept"] * 100}))
    del noise, images, samples
    tar, table, out = (
        tmp_path / "00000.tar",
        tmp_path / "00000.parquet",
        tmp_path / "o/00000.parquet",
    )
    assert tar.stat().st_size > 9 << 20
    for work in (
        lambda: reshard.shard([str(tar)], table, [split], 10, out),
        lambda: copy_split(split, [tar], None, 0, tmp_path / "copy"),
    ):
        tracemalloc.start()
        work()
        assert tracemalloc.get_traced_memory()[1] < 3 << 20
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("reshard", "message"),
    [
        ({"a": {"splits": ["full", "fll"]}}, r"reshard\.a\.splits.*'fll' is not one of"),
        ({"a": {"splits": ["full"]}, "b": {"splits": ["full"]}}, r"'full' is in 'a', too"),
        ({"a": {"splits": ["full", "full"]}}, r"'full' is in 'a', too"),
        ({"a": {"splits": ["pruned"]}}, r"reshard\.a\.splits: no model is trained on 'pruned'"),
        ({"a": {"splits": []}}, "at least 1 item"),
    ],
)
def test_what_a_configuration_may_not_say(reshard: dict[str, Any], message: str) -> None:
    with pytest.raises(ClipshiftError, match=message):
        study(reshard)


def study(resharded: dict[str, Any]) -> Config:
    raw = yaml.safe_load((ROOT / "tests/unit/study.yaml").read_text())
    raw["splits"]["pruned"]["seeds"] = []
    raw["models"]["big"] = {"model": {}, "samples": 10, "read": "filter"}
    return parse(raw | {"reshard": resharded})


def test_which_tars_a_training_reads() -> None:
    cfg = study({"pair": {"splits": ["rand"]}})
    reading = Reading(Layout(cfg))
    captioned = "results/sets/photos/captioned.tar"
    manifest = "results/reshard/pair/manifest.json"
    assert reading.splits("pair") == ["results/splits/rand.parquet"]
    for model in ("tiny", "big"):  # a copy, and a filter
        assert reading.training_words("rand", model) == [manifest, captioned]
    pool = "results/pools/small/{00000..00001}.tar"
    assert reading.training_words("full", "big") == [pool, captioned]
    tables = {s: (reading.filtered(s, "big") or {})["tables"] for s in ("rand", "full")}
    assert tables == {
        "rand": ["results/reshard/pair/{00000..00001}.parquet"],
        "full": ["results/pools/small/{00000..00001}.parquet"],
    }
    assert reading.filtered("rand", "tiny") is None


def test_no_header_stays_in_memory(tmp_path: Path) -> None:
    with tar_writer(tmp_path / "many.tar") as add:
        tracemalloc.start()
        for i in range(2000):
            add(Sample(f"k{i}", {"txt": b"x"}))
        assert tracemalloc.get_traced_memory()[1] < 200_000
        tracemalloc.stop()
