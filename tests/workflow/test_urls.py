"""A pool from a list of URLs, by real Snakemake and real img2dataset, up to its embeddings."""

from pathlib import Path

from clipshift.core.files import read_json, read_parquet
from tests.unit.test_urls import ANSWERS, needs_img2dataset, write_urls
from tests.web_case import served
from tests.workflow.runner import changed_config, digests, planned, snakemake

POOL = {
    "urls": ["urls.csv"],
    "shards": 2,
    "placeholder_urls": 4,
    "fetching": {
        "px": 64, "timeout": 3, "threads": 8, "max_bytes": 200_000, "allow": ["127.0.0.1/32"],
    },
}  # fmt: skip
MANIFEST = "results/pools/test_web/manifest.json"


def test_a_study_on_a_downloaded_pool_plans(tmp_path: Path) -> None:
    """The pool of every split, down to the report, one model reading it through the filter."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/urls.csv").write_text("url,caption\n")
    change = {"pools.test_pool": POOL, "models.nano.read": "filter", "models.nano.cache_px": None}
    jobs = planned(tmp_path, config=changed_config(tmp_path, change))
    expected = {"url_list": 1, "fetch_urls": 2, "placeholders": 1, "url_pool_shard": 2}
    assert {rule: jobs.get(rule) for rule in expected} == expected
    assert jobs["train"] == 6
    assert not jobs.keys() & {"pool_shard", "folder_pool"}


@needs_img2dataset
def test_from_urls_to_embeddings(tmp_path: Path) -> None:
    config = changed_config(tmp_path, {"pools.test_web": POOL})
    embedded = [
        f"results/embeddings/lite0_64/test_web/account/account_0000{i}.json" for i in range(2)
    ]
    images = sum(why is None for why in ANSWERS.values())
    with served() as web:
        web.gone = {"photo/3.jpg"}
        write_urls(web, tmp_path / "data")
        snakemake(tmp_path, MANIFEST, config=config)
        step_counts = read_json(tmp_path / MANIFEST)["account"]
        assert (step_counts["in"], step_counts["out"]) == (len(ANSWERS) + 1, images - 1)
        assert step_counts["rejected"]["HTTP 404"] == 4
        assert planned(tmp_path, MANIFEST, config=config) == {}
        # The second run: what failed is asked for again, and nothing else.
        web.gone = set()
        web.asked.clear()
        words = ("--forcerun", "fetch_urls", "--", MANIFEST, *embedded)
        snakemake(tmp_path, *words, config=config)
        assert "photo/3.jpg" in web.asked
        assert not {f"photo/{i}.jpg" for i in range(3)} & web.asked.keys()
    assert read_json(tmp_path / MANIFEST)["account"]["out"] == images
    assert sum(read_json(tmp_path / file)["out"] for file in embedded) == images
    log = (tmp_path / "results/logs/urls/test_web.00000.fetch.log").read_text()
    assert "attempt-001:" in log
    # Stored otherwise: from the same answers no more, so all over again, but the old ones stay.
    before = digests(tmp_path, "results/work/urls/**/*.tar")
    smaller = POOL | {"fetching": POOL["fetching"] | {"px": 32}}
    config = changed_config(tmp_path, {"pools.test_web": smaller})
    jobs = planned(tmp_path, MANIFEST, config=config)
    assert jobs == {"fetch_urls": 2, "placeholders": 1, "url_pool_shard": 2, "pool_manifest": 1}
    assert digests(tmp_path, "results/work/urls/**/*.tar") == before
    table = read_parquet(tmp_path / "results/pools/test_web/00000.parquet")
    assert set(table["source"].to_pylist()) == {"test_web"}
