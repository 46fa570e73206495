"""Configuration of study B: who is natural, who is a rendition, and the clean test sets.

The block `domains` names the labels, the classifiers that learn from them, the two detectors that
are used, and the clean version of each test set.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from clipshift.study.config.data import Block, Name

Domain = Literal["natural", "rendition", "ambiguous"]
# In the order of the labels 0, 1, 2.
DOMAINS: tuple[Domain, ...] = ("natural", "rendition", "ambiguous")
# The domains that a detector can be asked for.
DETECTED: tuple[Literal["natural", "rendition"], ...] = ("natural", "rendition")
# What the two detectors say of a picture together.
VERDICTS = ("natural", "rendition", "neither", "both")


class Labels(Block):
    """Where the labels come from: a table over the sources, people, or both (people win)."""

    datasets: list[Name] = Field(
        min_length=1,
        description="Pools and sets whose labelled pictures the classifiers learn from. Labels of "
        "test sets are only measured on.",
    )
    table: dict[str, Domain] = Field(
        default={}, description="Domain of a source (`sources.*.domain`) -> label."
    )
    paths: dict[Domain, list[str]] = Field(
        default={},
        description="Exceptions: label -> category paths, or parents of them; the longest match "
        "wins. Here the ambiguous ones are named.",
    )
    file: str | None = Field(
        default=None,
        description="Table of labels by people (parquet: `key`, `label` 0 natural, 1 rendition, "
        "2 ambiguous, `concept`, `source`, `annotator`). A relative path is below `data` if it "
        "begins with `data:`. The majority of the annotators counts; without one a picture is "
        "ambiguous.",
    )

    @model_validator(mode="after")
    def _says_something(self) -> "Labels":
        if not self.table and self.file is None:
            raise ValueError("give a `table` over the sources, or the `file` of people's labels")
        return self


class Parts(Block):
    """Labelled concepts are shared out: all pictures of a concept are in one part."""

    validation: float = Field(
        default=0.25, gt=0, lt=1, description="Share of the concepts that thresholds are chosen on."
    )
    test: float = Field(
        default=0.25, gt=0, lt=1, description="Share of the concepts that are only measured on."
    )
    seed: int = Field(default=0, description="Seed of the parts.")

    @model_validator(mode="after")
    def _leave_some(self) -> "Parts":
        if self.validation + self.test >= 1:
            raise ValueError("validation and test leave no concept to train on")
        return self


Form = Literal["ternary", "one_vs_rest", "density_ratio"]


class ClassifierBase(Block):
    """What every domain classifier declares."""

    encoder: Name = Field(description="The encoder whose embeddings it reads, or that it tunes.")
    form: Form = Field(
        default="ternary",
        description="`ternary`: one model of three classes; `one_vs_rest`: a binary model per "
        "detected domain; `density_ratio`: a binary model per detected domain, of its pictures "
        "against the whole labelled population, whose logit estimates the log ratio of densities.",
    )


class Trained(ClassifierBase):
    """What every classifier that learns from the labels declares."""

    size: int | None = Field(
        default=None, ge=3, description="Training pictures at most, by a seeded hash."
    )
    balanced: bool = Field(
        default=False, description="As many training pictures of each label as of the rarest."
    )


class Linear(Trained):
    """A linear probe: logistic regression on embeddings."""

    kind: Literal["linear"] = Field(description="Selects this kind of classifier.")
    c: float = Field(default=1.0, gt=0, description="Inverse strength of the L2 penalty.")
    weighted: bool = Field(default=True, description="Give every label the same total weight.")


class Centroid(Trained):
    """The nearest class mean, by the cosine."""

    kind: Literal["centroid"] = Field(description="Selects this kind of classifier.")


class Knn(Trained):
    """The labels of the nearest training pictures, by the cosine."""

    kind: Literal["knn"] = Field(description="Selects this kind of classifier.")
    k: int = Field(default=15, ge=1, description="Neighbours.")


class Prompts(ClassifierBase):
    """Zero-shot: the prompts of a label, through the text tower of the encoder."""

    kind: Literal["prompts"] = Field(description="Selects this kind of classifier.")
    prompts: dict[Domain, list[str]] = Field(
        description="Label -> prompts, averaged as in zero-shot classification."
    )

    @model_validator(mode="after")
    def _whole(self) -> "Prompts":
        if lacking := [d for d in DOMAINS if not self.prompts.get(d)]:
            raise ValueError(f"prompts: none for {lacking}")
        if self.form != "ternary":
            raise ValueError("prompts know no population: `form: ternary`")
        return self


class Finetune(Trained):
    """A linear readout of an encoder that is tuned with it (SGD, best epoch by validation)."""

    kind: Literal["finetune"] = Field(description="Selects this kind of classifier.")
    frozen: bool = Field(default=False, description="Train the readout only.")
    epochs: int = Field(default=50, ge=1, description="Passes over the training pictures.")
    batch: int = Field(default=256, ge=1, description="Batch size.")
    lr: float = Field(default=0.1, gt=0, description="Learning rate.")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Momentum.")
    weight_decay: float = Field(default=5e-4, ge=0, description="Weight decay.")
    step: int = Field(default=20, ge=1, description="Epochs after which the rate is multiplied.")
    gamma: float = Field(default=0.1, gt=0, le=1, description="Factor of each step.")
    seed: int = Field(default=0, description="Seed of readout and order.")


Classifier = Annotated[Linear | Centroid | Knn | Prompts | Finetune, Field(discriminator="kind")]


class Clean(Block):
    """A test set without the pictures that are not of its domain."""

    set: Name = Field(description="The labelled set.")
    domain: Literal["natural", "rendition"] = Field(
        description="Its domain: what the detector of this domain accepts is kept."
    )
    classes: list[str] | None = Field(
        default=None, description="Restrict it to these classes (default: all that are left)."
    )
    minimum_per_class: int = Field(
        default=1, ge=1, description="Classes with fewer pictures left are dropped whole."
    )


class Domains(Block):
    """Study B: domains of pictures, and test sets cleaned by them."""

    name: Name = Field(description="Folder of the results: `results/domains/{name}`.")
    labels: Labels = Field(description="Labels.")
    parts: Parts = Field(default=Parts(), description="Training, validation and test concepts.")
    classifiers: dict[Name, Classifier] = Field(min_length=1, description="Classifiers to compare.")
    natural: Name = Field(description="The classifier whose natural detector is used.")
    rendition: Name = Field(description="The classifier whose rendition detector is used.")
    precision: float = Field(
        default=0.98,
        gt=0,
        le=1,
        description="Operating point: the lowest threshold with at least this precision on the "
        "validation part. Another value computes no score again.",
    )
    datasets: list[Name] = Field(
        default=[],
        description="Pools and sets, beside the study's pool, reference set and test sets and the "
        "clean test sets, to score.",
    )
    clean: dict[Name, Clean] = Field(default={}, description="Clean test sets, by name.")
    draws: int = Field(default=2000, ge=100, description="Draws of the corrected composition.")
    seed: int = Field(default=0, description="Seed of these draws.")

    @property
    def detectors(self) -> dict[str, str]:
        """Detected domain -> its classifier."""
        return {"natural": self.natural, "rendition": self.rendition}

    def references(self) -> Iterator[tuple[str, str, str]]:
        """Where this block names another one: (where, name, kind of name)."""
        for domain in DETECTED:
            yield f"domains.{domain}", self.detectors[domain], "classifier"
        for name in [*self.labels.datasets, *self.datasets]:
            yield "domains", name, "dataset"
        for key, classifier in self.classifiers.items():
            yield f"domains.classifiers.{key}.encoder", classifier.encoder, "encoder"
            if classifier.kind in ("finetune", "prompts"):
                where = f"domains.classifiers.{key}.encoder ({classifier.kind})"
                yield where, classifier.encoder, f"{classifier.kind} encoder"
        for key, clean in self.clean.items():
            yield f"domains.clean.{key}.set", clean.set, "labelled set"
            for name in clean.classes or []:
                yield f"domains.clean.{key}.classes", name, "class"


def domain_references(cfg: Any) -> list[tuple[str, str, Any]]:
    """Every place where study B names another block: (where, name, known names)."""
    mixes = [name for name, split in cfg.splits.items() if split.recipe == "domains"]
    wanted = [(name, c) for name in mixes for c in cfg.splits[name].classes or []]
    if cfg.domains is None:
        return [(f"splits.{name}: needs the block", "domains", []) for name in mixes]
    towers = [n for n, e in cfg.encoders.items() if e.kind in ("run", "open_clip")]
    known = {
        "classifier": cfg.domains.classifiers,
        "dataset": {**cfg.pools, **cfg.sets},
        "encoder": cfg.encoders,
        "prompts encoder": towers,
        "finetune encoder": cfg.encoders,
        "labelled set": cfg.sets,
    }
    found: list[tuple[str, str, Any]] = []
    if cfg.classes:
        found += [(f"splits.{name}.classes", c, cfg.classes) for name, c in wanted]
    for where, name, kind in cfg.domains.references():
        if kind != "class":
            found.append((where, name, known[kind]))
        elif cfg.classes:  # the classes of a folder are known when it is there
            found.append((where, name, cfg.classes))
    return found
