"""What was there when a run was planned: the one place where planning looks at the disk.

Some jobs of a plan depend on what is made already: sets that are made in one pass, and test sets
that came after a training. Cluster jobs parse the Snakefile again, when files have come and gone
meanwhile, so they read the answers that the main process got.
"""

import json
import os
from pathlib import Path

# Names the file of the answers, for the processes that a main process starts.
VARIABLE = "CLIPSHIFT_MADE"


class Made:
    """Whether files were there when the run was planned. A file is looked up once."""

    def __init__(self, main: bool = True):
        """Args: main: whether this is the process that plans, and not one that it started."""
        self._answers: dict[str, bool] = {}
        path = os.environ.get(VARIABLE)
        if not main and path and Path(path).exists():
            self._answers = json.loads(Path(path).read_text())

    def __call__(self, path: str) -> bool:
        if path not in self._answers:
            self._answers[path] = Path(path).exists()
        return self._answers[path]

    def save(self, file: Path) -> None:
        """Hand the answers to the processes that this one starts."""
        from clipshift.core.files import write_json

        write_json(file, self._answers)
