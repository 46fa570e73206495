"""open_clip's own training program, with our model known to it and its order of samples fixed.

`python -m clipshift.training.open_clip_main MODEL_CONFIG.json [open_clip_train arguments]`. Some
things differ from `python -m open_clip_train.main`, none of which touches the method:

* the model configuration is registered first;
* the shuffle buffer of samples takes its seed from `--seed` and the epoch (upstream: from the
  process id and the clock), so that equal inputs give equal batches;
* every epoch starts from a random state that follows from `--seed`, the rank and the epoch, so
  that a training resumed at a checkpoint continues as the undisturbed one;
* the model's convolutions are laid out channels-last, a quarter faster on CPUs;
* the tokens of a caption are remembered, since small pools see each caption many times;
* samples are read and decoded by our parser and decoder, not by webdataset, which unpickles what
  a tar holds and passes over what is damaged;
* a part is exactly as many batches as planned, and the samples are counted;
* loss, gradient norm and learning rate are watched, and a loss that is no number ends it;
* what ends it is left in the work folder, for the step to say;
* accumulated gradients are those of the whole batch for the logit scale, too;
* several processes run on a CPU, too;
* it ends with the process that started it.

The environment variable CLIPSHIFT_TEXT_WEIGHTS names weights whose text tower the model begins
with; CLIPSHIFT_EPOCH_PARTS says after how many parts the weights are kept for an evaluation.
"""

import functools
import os
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import open_clip_train.data
import open_clip_train.main
import torch
from torch.nn.parallel import DistributedDataParallel

from clipshift.core.processes import die_with_parent
from clipshift.similarity.open_clip_models import read_by_ours
from clipshift.training import checkpoints
from clipshift.training.batches import ExactLoader, write_count
from clipshift.training.failures import one_process
from clipshift.training.init_tower import TEXT_WEIGHTS
from clipshift.training.launch import EPOCH_PARTS
from clipshift.training.shards import Shards, decoded
from clipshift.training.watch import Watch

# Captions whose tokens are kept: a few hundred bytes each.
CAPTIONS = 100_000


def seed_of(seed: int, rank: int, epoch: int) -> int:
    """One seed per run, rank and epoch; distinct for up to 10,000 epochs and 1,000 ranks."""
    return (seed * 1_000 + rank) * 10_000 + epoch


def fix_sample_order(rank: int) -> None:
    """Replace the clock-seeded shuffle buffer, and seed all generators at each epoch."""
    generator = random.Random()
    wds = open_clip_train.data.wds
    wds.shuffle = functools.partial(wds.shuffle, rng=generator)
    train_one_epoch = open_clip_train.main.train_one_epoch

    @functools.wraps(train_one_epoch)
    def seeded(
        model: Any, loaders: Any, loss: Any, epoch: int, optimizer: Any, *rest: Any, **named: Any
    ) -> Any:
        args = next(a for a in (*rest, *named.values()) if hasattr(a, "train_data"))
        loader = loaders["train"].dataloader
        steps = loader.num_batches // args.accum_freq
        hooks = weigh_scales(model, args.accum_freq)
        watch = Watch(loss, optimizer, args, steps, epoch, Path(args.logs).parent)
        seed = seed_of(args.seed, rank, epoch)
        for seed_it in (generator.seed, random.seed, torch.manual_seed):
            seed_it(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 (what the program itself uses)
        done = train_one_epoch(model, loaders, watch, epoch, optimizer, *rest, **named)
        watch.close()
        for hook in hooks:
            hook.remove()
        counts = Path(args.logs, args.name, "samples")
        write_count(loader, counts, epoch, args.world_size, rank, watch.rows)
        if rank == 0:
            work = Path(args.logs).parent
            epoch_parts = int(os.environ.get(EPOCH_PARTS, "0"))
            weights = checkpoints.plain(model.state_dict())
            checkpoints.keep_epoch(work, epoch + 1, epoch_parts, weights)
            checkpoints.tell_progress(work, epoch + 1)
        return done

    open_clip_train.main.train_one_epoch = seeded


def weigh_scales(model: torch.nn.Module, parts: int) -> list[Any]:
    """Let parameters of the loss itself have the gradient of a batch, whatever parts accumulate.

    open_clip adds up that of the whole loss once for each part. Returns the hooks.
    """
    named = dict(model.named_parameters())
    scales = [p for n, p in named.items() if n.endswith(("logit_scale", "logit_bias"))]
    free = [p for p in scales if p.requires_grad] if parts > 1 else []
    return [p.register_hook(lambda gradient: gradient / parts) for p in free]


def read_exactly() -> None:
    """Give each part exactly its batches, from readers whose random states follow from the seed.

    They read the tars by our parser and decoder; `--train-data` is the list of them.
    """
    get_data, data = open_clip_train.main.get_data, open_clip_train.data
    data.wds.decode = lambda *_, **__: data.wds.map(decoded)
    data.wds.to_tuple = functools.partial(_with_rows, data.wds.to_tuple)

    @functools.wraps(get_data)
    def exact(args: Any, *rest: Any, **named: Any) -> Any:
        shards = Shards(Path(args.train_data))
        args.train_data = shards.names
        data.tarfile_to_samples_nothrow = shards.source
        given = get_data(args, *rest, **named)
        numbers = (args.train_num_samples, args.batch_size, args.world_size, args.workers)
        given["train"].dataloader = ExactLoader(
            given["train"].dataloader, *numbers, shards.rows, shards.work
        )
        return given

    open_clip_train.main.get_data = exact


def _with_rows(to_tuple: Any, *fields: str) -> Any:
    return to_tuple(*fields, "__row__")


def share_on_cpu() -> None:
    """Let several processes train on a CPU: there, DistributedDataParallel takes no device ids."""

    class OnCpu(DistributedDataParallel):
        def __init__(self, model: Any, device_ids: Any = None, **named: Any):
            super().__init__(model, **named)

    torch.nn.parallel.DistributedDataParallel = OnCpu  # type: ignore[assignment,misc]


def lay_out_channels_last() -> None:
    """Create models channels-last."""
    create = open_clip_train.main.create_model_and_transforms

    @functools.wraps(create)
    def channels_last(*args: Any, **kwargs: Any) -> Any:
        model, *transforms = create(*args, **kwargs)
        return model.to(memory_format=torch.channels_last), *transforms

    open_clip_train.main.create_model_and_transforms = channels_last


def start_text_tower(weights: Path) -> None:
    """Create models with the text tower of another run (before it may be locked)."""
    from clipshift.training.init_tower import start_text

    create = open_clip_train.main.create_model_and_transforms

    @functools.wraps(create)
    def started(*args: Any, **kwargs: Any) -> Any:
        model, *transforms = create(*args, **kwargs)
        start_text(model, weights)
        return model, *transforms

    open_clip_train.main.create_model_and_transforms = started


def remember_tokens() -> None:
    """Tokenize equal captions once."""
    get_tokenizer = open_clip_train.main.get_tokenizer

    @functools.wraps(get_tokenizer)
    def remembering(*args: Any, **kwargs: Any) -> Any:
        return functools.lru_cache(maxsize=CAPTIONS)(get_tokenizer(*args, **kwargs))

    open_clip_train.main.get_tokenizer = remembering


def main() -> None:
    die_with_parent()
    open_clip.add_model_config(Path(sys.argv[1]))
    read_by_ours()
    lay_out_channels_last()
    if weights := os.environ.get(TEXT_WEIGHTS):
        start_text_tower(Path(weights))
    remember_tokens()
    read_exactly()
    fix_sample_order(int(os.environ.get("RANK", "0")))
    if not torch.cuda.is_available():
        share_on_cpu()
    with one_process(Path(sys.argv[1]).parent):
        open_clip_train.main.main(sys.argv[2:])


if __name__ == "__main__":
    main()
