"""What a study means by its names: a digest of everything that has files of its own under a name.

The digest of a name is that of its block and of the definitions of all that it refers to: a split's
changes with its recipe, and with the images of a source behind its pool. `study.shared_folder`
compares them. Imported at parse time.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from clipshift.core.files import sha256_json
from clipshift.study.config.causes import LinearHead
from clipshift.study.config.data import Block, TestSet
from clipshift.study.config.encoder_base import Trained
from clipshift.study.config.folders import takes
from clipshift.study.config.objective_base import RunOf
from clipshift.study.config.study import Config, source_packages

# Of the own block, in front of as many of the whole definition.
OWN_DIGITS = 12

Ref = tuple[str, str]  # kind and name
Node = tuple[Ref, Any, list[Ref]]  # with its own block, and what it refers to
Definitions = dict[str, dict[str, str]]


def definitions(cfg: Config) -> Definitions:
    """Kind -> name -> digest, of everything that has files of its own under a name.

    Where data lie, costs, and what only summaries of a study know (seeds, the list of test sets,
    contrasts) are part of none.
    """
    nodes = {ref: (content, sorted(set(refs))) for ref, content, refs in _nodes(cfg)}
    digests: dict[Ref, str] = {}

    def digest(ref: Ref) -> str:
        if ref not in digests:
            content, refs = nodes[ref]
            digests[ref] = shallow = _digest([content, refs])  # circles are refused by Snakemake
            digests[ref] = shallow + _digest([shallow, *map(digest, refs)])
        return digests[ref]

    result: Definitions = {}
    for kind, name in nodes:
        result.setdefault(kind, {})[name] = digest((kind, name))
    return result


def _digest(value: Any) -> str:
    return sha256_json(value)[:OWN_DIGITS]


def _block(block: Block, *left_out: str) -> Any:
    """A block without what is at its default: keys that come later change no definition."""
    return block.model_dump(mode="json", exclude_defaults=True, exclude=set(left_out))


def _nodes(c: Config) -> Iterator[Node]:
    yield from _data(c)
    yield from _similarity(c)
    yield from _splits(c)
    yield from _models(c)
    yield from _domains(c)
    for kind, name, block in c.figures.blocks():
        yield ("figures", f"{kind}_{name}"), _block(block), []
    yield ("robustness", "testbed"), _block(c.robustness), []


def _dataset(c: Config, name: str) -> Ref:
    return ("pools" if name in c.pools else "sets"), name


def _data(c: Config) -> Iterator[Node]:
    for name, package in c.packages.items():
        yield ("packages", name), _block(package), []
    for name, source in c.sources.items():
        content = [_block(source), _block(c.rendering)]
        yield ("sources", name), content, [("packages", p) for p in source_packages(source)]
    for name, block in {**c.pools, **c.sets}.items():
        content = [_block(block, "obtain"), *_selection(c, block)]
        yield _dataset(c, name), content, [("sources", take.source) for take in takes(block)]
    for name, block in c.sets.items():
        content = [c.evaluation.templates, c.words_of(block)]
        yield ("prompts", name), content, [("sets", name)]
        if c.causes.runs:
            answers = c.causes.model_dump(mode="json", include={"answers"})["answers"].get(name)
            yield ("answers", name), answers, [("sets", name)]


def _selection(c: Config, block: Any) -> list[Any]:
    """What decides which items a built data set takes, and their classes, in their order."""
    if not takes(block):
        return []
    met = c.class_paths(block)
    listed = [name for name in met if not getattr(block, "classes", None) or name in block.classes]
    return [c.holdout and _block(c.holdout), met, listed if isinstance(block, TestSet) else []]


def _checked(c: Config, content: Any) -> Any:
    """Content that is joined with other data; the default share of agreement is not written."""
    return content if c.agree == type(c).model_fields["agree"].default else [content, c.agree]


def _similarity(c: Config) -> Iterator[Node]:
    for name, encoder in c.encoders.items():
        run: list[Ref] = [("runs", encoder.trained.run)] if encoder.trained else []
        yield ("encoders", name), _block(encoder, "folders"), run
        folders = encoder.vectors
        embedded = [d for d in (*c.pools, *c.sets) if folders is None or d in folders]
        for d in embedded:
            refs = [("encoders", name), _dataset(c, d)]
            own = folders and _checked(c, folders[d])
            if c.rendering.shared and folders is None:
                own = c.rendering.shared
            yield ("embeddings", f"{name}/{d}"), own, refs
        both = [d for d in (c.pool, c.reference) if d in embedded]
        for d in both:
            refs = [("embeddings", f"{name}/{d}")]
            yield ("neighbours", f"{name}/{d}"), _block(c.neighbours), refs
        yield ("margins", f"{name}/{c.pool}"), None, [("embeddings", f"{name}/{d}") for d in both]
    if c.dedup.rule != "none":
        name = f"{c.pool}/{c.encoder}"
        content, pool = _block(c.dedup, "check", "sweep"), ("embeddings", f"{c.encoder}/{c.pool}")
        yield ("dedup", name), content, [pool]
        yield ("dedup_records", name), [c.dedup.check, c.dedup.sweep], [("dedup", name)]


def _splits(c: Config) -> Iterator[Node]:
    for name, split in c.splits.items():
        refs: list[Ref] = [("pools", c.pool)]
        if c.dedup.rule != "none":
            refs.append(("dedup", f"{c.pool}/{c.encoder}"))
        elif c.dedup.embed:
            refs.append(("embeddings", f"{c.encoder}/{c.pool}"))
        if split.reference:
            refs.append(("sets", c.reference))
        driving = [*split.driving_sets(), *split.reference_driving_sets()]
        refs += [("embeddings", f"{c.encoder}/{s}") for s in driving]
        refs += [("margins", f"{c.encoder}/{c.pool}")] * bool(driving)
        refs += [("splits", other) for other in (split.like, split.within) if other]
        if split.by_domain and c.domains:
            refs.append(("domains", c.domains.name))
        yield ("splits", name), _block(split, "seeds", "model"), refs
    for name, block in c.reshard.items():
        yield ("reshards", name), _block(block), [("splits", split) for split in block.splits]


def _models(c: Config) -> Iterator[Node]:
    for name, block in c.models.items():
        yield ("models", name), _block(block, "epoch_sets"), []
    initial_runs: list[RunOf | Trained] = [e.trained for e in c.encoders.values() if e.trained]
    for name, spec in c.causes.models.items():
        refs = [("models", spec.base), ("corpora", spec.corpus)]
        starts = [spec.initial] if spec.initial else []
        initial_runs += starts
        yield ("models", name), _block(spec), refs + [("runs", start.run) for start in starts]
    for name, corpus in c.causes.corpora.items():
        matcher = c.causes.matchers.get(corpus.labels or "")
        labelled = corpus.labels is not None
        classes = [*c.class_paths(c.pools[c.pool], c.sets[c.reference])] * labelled
        listed: list[Ref] = [("sets", c.reference)] * (labelled and not c.classes)
        yield ("corpora", name), [_block(corpus), matcher and _block(matcher), classes], listed
    for name, fields in c.causes.fields.items():
        origin = "sources" if name in c.sources else "pools"
        yield ("captions", name), _block(fields), [(origin, name)]
    for name, head in c.causes.heads.items():
        read: list[Ref] = [("corpora", head.corpus)] if isinstance(head, LinearHead) else []
        yield ("heads", name), _block(head), read
    yield ("reference_captions", c.reference), c.reference_caption, [("sets", c.reference)]
    yield from _runs(c, [(r.split, r.model, r.seed) for r in initial_runs])


def _runs(c: Config, further: Iterable[tuple[str, str, int]]) -> Iterator[Node]:
    """Trainings and their evaluations; `further`: what encoders and models begin with."""
    trainings = [(s, c.model_of(s), seed) for s in c.splits for seed in c.seeds_of(s)]
    trainings += [(r.split, r.model, seed) for r in c.causes.runs for seed in r.seeds]
    evaluation = [c.evaluation.batch, c.evaluation.precision]
    for split, model, seed in dict.fromkeys([*trainings, *further]):
        run, reference = f"{split}-{model}-s{seed}", bool(c.splits[split].reference)
        refs: list[Ref] = [("splits", split), ("models", model)]
        # The order of what a training reads.
        refs += [("reshards", group)] if (group := c.group_of(split)) else []
        controlled = model in c.causes.models
        if controlled:
            read = [c.pools[c.pool], *[c.sets[c.reference]] * reference]
            names = {c.pool, *(take.source for block in read for take in takes(block))}
            refs += [("captions", name) for name in names & c.causes.fields.keys()]
        elif reference:
            refs.append(("reference_captions", c.reference))
        seen = list(c.rendering.shared.values())
        yield ("runs", run), [c.guard, *seen] if seen else c.guard, refs
        yield ("evaluations", run), evaluation, [("runs", run)]
    for r in c.causes.runs:
        for run, head in ((f"{r.split}-{r.model}-s{s}", head) for s in r.seeds for head in r.heads):
            refs = [("runs", run), ("heads", head)]
            yield ("evaluations", f"{run}-{head}"), evaluation, refs


def _domains(c: Config) -> Iterator[Node]:
    if c.domains is None:
        return
    block, name = c.domains, c.domains.name
    yield (
        ("labels", name),
        _checked(c, _block(block.labels)),
        [_dataset(c, d) for d in block.labels.datasets],
    )
    for key, classifier in block.classifiers.items():
        refs = [("labels", name), ("encoders", classifier.encoder)]
        yield ("classifiers", f"{name}/{key}"), [_block(classifier), _block(block.parts)], refs
    used: list[Ref] = [("classifiers", f"{name}/{key}") for key in block.detectors.values()]
    pool_of = [block.pool_of] if block.pool_of else []
    used += [("splits", split) for split in pool_of]
    yield ("domains", name), [block.detectors, block.precision, *pool_of], used
    for key, file in block.benchmarks.items():
        yield ("benchmarks", f"{name}/{key}"), file, [("sets", key)]
    yield ("compositions", name), [block.draws, block.seed], [("domains", name)]
    for key, clean in block.clean.items():
        yield ("clean", f"{name}/{key}"), _block(clean), [("domains", name), ("sets", clean.set)]
