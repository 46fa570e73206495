"""Run by torchrun in a test: is the gradient of two processes that of one?"""

import torch
from open_clip.loss import ClipLoss
from torch import distributed


def main() -> None:
    distributed.init_process_group("gloo")
    rank, world = distributed.get_rank(), distributed.get_world_size()
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(2, 12, 5, generator=generator, dtype=torch.float64)
    start = torch.randn(5, 4, generator=generator, dtype=torch.float64)

    def gradients(loss: ClipLoss, rows: slice) -> list[torch.Tensor]:
        weights, scale = start.clone().requires_grad_(), torch.tensor(2.0, requires_grad=True)
        features = (torch.nn.functional.normalize(x[rows] @ weights) for x in (images, texts))
        loss(*features, scale.exp()).backward()
        return [part.grad for part in (weights, scale) if part.grad is not None]

    size = 12 // world
    mine = ClipLoss(local_loss=True, gather_with_grad=True, rank=rank, world_size=world)
    shared = gradients(mine, slice(rank * size, (rank + 1) * size))
    for part in shared:  # as DistributedDataParallel does
        distributed.all_reduce(part)
        part.div_(world)
    for one, both in zip(gradients(ClipLoss(), slice(None)), shared, strict=True):
        torch.testing.assert_close(both, one)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
