"""The verb `clipshift cluster-check`: read without importing what it does."""

from pathlib import Path
from typing import Annotated

from typer import Option


def cluster_check(
    cluster: Annotated[Path | None, Option(
        metavar="FILE", help="The cluster's names; default: the file that a run would read.",
    )] = None,
    gpus: Annotated[int, Option(
        min=0, max=64, help="GPUs of the second job, e.g. those of a training; 0: no such job."
    )] = 1,
    minutes: Annotated[float, Option(
        min=0.01, max=10080, help="How long to wait for both jobs; then they are cancelled."
    )] = 30,
    directory: Annotated[Path, Option(
        metavar="DIR", help="Where results/ lies, which all nodes must see."
    )] = Path(),
) -> None:  # fmt: skip
    """Submit a job without and one with a GPU, as a study does, and tell what came."""
    from clipshift.apps.cluster_check.run import check

    print(check(cluster, gpus, minutes * 60, directory))
