"""How much memory a query over the whole pool may take before it goes on on disk."""

import os

# Where nobody says how much the job has.
ALONE = "8GB"


def limit() -> str:
    """As duckdb wants it: three quarters of what Slurm gave the job, else ALONE.

    duckdb itself takes up to four fifths of the machine, of which a job has but a share.
    """
    given = os.environ.get("SLURM_MEM_PER_NODE", "")  # MB; 0: all of the node
    return f"{int(given) * 3 // 4}MB" if given.isdigit() and int(given) else ALONE
