"""The jobs of a dry run: what Snakemake prints of each, and what the cost model says of it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from clipshift.study.config.study import Config
from clipshift.study.planning.costs import base_rule, job_cost
from clipshift.study.planning.work import Work

_RULE = re.compile(r"^(?:local)?rule (\w+):$")
_FIELD = re.compile(r"^    (\w+): (.*)$")


@dataclass
class Job:
    """One job, as it is planned.

    Attributes:
        asked: resource -> number; those that are no number are left out.
    """

    rule: str
    wildcards: dict[str, str] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    benchmark: str | None = None
    asked: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The rule, without the number of those that make several test sets in one job."""
        return base_rule(self.rule)

    @property
    def gpus(self) -> int:
        return self.asked.get("gpu", 0)

    def work(self, cfg: Config) -> Work:
        return job_cost(cfg, self.rule, self.wildcards, self.gpus)

    def __str__(self) -> str:
        return " ".join([self.name, *self.wildcards.values()])


def planned_jobs(output: str) -> Iterator[Job]:
    """The jobs in the output of a dry run."""
    job: Job | None = None
    for text in [*output.splitlines(), ""]:
        if rule := _RULE.match(text):
            job = Job(rule.group(1))
        elif job and (said := _FIELD.match(text)):
            _take(job, said.group(1), said.group(2).split(", "))
        elif job and not text.startswith("    "):
            yield job
            job = None


def _take(job: Job, name: str, words: list[str]) -> None:
    pairs = {key: value for key, _, value in (word.partition("=") for word in words)}
    if name == "wildcards":
        job.wildcards = pairs
    elif name == "resources":
        job.asked = {key: int(value) for key, value in pairs.items() if value.isdigit()}
    elif name == "input":
        job.inputs = words
    elif name == "output":
        job.outputs = words
    elif name == "benchmark":
        job.benchmark = words[0]
