"""Snakemake with a ceiling on the pause between status checks, which grows to minutes. Tests only.

`python -m tests.slurm.fastpoll WORDS` is `snakemake WORDS`; jobs start the real one.
"""

import asyncio
import os
import signal

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

CEILING = float(os.environ.get("CLIPSHIFT_POLL", "1"))  # seconds


async def _sleep(self: RemoteExecutor) -> None:
    await asyncio.sleep(min(CEILING, self.next_seconds_between_status_checks))


if __name__ == "__main__":
    # Where tests run in the background of a shell, Ctrl-C is ignored by all that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    RemoteExecutor.sleep = _sleep  # type: ignore[method-assign]
    main()
