"""A Slurm cluster as it is: its names and spellings, for `profiles/slurm` and the rules' resources.

names        the file of the cluster's names, checked
resources    what a rule asks for
submission   how that is said to sbatch
quoting      the same for the command that a job runs
queue        Slurm's commands: who knows how jobs fare, which jobs an earlier run left
"""

from clipshift.study.cluster.names import (
    IN_USE,
    SHIPPED,
    VARIABLE,
    Cluster,
    in_use,
    locate,
    read,
    scratch_prefix,
)
from clipshift.study.cluster.queue import leftovers, refuse_leftovers, status_command
from clipshift.study.cluster.resources import needs
from clipshift.study.cluster.submission import ask_only, prepare, use

__all__ = [
    "IN_USE",
    "SHIPPED",
    "VARIABLE",
    "Cluster",
    "ask_only",
    "in_use",
    "leftovers",
    "locate",
    "needs",
    "prepare",
    "read",
    "refuse_leftovers",
    "scratch_prefix",
    "status_command",
    "use",
]
