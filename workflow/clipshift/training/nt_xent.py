"""NT-Xent, the contrastive loss of SimCLR (Chen et al. 2020, equation 1)."""

import torch
from torch import Tensor
from torch.nn import functional


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """The mean over all 2B views of -log softmax of their partner among the 2B - 1 others.

    Args:
        first, second: (B, D) projections of two views of the same B images, of any length.

    Returns:
        () the loss.
    """
    views = functional.normalize(torch.cat([first, second]), dim=1)  # (2B, D)
    logits = views @ views.T / temperature  # (2B, 2B)
    logits.fill_diagonal_(float("-inf"))  # a view is no candidate for itself
    count = len(first)
    # (2B,): the views of image i are rows i and i + B.
    partner = torch.arange(2 * count, device=logits.device).roll(count)
    return functional.cross_entropy(logits, partner)
