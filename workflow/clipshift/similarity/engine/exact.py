"""Similarities of chosen pairs in float64, without gathering their vectors.

The dot product of two stored float16 vectors is a multiple of 2^-48 below 2^4: float64 holds it,
and every partial sum, exactly (docs/decisions.md no. 1). Of float32 vectors it is right to
`rounding(D)`.
"""

import warnings

import torch

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")


def rounding(d: int, half: bool) -> float:
    """Bound of the error of a float64 dot product of stored unit vectors, in any order."""
    return 0.0 if half else (d + 2) * 2.0**-53 * 1.01


def dots(
    rows: torch.Tensor, columns: torch.Tensor, r: torch.Tensor, c: torch.Tensor
) -> torch.Tensor:
    """(P,) products of row r[i] and column c[i].

    Args:
        rows: (B, D) float64; columns: (T, D) float64.
        r: (P,) int64, ascending; c: (P,) int64, no pair twice.
    """
    # The pattern of a sparse (B, T) matrix in CSR: only its entries are multiplied. Gathered
    # rows[r] and columns[c] would take 2 P D numbers.
    starts = torch.searchsorted(r, torch.arange(len(rows) + 1, device=r.device))
    zeros = torch.zeros(len(r), dtype=rows.dtype, device=rows.device)
    pattern = torch.sparse_csr_tensor(
        starts, c, zeros, size=(len(rows), len(columns)), check_invariants=False
    )
    sampled: torch.Tensor = torch.sparse.sampled_addmm(pattern, rows, columns.T, beta=0.0)
    return sampled.values()
