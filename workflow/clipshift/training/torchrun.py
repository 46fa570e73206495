"""torchrun, without a traceback of its own where one of its processes fails: that one has said why.

`python -m clipshift.training.torchrun [arguments of torchrun]`.
"""

import sys

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError


def main() -> None:
    try:
        run.main()
    except ChildFailedError as error:
        _, first = error.get_first_failure()
        sys.exit(first.exitcode if first.exitcode > 0 else 1)


if __name__ == "__main__":
    main()
