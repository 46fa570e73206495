"""Reading of 20 splits: through the filter from the pool, and from tars that are written once.

    python benchmarks/reshard.py [--samples 24000] [--size 25000]

A synthetic pool of four shards, with images of LAION-400M's mean size, and the splits of a study:
mixes that keep 2 to 8 % of it, out of 16 %. Each is read once, by the reader of the trainings; the
samples are asserted to be the same. Bytes are those of the reads that this process asked for.
Writes benchmarks/results/reshard.json.
"""

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from clipshift.core.files import read_json, write_json, write_parquet
from clipshift.datasets.select import seeded_order
from clipshift.datasets.shards import write_tar
from clipshift.datasets.tars import Sample
from clipshift.splits import reshard
from clipshift.training.clip import Filtered, filtered
from clipshift.training.shards import Shards

SHARDS, TARS = 4, 6  # tars of a shard
SHARES = [0.02, 0.04, 0.06, 0.08]


def photo(size: int, seed: int) -> bytes:
    """A JPEG of about so many bytes."""
    side = 2 * round((size / 3.5) ** 0.5)
    pixels = np.random.default_rng(seed).integers(0, 256, (side // 2, side // 2, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((side, side)).save(stream, "JPEG", quality=92)
    return stream.getvalue()


def write_pool(folder: Path, samples: int, size: int) -> list[str]:
    """Tars and tables of the shards; the keys."""
    images = [photo(size, seed) for seed in range(32)]
    each, keys = samples // (SHARDS * TARS), []
    for shard in range(SHARDS):
        names = [f"{shard * TARS + i:05d}" for i in range(TARS)]
        for name in names:
            mine = [f"{name}{i:05d}" for i in range(each)]
            keys += mine
            parts = ({"jpg": images[i % 32], "txt": key.encode()} for i, key in enumerate(mine))
            write_tar(folder / f"{name}.tar", map(Sample, mine, parts))
        table = folder / f"tables/{shard:05d}.parquet"
        write_parquet(table, pa.table({"key": keys[-each * TARS :]}))
        shard_counts = {"samples": each * TARS, "tars": dict.fromkeys(names, each)}
        write_json(table.with_suffix(".json"), {"shard": shard_counts})
    return keys


def write_splits(folder: Path, keys: list[str]) -> list[Path]:
    """20 mixes of two domains, whose seeded draws are nested: of each, up to 8 % of the pool."""
    order = sorted(keys, key=lambda key: seeded_order(1, key))
    domains = order[::2], order[1::2]
    splits: list[Path] = []
    for total in SHARES:
        for part in range(5):
            sizes = [round(len(keys) * total * share) for share in (part / 4, 1 - part / 4)]
            kept = {k for domain, n in zip(domains, sizes, strict=True) for k in domain[:n]}
            splits.append(folder / f"mix{len(splits):02d}.parquet")
            rows = {"key": keys, "kept": [key in kept for key in keys]}
            write_parquet(splits[-1], pa.table(rows | {"reason": ["drawn"] * len(keys)}))
    return splits


def asked() -> dict[str, int]:
    lines = Path("/proc/self/io").read_text().splitlines()
    return {name: int(value) for name, value in (line.split(": ") for line in lines)}


def measured(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    before, start = asked(), time.perf_counter()
    result = work()
    seconds, after = time.perf_counter() - start, asked()
    read, written = (after[key] - before[key] for key in ("rchar", "wchar"))
    return result, {"seconds": seconds, "bytes_read": read, "bytes_written": written}


def lists(splits: list[Path], word: str, tables: list[Path], work: Path) -> list[Path]:
    """What a training of each split reads, listed once."""
    how = Filtered(tables)
    return [filtered(split, [word], Path(), how, work / split.stem)[0] for split in splits]


def read_all(paths: list[Path]) -> list[set[str]]:
    """One pass of a training over each split: its keys."""
    found = []
    for shards in map(Shards, paths):
        samples = shards.source({"url": name} for name in shards.names)
        found.append({sample["__key__"] for sample in samples})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=24_000)
    parser.add_argument("--size", type=int, default=25_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        splits = write_splits(folder, write_pool(folder, args.samples, args.size))
        tables = [folder / f"tables/{i:05d}.parquet" for i in range(SHARDS)]
        shared = [folder / f"shared/{i:05d}.parquet" for i in range(SHARDS)]

        def once() -> None:
            for shard, (table, out) in enumerate(zip(tables, shared, strict=True)):
                last = (shard + 1) * TARS - 1
                word = f"{folder}/{{{shard * TARS:05d}..{last:05d}}}.tar"
                reshard.shard([word], table, splits, 500, out)
            records = [out.with_suffix(".json") for out in shared]
            reshard.sum_shards("shared", records, folder / "shared/manifest.json")

        pool = f"{folder}/{{00000..{SHARDS * TARS - 1:05d}}}.tar"
        listed = lists(splits, pool, tables, folder / "a")
        own, of_pool = measured(lambda: read_all(listed))
        _, pass_once = measured(once)
        manifest = folder / "shared/manifest.json"
        through = lists(splits, str(manifest), shared, folder / "b")
        same, of_shared = measured(lambda: read_all(through))
        assert own == same
        shares = [split["share"] for split in read_json(manifest)["splits"].values()]
    record = {
        "samples": args.samples,
        "splits": len(splits),
        "samples_of_all_splits": sum(map(len, own)),
        "filter_of_the_pool": of_pool,
        "resharding_once": pass_once,
        "filter_of_the_tars": of_shared,
        "share_used": {"least": min(shares), "most": max(shares)},
        "bytes_of_a_pass_ratio": of_pool["bytes_read"] / of_shared["bytes_read"],
        "seconds_of_a_pass_ratio": of_pool["seconds"] / of_shared["seconds"],
        "passes_that_pay_for_it": pass_once["seconds"]
        / (of_pool["seconds"] - of_shared["seconds"]),
    }
    write_json(Path(__file__).parent / "results/reshard.json", record)
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
