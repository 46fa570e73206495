"""A rehearsal of the full scale: everything but training, on synthetic pools of growing size.

    python benchmarks/rehearsal.py [--points 250000 500000 1000000 2000000 4000000]

Makes a pool in the layout of LAION-400M (img2dataset's tables with failed rows and missing numbers,
unpadded parts of released embeddings that do not agree with the tars), lets Snakemake run
config/rehearsal.yaml on it, and writes time and peak memory of every stage to
benchmarks/results/rehearsal.json. What grows with pool and clusters is measured once more, on a
shard with LAION's number of clusters. `--make FOLDER` only makes the data. `--one-job` goes as far
as the pairs within clusters, all in one job: whether one job of LAION's fits into its memory.
"""

import argparse
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from data import CHUNK, SETS, Source
from PIL import Image

from clipshift.core.files import read_json, write_json, write_npy, write_parquet, write_text
from clipshift.datasets.shards import Sample, write_tar
from clipshift.similarity.embeddings import shard_paths
from clipshift.study.config.load import load

HERE = Path(__file__).parent
ROOT = HERE.parent
CONFIG = ROOT / "config/rehearsal.yaml"
# Of 10,000 rows of a tar; numbers without a tar: one of fifty.
ROWS, SUCCEEDED, GAP = 10_000, 7500, 50
# Rows of a part of the released embeddings, which knows nothing of tars.
PART = 64_000
REFERENCE = 50_000
CLASSES = 10
POPULAR = 20_000
# LAION's clusters; here fitted on so many points in one iteration.
CLUSTERS, FITTED = 50_000, 100_000
# Points of one of LAION's 32 jobs of pairs within clusters.
ONE_JOB = 12_500_000


def make(folder: Path, points: int) -> dict[str, int]:
    """The pool, the sets and their embeddings; returns numbers of tars and samples."""
    source = Source(512)
    numbers = [i for i in range(points) if i % GAP != GAP - 1][: -(-points // SUCCEEDED)]
    keys = _write_tables(folder / "pool", numbers, points)
    _write_vectors(folder / "embeddings/pool", source, keys)
    sizes = {"photos": REFERENCE, **SETS}
    for seed, (name, size) in enumerate(sizes.items()):
        names = [f"{name}{i:06d}" for i in range(size)]
        _write_set(folder / name, names, "train" if name == "photos" else "test")
        vectors = source.rows(100 + seed, size)
        write_npy(shard_paths(folder / f"embeddings/{name}", "0")[0], vectors)
        write_parquet(shard_paths(folder / f"embeddings/{name}", "0")[1],
                      pa.table({"image_path": names}))  # fmt: skip
    return {"tars": numbers[-1] + 1, "samples": len(keys)}


def _write_tables(folder: Path, numbers: list[int], points: int) -> list[str]:
    """img2dataset's tables; the tars are empty, for nothing here looks at an image."""
    every: list[str] = []
    rng = np.random.default_rng(1)
    for number in numbers:
        wanted = min(SUCCEEDED, points - len(every))
        there = np.zeros(ROWS, dtype=bool)
        there[rng.choice(ROWS, wanted, replace=False)] = True
        keys = np.array([f"{number:05d}{i:04d}" for i in range(ROWS)])
        success = pa.array(there)
        table = pa.table(
            {
                "key": keys,
                "url": [f"https://example.org/{key}.jpg" for key in keys],
                "caption": [f"image {key}" for key in keys],
                "status": np.where(there, "success", "failed_to_download"),
                "sha256": pa.array([f"{int(key):064x}" for key in keys], mask=~there),
            }
        )
        assert success.true_count == wanted
        write_parquet(folder / f"{number:05d}.parquet", table)
        write_json(folder / f"{number:05d}_stats.json", {"count": ROWS, "successes": wanted})
        (folder / f"{number:05d}.tar").touch()
        every += keys[there].tolist()
    return every


def _write_vectors(folder: Path, source: Source, keys: list[str]) -> None:
    """Parts of vectors in an order of their own; three of ten copy another point, nearly."""
    popular = source.rows(99, POPULAR)
    for part, start in enumerate(range(0, len(keys), PART)):
        mine = keys[start : start + PART]
        rng = np.random.default_rng((2, part))
        vectors = np.concatenate(
            [source.chunk((part, i), min(CHUNK, len(mine) - i)) for i in range(0, len(mine), CHUNK)]
        )
        kind = rng.random(len(mine))
        for low, high, pool in ((0.0, 0.1, popular), (0.1, 0.3, vectors)):
            copies = np.flatnonzero((kind >= low) & (kind < high))
            near = pool[rng.integers(0, len(pool), len(copies))].astype(np.float32)
            near += rng.standard_normal(near.shape, dtype=np.float32) * 0.01
            near /= np.linalg.norm(near, axis=1, keepdims=True)
            vectors[copies] = near.astype(np.float16)
        order = rng.permutation(len(mine))
        write_npy(shard_paths(folder, str(part))[0], vectors[order])
        names = pa.array(mine).take(pa.array(order))
        write_parquet(shard_paths(folder, str(part))[1], pa.table({"image_path": names}))


def _write_set(folder: Path, names: list[str], split: str) -> None:
    """A set in CLIP_benchmark's layout, of images of four pixels."""

    def samples() -> Any:
        for i, name in enumerate(names):
            some = hashlib.sha256(name.encode()).digest()[:12]
            pixels = np.frombuffer(some, np.uint8).reshape(2, 2, 3)
            stream = io.BytesIO()
            Image.fromarray(pixels).save(stream, "PNG")
            yield Sample(name, {"png": stream.getvalue(), "cls": str(i % CLASSES).encode()})

    write_tar(folder / split / "0.tar", samples())
    write_text(folder / split / "nshards.txt", "1\n")
    write_text(folder / "classnames.txt", "".join(f"class {i}\n" for i in range(CLASSES)))


def rehearse(points: int, scratch: Path, many: bool, one_job: bool = False) -> dict[str, Any]:
    """Make the data, run the study, and add up what Snakemake measured of its jobs.

    Args:
        many: measure the stages of the clusters with LAION's number of them, too.
        one_job: all pairs within clusters in one job, and nothing after it.
    """
    start = time.perf_counter()
    sizes = make(scratch / "data", points)
    made = time.perf_counter() - start
    clusters = max(1, points // 8000)  # as 400M points in 50,000
    jobs = {"jobs": 1} if one_job else {}
    overlay: dict[str, Any] = {
        "data": str(scratch / "data"),
        "pools": {"rehearsal": sizes | {"shards": max(2, points // 125_000)}},
        "dedup": {"clusters": clusters, "sample": 256 * clusters} | jobs,
    }
    write_text(scratch / "size.yaml", yaml.safe_dump(overlay))
    study = load(CONFIG)
    dedup = f"results/dedup/{study.pool}/{study.encoder}"
    if one_job:
        targets = [f"{dedup}/scores/00000.parquet"]
    else:
        targets = [f"results/splits/{name}.parquet" for name in study.splits]
        targets += [f"results/figures/tolerance_{name}.svg" for name in study.figures.tolerance]
        targets += [f"{dedup}/record.json"]
    command = [
        sys.executable, HERE / "sampled.py", "--cores", "all", "--profile", ROOT / "profiles/local",
        "--snakefile", ROOT / "Snakefile", "--directory", scratch, "--quiet", "progress", "rules",
        "--configfile", CONFIG, scratch / "size.yaml", "--", *targets,
    ]  # fmt: skip
    start = time.perf_counter()
    subprocess.run([str(word) for word in command], check=True)
    wall = time.perf_counter() - start
    embedded = scratch / f"results/embeddings/{study.encoder}/{study.pool}"
    found = {
        "points": sizes["samples"],
        "made_seconds": made,
        "wall_seconds": wall,
        "stages": stages(scratch / "results/benchmarks"),
        "bytes": _bytes(scratch / "results"),
    }
    if not one_job:
        found["deduplicated"] = read_json(scratch / dedup / "record.json")["out"]
    return found | ({"many_clusters": many_clusters(embedded, scratch)} if many else {})


def many_clusters(embedded: Path, scratch: Path) -> dict[str, Any]:
    """What an iteration of the fit, and the assignment of one shard, take with all clusters."""
    pool, centroids = str(embedded), str(scratch / "centroids.npy")
    fit = {"pool": pool, "shards": ["00000"], "clusters": CLUSTERS, "sample": FITTED,
           "iterations": 1, "seed": 0, "out": centroids}  # fmt: skip
    assigned = str(scratch / "assigned.npy")
    assign = {"pool": pool, "shard": "00000", "centroids": centroids, "out": assigned}
    rows = len(np.load(shard_paths(embedded, "00000")[0], mmap_mode="r"))
    return {
        "clusters": CLUSTERS,
        "fitted": min(FITTED, rows),
        "rows": rows,
        "fit": measured("similarity.dedup.clusters.fit_pool", fit, scratch),
        "assign": measured("similarity.dedup.clusters.assign_shard", assign, scratch),
    }


def measured(step: str, params: dict[str, Any], scratch: Path) -> dict[str, float]:
    """Seconds by the clock and of processors, and largest memory, MiB, of a step."""
    job = scratch / "job.json"
    write_json(job, {"files": {}, "params": params})
    words = [sys.executable, "-m", "clipshift.core.step", step]
    stdin = [(os.POSIX_SPAWN_OPEN, 0, job, os.O_RDONLY, 0)]
    start = time.perf_counter()
    pid = os.posix_spawn(words[0], words, os.environ, file_actions=stdin)
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(words)} < {job}")
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "mib": usage.ru_maxrss / 1024,
    }


def stages(folder: Path) -> dict[str, dict[str, float]]:
    """Per stage: jobs, their seconds by the clock and of processors, largest memory of one, MiB."""
    nothing = {"jobs": 0, "seconds": 0.0, "cpu_seconds": 0.0, "mib": 0.0}
    found: dict[str, dict[str, float]] = defaultdict(nothing.copy)
    for file in sorted(folder.rglob("*.tsv")):
        head, row = (line.split("\t") for line in file.read_text().splitlines()[:2])
        values = dict(zip(head, row, strict=True))
        entry = found[_stage(file.relative_to(folder))]
        entry["jobs"] += 1
        entry["seconds"] += float(values["s"])
        if values["max_rss"] not in ("-", "NA"):  # too short to be looked at
            entry["cpu_seconds"] += float(values["cpu_time"])
            entry["mib"] = max(entry["mib"], float(values["max_rss"]))
    return dict(found)


def _stage(file: Path) -> str:
    """The stage of a benchmark file, `{step}/{...}.tsv`; de-duplication has several."""
    step, name = file.parts[0], file.stem.split(".")
    if step == "dedup":
        return f"dedup {name[2]}"
    return "embedding index" if name[-1] == "index" else step


def _bytes(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    sizes = [250_000, 500_000, 1_000_000, 2_000_000, 4_000_000]
    parser.add_argument("--points", type=int, nargs="+", help=f"default: {sizes}, or {ONE_JOB}")
    parser.add_argument("--one-job", action="store_true")
    parser.add_argument("--make", type=Path, metavar="FOLDER")
    parser.add_argument("--scratch", type=Path, help="where the data lie (default: $TMPDIR)")
    parser.add_argument("--out", type=Path, help="default: a file of benchmarks/results")
    args = parser.parse_args()
    sizes = args.points or ([ONE_JOB] if args.one_job else sizes)
    if args.make:
        print(json.dumps(make(args.make, sizes[-1])))
        return
    name = "rehearsal_one_job.json" if args.one_job else "rehearsal.json"
    out = args.out or HERE / "results" / name
    record: dict[str, Any] = {"cores": len(os.sched_getaffinity(0)), "runs": []}
    for points in sizes:
        with tempfile.TemporaryDirectory(prefix="clipshift-", dir=args.scratch) as scratch:
            many = points == sizes[-1] and not args.one_job
            record["runs"].append(rehearse(points, Path(scratch), many, args.one_job))
        print(json.dumps(record["runs"][-1], indent=1), file=sys.stderr)
        write_json(out, record)


if __name__ == "__main__":
    main()
