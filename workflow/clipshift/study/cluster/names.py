"""The file of a cluster's names: one file, read when the profile is.

The first of: the file that `$CLIPSHIFT_CLUSTER` names, `profiles/slurm/cluster.local.yaml` (not in
git), `profiles/slurm/cluster.yaml`.
"""

import os
import re
import shlex
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from clipshift.core.errors import ClipshiftError
from clipshift.core.step import ROOT
from clipshift.core.yaml_file import read_yaml
from clipshift.study.config.data import Block
from clipshift.study.planning.costs import base_rule

VARIABLE = "CLIPSHIFT_CLUSTER"
# Set where the profile is read: the file of names, for the rules of this run and of its jobs.
IN_USE = "CLIPSHIFT_CLUSTER_IN_USE"
SHIPPED = ROOT / "profiles/slurm/cluster.yaml"
LOCAL = SHIPPED.with_name("cluster.local.yaml")
RULES = ROOT / "workflow/rules"

# sbatch's options that a run sets itself, and the key to say them with.
_OWN = {
    "partition": "cpu_partition, gpu_partition",
    "account": "account",
    "qos": "qos",
    "constraint": "constraint",
    "reservation": "reservation",
    "gres": "gres",
    **dict.fromkeys(["gpus", "gpus-per-node", "gpus-per-task"], "gpu_model, gres"),
    "cpus-per-gpu": "cpus_per_gpu",
    **dict.fromkeys(["mem", "mem-per-cpu", "mem-per-gpu"], "memory, rules.RULE.mem_mb"),
    "time": "rules.RULE.runtime",
    **dict.fromkeys(
        ["array", "chdir", "clusters", "comment", "cpus-per-task", "error", "export", "job-name",
         "nodes", "ntasks", "ntasks-per-gpu", "ntasks-per-node", "output", "parsable", "test-only",
         "wait", "wrap"],
        "",
    ),
}  # fmt: skip


def _words(value: Any) -> Any:
    """Words of `extra`, from a list or from a text of several; quotes are those of a shell."""
    try:
        return shlex.split(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError(f"{error} in {value!r}") from None


def _nobody_elses(word: str) -> str:
    name = word[2:].partition("=")[0]  # sbatch takes abbreviations
    if option := next((own for own in _OWN if own.startswith(name)), None):
        key = f"say it with {_OWN[option]}" if _OWN[option] else "every run sets it itself"
        raise ValueError(f"{word!r} is sbatch's --{option}: {key}")
    return word


def _with_number(gres: str) -> str:
    if "{gpus}" not in gres:
        raise ValueError(f"{gres!r} lacks {{gpus}}, the number of GPUs: e.g. gpu:a100:{{gpus}}")
    if re.search(r"[{}]", re.sub(r"\{(gpus|model)\}", "", gres)):
        raise ValueError(f"{gres!r}: braces are {{gpus}} and {{model}} only")
    return gres


def _by_kind(value: Any) -> Any:
    return value if isinstance(value, Mapping) else {"cpu": value, "gpu": value}


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.,+@:/-]*$")]
Constraint = Annotated[str, Field(pattern=r"^[A-Za-z0-9_(\[][A-Za-z0-9_.,&|()\[\]*!:=+-]*$")]
GpuModel = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
Gres = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:,={}-]*$"), AfterValidator(_with_number)
]
Extra = Annotated[
    tuple[
        Annotated[
            str,
            Field(pattern=r"^--[a-z][a-z-]*(=[^\x00-\x1f\x7f]*)?$"),
            AfterValidator(_nobody_elses),
        ],
        ...,
    ],
    BeforeValidator(_words),
]
Minutes = Annotated[int, Field(ge=1)]
WEEK = 10080
T = TypeVar("T")


class ByKind(Block, Generic[T]):
    """A value for jobs without a GPU and one for jobs with; one value alone is both."""

    cpu: T | None = Field(default=None, description="Of jobs without a GPU.")
    gpu: T | None = Field(default=None, description="Of jobs with GPUs.")

    def of(self, gpus: int) -> T | None:
        return self.gpu if gpus else self.cpu


NameByKind = Annotated[ByKind[Name], BeforeValidator(_by_kind)]


class Request(Block):
    """What the jobs of a rule ask for beside their number of GPUs."""

    partition: Name | None = Field(default=None, description="Partition.")
    account: Name | None = Field(default=None, description="Account.")
    qos: Name | None = Field(default=None, description="QoS.")
    constraint: Constraint | None = Field(default=None, description="Features of the nodes.")
    reservation: Name | None = Field(default=None, description="Reservation.")
    gpu_model: GpuModel | None = Field(default=None, description="Type of the GPUs.")
    gres: bool | Gres = Field(default=False, description="`--gres` in place of `--gpus`.")
    cpus_per_gpu: int | None = Field(default=None, ge=1, description="Cores that come with a GPU.")
    mem_mb: int | None = Field(default=None, ge=1, description="MB of the first attempt.")
    runtime: int | None = Field(default=None, ge=1, description="Minutes of the first attempt.")
    extra: Extra = Field(default=(), description="More options of sbatch.")

    def of_gpus(self, gpus: int) -> dict[str, Any]:
        """The resources by which a job asks for GPUs and for their cores.

        A negative number of cores is the plugin's "do not ask". With `--gres` cores are asked for
        by job: what starts inside it knows the cores of a GPU only after `--gpus`.
        """
        if not self.gres:
            return {"gpu_model": self.gpu_model, "cpus_per_gpu": self.cpus_per_gpu or -1}
        plain = "gpu:{model}:{gpus}" if self.gpu_model else "gpu:{gpus}"
        return {
            "gpu_model": self.gpu_model,
            "gres": self.gres if isinstance(self.gres, str) else plain,
            "cpus_per_task": self.cpus_per_gpu * gpus if self.cpus_per_gpu else -1,
        }


class Cluster(Block):
    """The names, spellings and limits that differ from one cluster to the next."""

    account: Name | None = Field(
        default=None, description="`sbatch --account`; null: the user's default."
    )
    cpu_partition: Name | None = Field(
        default=None, description="Partition of jobs without a GPU; null: the cluster's default."
    )
    gpu_partition: Name | None = Field(
        default=None, description="Partition of jobs with GPUs; null: the cluster's default."
    )
    qos: NameByKind = Field(
        default=ByKind(), description="`--qos`: a name, or `{cpu: NAME, gpu: NAME}`."
    )
    constraint: Annotated[ByKind[Constraint], BeforeValidator(_by_kind)] = Field(
        default=ByKind(),
        description="`--constraint`: features of nodes, or `{cpu: ..., gpu: ...}`.",
    )
    reservation: NameByKind = Field(
        default=ByKind(), description="`--reservation`: a name, or `{cpu: NAME, gpu: NAME}`."
    )
    gpu_model: GpuModel | None = Field(
        default=None,
        description="The GPUs' type as `sinfo -o %G` shows it; null: any GPU of the partition.",
    )
    gres: bool | Gres = Field(
        default=False,
        description="How GPUs are asked for. false: `--gpus=MODEL:N`; true: `--gres=gpu:MODEL:N`; "
        "a text: `--gres` with it, {gpus} and {model} filled in.",
    )
    cpus_per_gpu: int | None = Field(
        default=12, ge=1, description="Cores that come with each GPU; null: the cluster's default."
    )
    longest: Annotated[ByKind[Minutes], BeforeValidator(_by_kind)] = Field(
        default=ByKind(cpu=WEEK, gpu=WEEK),
        description="Minutes that the partitions give a job at most, or `{cpu: ..., gpu: ...}`; "
        "trainings that take longer are started again where they were.",
    )
    memory: Literal["job", "cpu", "none"] = Field(
        default="job",
        description="How memory is asked for: of the job (`--mem`), divided by its cores "
        "(`--mem-per-cpu`), or not at all.",
    )
    extra: Annotated[ByKind[Extra], BeforeValidator(_by_kind)] = Field(
        default=ByKind(cpu=(), gpu=()),
        description="More options for sbatch, as `--name=value`: a text or a list, or "
        "`{cpu: ..., gpu: ...}`.",
    )
    rules: dict[str, Request] = Field(
        default={},
        description=f"What differs for single rules, by name: {', '.join(Request.model_fields)}.",
    )
    scratch: str | None = Field(
        default=None,
        pattern=r"^[/$][\w./$-]*$",
        description="Folder of the nodes for temporary files, e.g. `/scratch/$USER`; variables are "
        "those of the node. null: the node's TMPDIR or /tmp.",
    )
    status: Literal["auto", "sacct", "squeue"] = Field(
        default="auto",
        description="Who is asked how jobs fare. auto: sacct where it answers, else squeue.",
    )
    jobs: int = Field(default=100, ge=1, description="Jobs in the queue at the same time.")
    submissions: str = Field(
        default="1/1s",
        pattern=r"^[1-9]\d*/[1-9]\d*[smh]$",
        description="Most submissions within a time, e.g. 1/1s or 60/1m (sixty at once, then a "
        "pause).",
    )
    first_check: int = Field(
        default=40,
        ge=1,
        description="Seconds before jobs are first asked for, and again after each that ended.",
    )

    @field_validator("rules")
    @classmethod
    def _known(cls, rules: dict[str, Request]) -> dict[str, Request]:
        if unknown := sorted(set(rules) - (known := rule_names()) if rules else ()):
            raise ValueError(
                f"no rules: {', '.join(unknown)}; there are {', '.join(sorted(known))}"
            )
        return rules

    @model_validator(mode="after")
    def _complete(self) -> "Cluster":
        for name in [None, *self.rules]:
            asked, where = self.request(name or "", 1), f"rules.{name}: " if name else ""
            if isinstance(asked.gres, str) and "{model}" in asked.gres and not asked.gpu_model:
                raise ValueError(f"{where}gres {asked.gres!r} has {{model}}, and gpu_model is null")
            if self.memory == "cpu" and not asked.cpus_per_gpu:
                raise ValueError(f"{where}memory: cpu needs cpus_per_gpu, to divide by")
        return self

    def request(self, rule: str, gpus: int) -> Request:
        """What the jobs of a rule ask for, with so many GPUs."""
        common = {
            "partition": self.gpu_partition if gpus else self.cpu_partition,
            "account": self.account,
            "qos": self.qos.of(gpus),
            "constraint": self.constraint.of(gpus),
            "reservation": self.reservation.of(gpus),
            "gpu_model": self.gpu_model,
            "gres": self.gres,
            "cpus_per_gpu": self.cpus_per_gpu,
            "extra": self.extra.of(gpus) or (),
        }
        own = self.rules.get(plain_rule(rule)) if self.rules else None
        given = {key: getattr(own, key) for key in own.model_fields_set} if own else {}
        return Request.model_construct(**common | given)


def plain_rule(name: str) -> str:
    """A rule's name in the workflow, where it has a number or a module's prefix.

    >>> plain_rule("margins_2"), plain_rule("mine_url_pool_shard")
    ('margins', 'url_pool_shard')
    """
    plain = base_rule(name)
    return max((rule for rule in rule_names() if plain.endswith(rule)), key=len, default=plain)


@cache
def rule_names() -> set[str]:
    """Names of the workflow's rules."""
    text = "\n".join(file.read_text() for file in sorted(RULES.glob("*.smk")))
    named = re.findall(r'^ +name:\n.*"(\w+)"$', text, re.MULTILINE)
    return {*named, *re.findall(r"^ *(?:use rule \w+ as|rule) (\w+)", text, re.MULTILINE)}


def locate() -> Path:
    """The file of names that a run reads."""
    return Path(os.environ.get(VARIABLE) or (LOCAL if LOCAL.exists() else SHIPPED))


def read(path: Path | None = None) -> Cluster:
    """The cluster of a file; without one that of `locate`.

    Raises:
        ClipshiftError: no such file, not YAML, or a key that is unknown, missing or wrong.
    """
    path = path or locate()
    if not path.exists():
        raise ClipshiftError(
            f"{path} is missing; it holds the cluster's names (see {SHIPPED}), and ${VARIABLE} may "
            "name another file"
        )
    try:
        return Cluster.model_validate(read_yaml(path))
    except ValidationError as error:
        faults = [_explain(dict(fault)) for fault in error.errors()]
        raise ClipshiftError(
            f"{path}: {'; '.join(faults)}. Keys: {', '.join(Cluster.model_fields)}"
        ) from None


def _explain(fault: dict[str, Any]) -> str:
    """`KEY: what is wrong`, with what was found there."""
    text = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "string_type" and isinstance(fault["input"], int | float):
        text += f", found {fault['input']!r}: write it in quotes"
    elif fault["type"] == "string_pattern_mismatch":
        text += f", found {fault['input']!r}"
    return f"{'.'.join(map(str, fault['loc'])) or 'file'}: {text}"


@cache
def in_use() -> Cluster | None:
    """The cluster whose profile this run was started with."""
    return read(Path(os.environ[IN_USE])) if IN_USE in os.environ else None


def scratch_prefix() -> str:
    """What comes before every shell line: temporary files go to the cluster's scratch folder."""
    cluster = in_use()
    if cluster is None or not cluster.scratch:
        return ""
    return f'set -euo pipefail; export TMPDIR="{cluster.scratch}"; mkdir -p "$TMPDIR"; '
