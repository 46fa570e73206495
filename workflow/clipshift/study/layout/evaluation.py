"""Where evaluations lie, and which test sets one job evaluates a run on; pure string work.

A *run* is `split-model-sN`. Evaluated by the model's own protocol it has its name, by another one
`split-model-sN-protocol`; a *condition* is the same without the seed, or the split alone.
"""

import shlex
from collections.abc import Iterable
from typing import Any, NamedTuple

from clipshift.study.config.causes import LinearHead, PromptHead, asked, evaluations
from clipshift.study.layout.causes import Causes
from clipshift.study.layout.study import Layout, as_json
from clipshift.study.wildcards import NAME, pattern


class Evaluated(NamedTuple):
    """A run, and the protocol that it is evaluated by (None: the model's own)."""

    split: str
    model: str
    seed: str
    protocol: str | None

    @property
    def run(self) -> str:
        return f"{self.split}-{self.model}-{self.seed}"


def parse(evaluation: str) -> Evaluated:
    """
    >>> parse("full-tiny-s0-linear").protocol, parse("full-tiny-s0").run
    ('linear', 'full-tiny-s0')
    """
    split, model, seed, *protocol = evaluation.split("-")
    return Evaluated(split, model, seed, protocol[0] if protocol else None)


class Evaluations:
    """Paths and command lines of the evaluations of a study."""

    def __init__(self, at: Layout):
        self.at, self.cfg, self.causes = at, at.cfg, Causes(at)

    # What is evaluated ----------------------------------------------------------------------------

    def conditions(self) -> dict[str, list[str]]:
        """Condition -> its evaluations, one a seed."""
        own = {split: self.at.runs(split) for split in self.cfg.trained}
        return own | {name: evaluations(name, seeds) for name, seeds in asked(self.cfg.causes)}

    def controlled(self) -> list[str]:
        """The evaluations of `causes.runs`, in their order."""
        return [e for name, seeds in asked(self.cfg.causes) for e in evaluations(name, seeds)]

    def every(self) -> list[str]:
        """Every evaluation of the study, each once."""
        return list(dict.fromkeys(e for names in self.conditions().values() for e in names))

    def pattern(self) -> str:
        """Wildcard pattern of evaluations, of any seed."""
        block = self.cfg.causes
        own = [n for n, m in block.models.items() if m.objective != "simclr"]
        plain = rf"{NAME}-(?:{pattern([*self.cfg.models, *own])})-s\d+"
        every = rf"{NAME}-(?:{pattern([*self.cfg.models, *block.models])})-s\d+"
        return rf"{plain}|{every}-(?:{pattern(block.heads)})"

    def exported(self) -> str:
        """Wildcard pattern of the evaluations that CLIP_benchmark and open_clip could have made."""
        return rf"{NAME}-(?:{pattern(self.cfg.models)})-s\d+"

    def sets(self, evaluation: str) -> list[str]:
        """Test sets that a run is evaluated on where one job makes all: those of its figures, too.

        Study B's own sets are for the runs that its figures show.
        """
        more = self.at.clean_sets(parse(evaluation).split)
        return list(dict.fromkeys([*self.cfg.test_sets, *more]))

    # Files ----------------------------------------------------------------------------------------

    def rows(self, testset: str, evaluation: str) -> str:
        """Labels and predictions of a run on a test set; the logits lie beside them."""
        return f"results/logits/{testset}/{evaluation}.parquet"

    def query_files(self, testset: str, names: Iterable[str]) -> list[str]:
        """What a query over the logits of some evaluations on a test set reads."""
        stems = (self.rows(testset, name).removesuffix(".parquet") for name in names)
        return [f"{stem}.{suffix}" for stem in stems for suffix in ("parquet", "npy", "json")]

    def set_rows(self, testset: str, names: Iterable[str]) -> list[str]:
        return [self.rows(testset, name) for name in names]

    def passes(self) -> list[tuple[list[str], list[str]]]:
        """What one job makes at once: (test sets, evaluations), none of which is made yet.

        Sets that were there before have files of their own already, and are left alone.
        """
        groups: dict[tuple[str, ...], list[str]] = {}
        for name in self.every():
            lacking = [s for s in self.sets(name) if not self.at.made(self.rows(s, name))]
            groups.setdefault(tuple(lacking), []).append(name)
        return [(list(sets), names) for sets, names in groups.items() if len(sets) > 1]

    def weights(self, evaluation: str) -> list[str]:
        folder = f"results/models/{parse(evaluation).run}"
        return [f"{folder}/record.json", f"{folder}/model.pt"]

    def set_files(self, testset: str, evaluation: str) -> list[str]:
        """What an evaluation reads of a set, beside its tars: prompts only where it is by text."""
        folder = f"results/sets/{testset}"
        names = ["classnames.txt", "samples.parquet"]
        if self.by_text(evaluation):
            names += ["zeroshot_classification_templates.txt", "words.json"]
        else:
            names += ["answers.json"]
        return [f"{folder}/{name}" for name in names]

    def by_text(self, evaluation: str) -> bool:
        """Whether an evaluation reads prompts."""
        one, block = parse(evaluation), self.cfg.causes
        if one.protocol is not None:
            return isinstance(block.heads[one.protocol], PromptHead)
        return one.model not in block.models or block.models[one.model].objective == "clip"

    # Command lines --------------------------------------------------------------------------------

    def probe(self, evaluation: str) -> list[str]:
        """Labelled training pictures that a linear probe reads."""
        one = parse(evaluation)
        head = self.cfg.causes.heads[one.protocol] if one.protocol else None
        if not isinstance(head, LinearHead):
            return []
        return [f"results/chosen/{one.split}-{head.corpus}.parquet"]

    def probe_words(self, evaluation: str) -> list[str]:
        """Words of the tars of those pictures."""
        return self.causes.tars(parse(evaluation).split) if self.probe(evaluation) else []

    def probe_arguments(self, evaluation: str) -> str:
        """The command line's words for what a linear probe learns from."""
        words = [f"--chosen {file}" for file in self.probe(evaluation)]
        words += [f"--tar {shlex.quote(word)}" for word in self.probe_words(evaluation)]
        words += [f"--classes {shlex.quote(self.causes.classes())}"] * bool(words)
        return " ".join(words)

    def protocol(self, evaluation: str) -> str:
        """The command line's words for how a run is evaluated, the same for every test set."""
        one, how = parse(evaluation), self.cfg.evaluation
        words = [f"--batch {how.batch} --precision {how.precision}"]
        if one.protocol:
            block = shlex.quote(as_json(self.cfg.causes.heads[one.protocol]))
            words.append(f"--head {one.protocol} --block {block}")
        return " ".join(words)

    def set_words(self, testsets: Iterable[str], evaluation: str) -> str:
        """The command line's words for test sets."""
        words = []
        for name in testsets:
            words.append(f"--set {name}=results/sets/{name},{self.at.tars(name)}")
            if not self.by_text(evaluation):
                words.append(f"--answers {name}=results/sets/{name}/answers.json")
        return " ".join(words)

    def training(self, names: Iterable[str]) -> dict[str, Any]:
        """What evaluations say of the training of their runs: its records, split and corpus."""
        runs = [parse(name) for name in names]
        model = runs[0].model
        chosen = []
        if model in self.cfg.causes.models:
            chosen = [self.causes.chosen(runs[0].split, model)]
        return {
            "records": list(dict.fromkeys(f"results/models/{r.run}/record.json" for r in runs)),
            "split": f"results/splits/{runs[0].split}.parquet",
            "chosen": chosen,
        }

    def guard_argument(self, names: list[str]) -> str:
        """The split's list of test images, which saves reading the split: no input, for one that
        is lost must not be made again, and all that is trained by it."""
        return f"--guard {self.at.guard(parse(names[0]).split)}"

    def summary_words(self, names: list[str]) -> str:
        """The command line's words for the test sets of a summary."""
        sets = self.cfg.test_sets
        words = [
            f"--set '{s}={self.at.table(s)},{','.join(self.set_rows(s, names))}'" for s in sets
        ]
        one = parse(names[0])
        if one.model in self.cfg.causes.models or one.protocol:
            words.append(f"--subsets {shlex.quote(self.causes.subsets())}")
        chosen = self.training(names)["chosen"]
        return " ".join(words + [f"--chosen {file}" for file in chosen])
