"""Snakemake that looks at its jobs every half second for as long as they run.

`python sampled.py WORDS` is `snakemake WORDS`. By itself it looks at a job that runs for more than
15 seconds only every 30: what one takes last, and its largest memory, would be missed.
"""

from snakemake import benchmark
from snakemake.cli import main


def _schedule(self: benchmark.ScheduledPeriodicTimer) -> None:
    self._timer = benchmark.DaemonTimer(benchmark.BENCHMARK_INTERVAL_SHORT, self._action)
    self._timer.start()


if __name__ == "__main__":
    benchmark.ScheduledPeriodicTimer._schedule = _schedule
    main()
