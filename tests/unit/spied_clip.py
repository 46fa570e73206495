"""open_clip's program as it is started, watched: `python spied_clip.py LOG STOP [its arguments]`.

Writes a line into LOG for each pass of the vision tower: images, type of the output, whether
gradients are kept, and the bytes that are kept for the backward pass. STOP: the pass at which the
process is gone, as if it were killed; 0: none.
"""

import os
import sys
from pathlib import Path
from typing import Any

import torch
from open_clip.transformer import VisionTransformer

from clipshift.training import open_clip_main

LOG, STOP = Path(sys.argv[1]), int(sys.argv[2])
forward = VisionTransformer.forward
passed = 0


def watched(self: VisionTransformer, images: torch.Tensor) -> Any:
    global passed  # noqa: PLW0603
    passed += 1
    if passed == STOP:
        os._exit(137)
    kept = 0

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = forward(self, images)
    with LOG.open("a") as log:
        log.write(f"{len(images)} {output.dtype} {torch.is_grad_enabled()} {kept}\n")
    return output


VisionTransformer.forward = watched
sys.argv[1:] = sys.argv[3:]
open_clip_main.main()
