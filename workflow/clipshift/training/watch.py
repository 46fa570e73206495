"""Loss, gradient norm and learning rate of a training, watched at each step.

The first loss that is no number ends the training: every later one would be none either, and the
weights are lost with it.
"""

import logging
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from clipshift.core.errors import ClipshiftError
from clipshift.training.failures import leave_diverged

LOG = logging.getLogger(__name__)


def gradient_norm(parameters: Iterable[torch.Tensor]) -> float:
    """Euclidean norm of the gradients of all parameters together."""
    norms = [
        torch.linalg.vector_norm(p.grad.detach().float()) for p in parameters if p.grad is not None
    ]
    return float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0


def check_loss(loss: float, step: int, rate: float, work: Path, rows: list[Any]) -> None:
    """Raise at a loss that is no finite number, and leave `diverged.json` in the work folder.

    Args:
        step: from 1, over the whole training.
        rows: what was watched in this part so far.
    """
    if math.isfinite(loss):
        return
    error = ClipshiftError(
        f"the training in {work} diverged: its loss is {loss} at step {step}, at the learning rate "
        f"{rate:g}. Lower `lr`, raise `warmup`, or use another `precision` (fp32, or amp_bf16 for "
        f"amp). To try again as it is, delete {work}"
    )
    record = {"step": step, "loss": str(loss), "learning_rate": rate, "watched": rows}
    leave_diverged(work, error, record)
    raise error


class Watch:
    """Stands for the loss of open_clip's trainer in one part of a training, and watches it.

    Attributes:
        rows: at each step that is logged: samples seen in this part, running mean of the loss over
            those steps as open_clip prints it, gradient norm (None where mixed precision left the
            step out) and learning rate.
    """

    def __init__(
        self, loss: Callable[..., dict[str, Any]], optimizer: torch.optim.Optimizer, args: Any,
        steps: int, part: int, work: Path,
    ):  # fmt: skip
        self._loss, self._optimizer, self._args = loss, optimizer, args
        self._steps, self._part, self._work = steps, part, work
        self._calls, self._sum, self._count = 0, 0.0, 0
        self.rows: list[dict[str, Any]] = []
        self._hook = optimizer.register_step_pre_hook(self._before_step)

    def __call__(self, *given: Any, **named: Any) -> dict[str, Any]:
        losses = self._loss(*given, **named)
        done, place = divmod(self._calls, self._args.accum_freq)
        self._calls += 1
        rate = float(self._optimizer.param_groups[0]["lr"])
        total = float(sum(loss.detach() for loss in losses.values()))
        check_loss(total, self._part * self._steps + done + 1, rate, self._work, self.rows)
        if place == self._args.accum_freq - 1 and self._is_logged(done):
            self._row(done, float(losses["contrastive_loss"].detach()), rate)
        return losses

    def close(self) -> None:
        self._hook.remove()
        self._tell()

    def _is_logged(self, done: int) -> bool:
        """As open_clip decides it."""
        return done % self._args.log_every_n_steps == 0 or done + 1 == self._steps

    def _row(self, done: int, loss: float, rate: float) -> None:
        self._tell()
        args, self._told = self._args, False
        self._sum += loss * args.batch_size
        self._count += args.batch_size
        seen = (done + 1) * args.batch_size * args.accum_freq * args.world_size
        mean = float(f"{self._sum / self._count:#.5g}")
        self.rows.append(
            {"samples": seen, "loss": mean, "gradient_norm": None, "learning_rate": rate}
        )

    def _before_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        done = (self._calls - 1) // self._args.accum_freq
        if self._is_logged(done) and self.rows:
            every = (p for group in optimizer.param_groups for p in group["params"])
            self.rows[-1]["gradient_norm"] = gradient_norm(every)
            self._tell()

    _told = True

    def _tell(self) -> None:
        if self._told or self._args.rank:
            return
        self._told, row = True, self.rows[-1]
        norm = "step left out" if row["gradient_norm"] is None else f"{row['gradient_norm']:.4g}"
        LOG.info(
            f"part {self._part + 1}, {row['samples']} samples: mean loss {row['loss']:.5g}, "
            f"gradient norm {norm}, learning rate {row['learning_rate']:.4g}"
        )
