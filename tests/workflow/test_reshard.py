"""Trainings of two splits through tars that are written once, by real Snakemake."""

import shutil
from pathlib import Path

from clipshift.core.files import read_json, read_parquet
from clipshift.datasets.tars import read_tar
from tests.workflow.runner import changed_config, digests, planned, snakemake

SPLITS = ["test_rand", "test_other"]
CHANGE = {
    "splits.test_other": {"recipe": "rand", "keep": 0.4, "seed": 1},
    "dedup": {"rule": "none", "embed": False},
    "models.nano.read": "filter", "models.nano.cache_px": None,
    "models.nano.samples": 512, "models.nano.checkpoints": 1,
}  # fmt: skip


def test_written_once_and_read_by_all(tmp_path: Path) -> None:
    listed = {"reshard": {"pair": {"splits": SPLITS, "samples": 40}}}
    config = changed_config(tmp_path, CHANGE | listed)
    records = [f"results/models/{split}-nano-s0/record.json" for split in SPLITS]
    jobs = planned(tmp_path, *records, config=config)
    expected = {"reshard": 3, "reshard_manifest": 1, "split": 2, "train": 2}
    assert {rule: jobs.get(rule) for rule in expected} == expected
    snakemake(tmp_path, *records, config=config)

    kept: set[str] = set()
    for split, file in zip(SPLITS, records, strict=True):
        record = read_json(tmp_path / file)
        table = read_parquet(tmp_path / f"results/splits/{split}.parquet").to_pylist()
        mine = {row["key"] for row in table if row["kept"]}
        kept |= {row["key"] for row in table if row["kept"] and row["reason"] != "reference"}
        assert record["split_samples"] + len(record["left_out"]) == len(mine)
        assert record["keys"]["kept"] == record["split_samples"]
    folder = tmp_path / "results/reshard/pair"
    keys = [sample.key for tar in sorted(folder.glob("*.tar")) for sample in read_tar(tar)]
    assert len(keys) == len(set(keys)) and set(keys) == kept
    manifest = read_json(folder / "manifest.json")
    assert manifest["account"]["out"] == len(kept) and set(manifest["splits"]) == {*SPLITS}
    assert planned(tmp_path, *records, config=config) == {}

    # A split that leaves plans nothing for the other one.
    alone = {"pair": {"splits": SPLITS[:1], "samples": 40}, "own": {"splits": SPLITS[1:]}}
    apart = changed_config(tmp_path, CHANGE | {"reshard": alone})
    jobs = planned(tmp_path, *records, config=apart)
    assert jobs == {"reshard": 3, "reshard_manifest": 1, "train": 1}
    config = changed_config(tmp_path, CHANGE | listed)

    # Removed they plan nothing, until a training has to read them; made again they are the same.
    before = digests(tmp_path, "results/reshard/pair/*")
    shutil.rmtree(folder)
    assert planned(tmp_path, *records, config=config) == {}
    again = planned(tmp_path, "--forcerun", "train", "--", *records, config=config)
    assert again == {"reshard": 3, "reshard_manifest": 1, "train": 2}
    snakemake(tmp_path, "results/reshard/pair/manifest.json", config=config)
    assert digests(tmp_path, "results/reshard/pair/*") == before
