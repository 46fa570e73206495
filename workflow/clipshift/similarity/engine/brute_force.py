"""The plain float64 product: it defines the truth, and is quicker where there is little to do."""

from collections.abc import Sequence

import numpy as np
import torch

from clipshift.similarity.blocks import first_max
from clipshift.similarity.engine.queries import ColumnSet
from clipshift.similarity.engine.running_max import Best

# Memory of one block of similarities, bytes.
BLOCK_BYTES = 64 << 20


def scan_plain(x: torch.Tensor, sets: Sequence[ColumnSet]) -> tuple[list[Best], list[Best]]:
    """Maxima of similarity and of margin, per set, of (B, D) float64 stored rows."""
    step = max(1, BLOCK_BYTES // (8 * (len(x) + x.shape[1])))
    similarity, margin = [], []
    for columns in sets:
        nearest, gap = Best.empty(len(x), x.device), Best.empty(len(x), x.device)
        for start in range(0, len(columns.vectors), step):
            part = slice(start, start + step)
            wide = torch.from_numpy(columns.vectors[part].astype(np.float64)).to(x.device)
            s = x @ wide.T  # (B, step)
            nearest.join(Best(*first_max(s, 1)), start)
            # In place, to save a block's memory: the similarities have been read.
            if columns.thresholds is not None:
                s -= torch.from_numpy(columns.thresholds[part].astype(np.float64)).to(x.device)
            gap.join(Best(*first_max(s, 1)), start)
        similarity.append(nearest)
        margin.append(gap)
    return similarity, margin
