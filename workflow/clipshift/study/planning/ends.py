"""Which jobs of a plan would not end: for the preview, before anything is submitted."""

from collections.abc import Iterable, Iterator

from clipshift.study.config.study import Config
from clipshift.study.planning.limits import minutes
from clipshift.study.planning.planned import Job
from clipshift.study.planning.text import duration, size
from clipshift.study.planning.work import Work

_TRAININGS = ("train", "train_captions", "train_vision")
# What makes the jobs of a rule shorter, and what makes them smaller on a GPU.
SHORTER = {
    **dict.fromkeys(_TRAININGS, "more `gpus`, or more `checkpoints`, of its model"),
    **dict.fromkeys(
        ["embed", "domain_score_images", "margins", "dedup_assign"],
        "more `shards` of the pool, or another `precision` of the encoder",
    ),
    **dict.fromkeys(["dedup_score", "dedup_apply", "dedup_record"], "more `dedup.jobs`"),
    "dedup_fit": "a smaller `dedup.sample`",
    "domain_tune": "fewer `epochs`, or another `precision`, of the classifier",
}
SMALLER = {
    **dict.fromkeys(
        _TRAININGS, "`accumulation`, `grad_checkpointing`, another `precision`, or more `gpus`"
    ),
    "domain_tune": "`accumulation`, or another `precision`, of the classifier",
    "logits": "a smaller `evaluation.batch`",
}


def faults(cfg: Config, jobs: Iterable[Job]) -> list[str]:
    """A sentence per rule whose jobs would not end, with the worst of them and the remedy."""
    excesses: dict[tuple[str, str], list[tuple[float, str, Job]]] = {}
    for job in jobs:
        for excess, sentence, kind in _of(cfg, job, job.work(cfg)):
            excesses.setdefault((job.name, kind), []).append((excess, sentence, job))
    return [
        f"{rule}: {len(some)} of its jobs, e.g. {worst[2]}: {worst[1]}"
        for (rule, _), some in excesses.items()
        for worst in [max(some, key=lambda one: one[0])]
    ]


def _of(cfg: Config, job: Job, work: Work) -> Iterator[tuple[float, str, str]]:
    """How much too large a job is, in words, and of which kind."""
    c, seconds = cfg.costs, work.seconds(cfg)
    given = job.asked.get("runtime")
    # What cannot be interrupted: the job, or a training's part between two checkpoints.
    whole = seconds / max(1, work.parts)
    needed = minutes(cfg, whole)
    if given and needed > given:
        what = "a part between two checkpoints" if work.parts else "it"
        yield (
            needed / given,
            (
                f"{what} is planned to take {duration(whole)}, with the margin of {c.margin:g} "
                f"{duration(needed * 60)}, and gets {duration(given * 60)}. Remedy: "
                f"{SHORTER.get(job.name, 'a partition with a longer limit')}; `longest` and "
                "`rules` of the cluster's file say what partitions give"
            ),
            "time",
        )
    if (memory := job.asked.get("mem_mb", work.memory)) * 1e6 < work.memory:
        yield (
            work.memory / memory,
            (
                f"it needs {size(work.memory)} of memory and asks for {size(memory * 1e6)}. "
                f"Remedy: `rules.{job.name}.mem_mb` of the cluster's file"
            ),
            "memory",
        )
    if work.gpu_memory > c.gpu_bytes:
        yield (
            work.gpu_memory,
            (
                f"it needs {size(work.gpu_memory)} on each of its GPUs, which have "
                f"{size(c.gpu_bytes)} (`costs.gpu_bytes`). Remedy: "
                f"{SMALLER.get(job.name, 'a smaller `batch` of the encoder')}"
            ),
            "GPU",
        )
