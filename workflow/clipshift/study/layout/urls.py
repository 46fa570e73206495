"""Where the files of downloaded pools lie. Imported while the Snakefile is parsed."""

import os

from clipshift.study.config.study import Config
from clipshift.study.config.urls import UrlPool
from clipshift.study.layout.study import Layout


class Urls:
    """Paths and parameters of the pools that are lists of URLs."""

    def __init__(self, at: Layout):
        self.at = at
        self.pools = pools_of(at.cfg)

    def pattern(self) -> str:
        """Wildcard pattern of these pools; one that no name has where there are none."""
        return "|".join(sorted(self.pools)) or "NONE"

    def files(self, pool: str) -> list[str]:
        """The user's lists."""
        return [os.path.join(self.at.cfg.data, file) for file in self.pools[pool].urls]  # noqa: PTH118

    def inputs(self, pool: str) -> list[str]:
        """Those that Snakemake can watch: it takes braces in a name for wildcards."""
        return [file for file in self.files(pool) if not set("{}") & set(file)]

    def fetched(self, pool: str) -> list[str]:
        """What became of the URLs of each shard."""
        return [f"results/urls/{pool}/fetched/{shard}.parquet" for shard in self.at.shards(pool)]

    def work(self, pool: str, shard: str) -> str:
        """Where the answers of a shard are kept; images stored otherwise lie elsewhere."""
        how = self.pools[pool].fetching
        return f"results/work/urls/{pool}/{how.px}-{how.resize}-{how.min_px}/{shard}"


def pools_of(cfg: Config) -> dict[str, UrlPool]:
    return {name: block for name, block in cfg.pools.items() if isinstance(block, UrlPool)}
