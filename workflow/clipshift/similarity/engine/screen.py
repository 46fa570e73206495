"""The screen: a cheap product that bounds every similarity, with the proof of its bound.

Let R be (D, K) with orthonormal columns, x a row and q a column. Their exact similarity is

    q.x = (R'q).(R'x) + (the parts of q and x outside the span of R),

and the last term is at most |q_out| |x_out|. The screen multiplies codes: x' ~ R'x is stored as
sx * c with c in int8 (-127..127) and one scale a row, q' as sq * b with one scale a group of
columns, so that sx * sq * (b.c) is the estimate, the integer product being exact. By Cauchy-Schwarz

    |q.x - estimate| <= |q'| (dx + ex) + (|x'| + dx) dq + |q_out| |x_out| + SLACK,

where dx = |x' - sx c| and dq = |q' - sq b| are measured per vector, ex bounds the rounding of the
float32 projection (any order of summation: D 2^-24 sqrt(K) |x|, Higham 2002, section 3.1), and
SLACK covers the float32 arithmetic of the estimate and of the bound itself. Nothing is assumed
about the data: R decides how tight the bound is, never whether it holds.

R is the leading part of the principal axes of columns and a sample of rows (that keeps |q_out|
|x_out| small), turned by a fixed random rotation (that spreads each vector evenly over its K
coordinates, so that one scale a vector loses little).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from llvmlite import binding

Kind = Literal["int8", "float32"]

LEVELS = 127
# Rounding of the few float32 operations that turn a product into an estimate and a bound, for
# vectors of norm about 1 (each at most 2^-23 of a number below 2), doubled.
SLACK = 2e-6
# Numbers of axes to choose from are multiples of this.
STEP = 32
# Codes are a multiple of this long, which the integer products of GPUs need.
FILL = 8


@dataclass(frozen=True)
class Projection:
    """The leading part of a rotation.

    Attributes:
        matrix: (D, K) float64, orthonormal columns.
        whole: K = D, so that nothing lies outside.
    """

    matrix: np.ndarray

    @property
    def whole(self) -> bool:
        return bool(self.matrix.shape[0] == self.matrix.shape[1])

    @property
    def rounding(self) -> float:
        """ex / |x|: of a float32 product with the float32 matrix, in any order."""
        d, k = self.matrix.shape
        return float((d + 2) * 2.0**-24 * np.sqrt(k))


def principal_axes(columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(D, D) float64: axes of the second moments of both sides, in falling order."""
    moment = np.zeros((columns.shape[1],) * 2)
    for side in (columns, rows):
        wide = np.asarray(side, dtype=np.float32)
        moment += (wide.T @ wide).astype(np.float64) / max(1, len(wide))
    axes: np.ndarray = torch.linalg.eigh(torch.from_numpy(moment))[1].numpy()
    return axes[:, ::-1]


def projection(axes: np.ndarray, k: int, seed: int = 0) -> Projection:
    """The leading `k` axes, mixed by a random rotation of themselves."""
    mix = _orthonormal(np.random.default_rng(seed).standard_normal((k, k)))
    # Once more orthonormal to the last bit: eigenvectors are so to a few roundings only.
    return Projection(_orthonormal(axes[:, :k] @ mix))


def _orthonormal(matrix: np.ndarray) -> np.ndarray:
    """Columns of the same span (torch's is several times as fast as numpy's here)."""
    q: np.ndarray = torch.linalg.qr(torch.from_numpy(matrix))[0].numpy()
    return q


@dataclass(frozen=True)
class Codes:
    """One side of the screen, n vectors.

    Attributes:
        codes: (n, K) int8 or float32, K filled up with zeros to a multiple of FILL.
        scale: (n,) float32, or one of a group of columns.
        norm: (n,) float32, upper bound of the norm of the projected vector (of the code, for rows).
        error: (n,) float32, upper bound of the norm of projected vector minus code.
        outside: (n,) float32, upper bound of the norm outside the span.
    """

    codes: torch.Tensor
    scale: torch.Tensor
    norm: torch.Tensor
    error: torch.Tensor
    outside: torch.Tensor


# Upper bounds are computed in float32 and rounded up by this factor.
UP = 1 + 1e-5


def encode_rows(x: torch.Tensor, matrix: torch.Tensor, p: Projection, kind: Kind) -> Codes:
    """Codes of rows.

    Args:
        x: (B, D) float32, stored vectors.
        matrix: (D, K) float32, of `p`, on the device of `x`.
    """
    y = x @ matrix  # (B, K)
    norm2 = (x * x).sum(1)
    inside = torch.linalg.vector_norm(y, dim=1)
    ex = p.rounding * norm2.sqrt()
    outside = torch.zeros_like(norm2)
    if not p.whole:
        # |R'x| >= |y| - ex; the sums of squares are right to D 2^-24 of themselves.
        slack = 2 * ex * inside + 2 * x.shape[1] * 2.0**-24 * norm2
        outside = (norm2 - inside * inside + slack).clamp(min=0).sqrt() * UP
    if kind == "float32":
        # The product of K float32 terms is right to K 2^-24 |q'||y|.
        error = ex + y.shape[1] * 2.0**-24 * inside
        return Codes(_filled(y), torch.ones_like(inside), inside * UP, error * UP, outside)
    scale = y.abs().amax(1).clamp(min=1e-30) / LEVELS
    codes = (y / scale[:, None]).round_()
    # y - scale * codes, without a temporary.
    error = torch.linalg.vector_norm(torch.addcmul(y, codes, scale[:, None], value=-1), dim=1)
    norm = (inside + error) * UP
    return Codes(_filled(codes.to(torch.int8)), scale, norm, (error + ex) * UP, outside)


def _filled(codes: torch.Tensor) -> torch.Tensor:
    """Codes with zero coordinates up to a multiple of FILL."""
    return torch.nn.functional.pad(codes, (0, -codes.shape[1] % FILL))


def encode_columns(q: np.ndarray, p: Projection, kind: Kind, group: int) -> Codes:
    """Codes of columns, in float64 on the CPU: (M, D) -> codes (M, K), one scale a group.

    Args:
        group: neighbouring columns that share a scale; M is a multiple of it.
    """
    wide = np.asarray(q, dtype=np.float64)
    y = wide @ p.matrix
    inside = np.linalg.norm(y, axis=1)
    # The difference of two sums near 1 has lost its last digits; 1e-13 keeps it a bound.
    rest = np.maximum((wide * wide).sum(1) - inside**2, 0) + 1e-13
    outside = np.zeros(len(q)) if p.whole else np.sqrt(rest)
    if kind == "float32":
        codes: np.ndarray = y.astype(np.float32)
        scale = np.ones(len(q) // group, dtype=np.float32)
    else:
        largest = np.abs(y).reshape(len(q) // group, -1).max(1)
        scale = (np.maximum(largest, 1e-30) / LEVELS).astype(np.float32)
        codes = np.rint(y / np.repeat(scale, group).astype(np.float64)[:, None])
        codes = np.clip(codes, -LEVELS, LEVELS).astype(np.int8)
    coded = np.repeat(scale, group).astype(np.float64)[:, None] * codes
    error = np.linalg.norm(y - coded, axis=1)

    def bound(value: np.ndarray) -> torch.Tensor:
        return torch.from_numpy((value * UP).astype(np.float32))

    return Codes(
        _filled(torch.from_numpy(codes)),
        torch.from_numpy(scale),
        bound(inside),
        bound(error),
        bound(outside),
    )


def multiply(rows: torch.Tensor, columns: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """(B, K) codes times (K, T) codes into `out` (B, T): int32 for int8, else float32."""
    if rows.dtype == torch.int8:
        # Not public, but the only integer product of torch; `integers_are_exact` watches it.
        return torch._int_mm(rows, columns, out=out)
    return torch.mm(rows, columns, out=out)


def integers_are_fast(where: torch.device) -> bool:
    """Whether this machine has instructions for products of int8.

    A CPU without AVX-512 VNNI multiplies them one by one: 50 times slower than float32.
    """
    return where.type != "cpu" or bool(binding.get_host_cpu_features().get("avx512vnni"))


def integers_are_exact(where: torch.device, k: int = 512) -> bool:
    """Whether this machine multiplies int8 without saturation.

    CPUs older than AVX-512 VNNI add pairs of products in 16 bits, which extreme codes overflow.
    """
    try:
        wide = torch.full((32, k), LEVELS, dtype=torch.int8)
        # Extreme codes of one sign and of alternating signs: the first to saturate.
        wide[1::2] = -LEVELS
        wide[2::4, ::2] = -LEVELS
        random = torch.from_numpy(
            np.random.default_rng(0).integers(-LEVELS, LEVELS + 1, (32, k), dtype=np.int8)
        )
        rows = torch.cat([wide, random])
        columns = rows.T.contiguous()
        out = torch.empty(64, 64, dtype=torch.int32, device=where)
        products = multiply(rows.to(where), columns.to(where), out).cpu()
    except (RuntimeError, AttributeError):
        return False
    return bool((products == (rows.double() @ columns.double()).to(torch.int32)).all())
