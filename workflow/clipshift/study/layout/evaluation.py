"""Where evaluations lie, and which test sets one job evaluates a run on; pure string work.

A *run* is `split-model-sN`. Evaluated by the model's own protocol it has its name, by another one
`split-model-sN-protocol`, after one of its epochs `split-model-sN-epochE`; a *condition* is the
same without the seed, or the split alone.
"""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from clipshift.study.config.causes import EPOCH, LinearHead, PromptHead, Subset, asked, evaluations
from clipshift.study.layout.causes import Causes
from clipshift.study.layout.study import Layout
from clipshift.study.wildcards import pattern


class Evaluated(NamedTuple):
    """A run, and the protocol that it is evaluated by (None: the model's own).

    epoch: after which it is evaluated, from 1; 0: at its end.
    """

    split: str
    model: str
    seed: str
    protocol: str | None
    epoch: int = 0

    @property
    def run(self) -> str:
        return f"{self.split}-{self.model}-{self.seed}"


def parse(evaluation: str) -> Evaluated:
    """
    >>> parse("full-tiny-s0-linear").protocol, parse("full-tiny-s0").run
    ('linear', 'full-tiny-s0')
    >>> parse("full-tiny-s0-epoch3").epoch
    3
    """
    split, model, seed, *protocol = evaluation.split("-")
    if protocol and (epoch := re.fullmatch(EPOCH, protocol[0])):
        return Evaluated(split, model, seed, None, int(epoch[1]))
    return Evaluated(split, model, seed, protocol[0] if protocol else None)


class Evaluations:
    """Paths of the evaluations of a study, and what their rules read."""

    def __init__(self, at: Layout):
        self.at, self.cfg, self.causes = at, at.cfg, Causes(at)

    # What is evaluated ----------------------------------------------------------------------------

    def conditions(self) -> dict[str, list[str]]:
        """Condition -> its evaluations, one a seed."""
        by_split = {split: self.at.runs(split) for split in self.cfg.trained}
        return by_split | {name: evaluations(name, seeds) for name, seeds in asked(self.cfg.causes)}

    def controlled(self) -> list[str]:
        """The evaluations of `causes.runs`, in their order."""
        return [e for name, seeds in asked(self.cfg.causes) for e in evaluations(name, seeds)]

    def every(self) -> list[str]:
        """Every evaluation of the study, each once."""
        return list(dict.fromkeys(e for names in self.conditions().values() for e in names))

    def by_epoch(self) -> list[str]:
        """The evaluations after every epoch, of the runs whose models ask for them."""
        runs = dict.fromkeys(parse(name).run for name in self.every())
        return [f"{run}-epoch{e}" for run in runs for e in self.epochs(run)[0]]

    def epochs(self, evaluation: str) -> tuple[range, list[str]]:
        """Epochs after which a run is evaluated, and the sets."""
        return self.causes.training(parse(evaluation).model).by_epoch

    def pattern(self) -> str:
        """Wildcard pattern of evaluations, of any seed."""
        block, split = self.cfg.causes, f"(?:{pattern(self.cfg.splits)})"
        controlled = [n for n, m in block.models.items() if m.protocol]
        plain = rf"{split}-(?:{pattern([*self.cfg.models, *controlled])})-s\d+"
        with_head = rf"{split}-(?:{pattern([*self.cfg.models, *block.models])})-s\d+"
        after = [
            rf"{split}-{name}-s\d+-epoch(?:{'|'.join(map(str, epochs))})"
            for name in [*self.cfg.models, *controlled]
            if (epochs := self.causes.training(name).by_epoch[0])
        ]
        return "|".join([plain, rf"{with_head}-(?:{pattern(block.heads)})", *after])

    def exported(self) -> str:
        """Wildcard pattern of the evaluations that CLIP_benchmark and open_clip could have made."""
        return rf"(?:{pattern(self.cfg.splits)})-(?:{pattern(self.cfg.models)})-s\d+"

    def sets(self, evaluation: str) -> list[str]:
        """Test sets that a run is evaluated on where one job makes all: those of its figures, too.

        Study B's own sets are for the runs that its figures show; after an epoch, those asked.
        """
        if parse(evaluation).epoch:
            return self.epochs(evaluation)[1]
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

    def predictions(
        self, splits: Iterable[str], sets: Iterable[str]
    ) -> dict[str, dict[str, list[str]]]:
        """Per split and test set the predictions of the split's runs."""
        sets = list(sets)
        return {split: {s: self.set_rows(s, self.at.runs(split)) for s in sets} for split in splits}

    def contrasts(self) -> dict[str, dict[str, list[str]]]:
        """The same for what the contrasts compare."""
        files: dict[str, dict[str, list[str]]] = {}
        for a, b, name in self.cfg.figures.contrasts:
            for split, rows in self.predictions((a, b), [name]).items():
                files.setdefault(split, {}).update(rows)
        return files

    def passes(self) -> list[tuple[list[str], list[str]]]:
        """What one job makes at once: (test sets, evaluations), none of which is made yet.

        Sets that were there before have files of their own already, and are left alone.
        """
        groups: dict[tuple[str, ...], list[str]] = {}
        for name in [*self.every(), *self.by_epoch()]:
            lacking = [s for s in self.sets(name) if not self.at.made(self.rows(s, name))]
            groups.setdefault(tuple(lacking), []).append(name)
        return [(list(sets), names) for sets, names in groups.items() if len(sets) > 1]

    def weights(self, evaluation: str) -> list[str]:
        one = parse(evaluation)
        folder = f"results/models/{one.run}"
        return [f"{folder}/record.json", f"{folder}/{'epochs' if one.epoch else 'model.pt'}"]

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
        return one.model not in block.models or block.models[one.model].protocol == "prompts"

    # What rules read ------------------------------------------------------------------------------

    def probe(self, evaluation: str) -> dict[str, Any] | None:
        """What a linear probe learns from: labelled training images."""
        one = parse(evaluation)
        head = self.cfg.causes.heads[one.protocol] if one.protocol else None
        if not isinstance(head, LinearHead):
            return None
        return {
            "chosen": f"results/chosen/{one.split}-{head.corpus}.parquet",
            "tars": self.causes.tars(one.split),
            "classes": self.causes.classes(),
        }

    def probe_inputs(self, evaluation: str) -> list[str]:
        """The same as files and words of tars."""
        probe = self.probe(evaluation)
        return [probe["chosen"], *probe["tars"], *self.causes.class_files()] if probe else []

    def how(self, evaluation: str) -> dict[str, Any]:
        """How a run is evaluated, the same for every test set."""
        name, block = parse(evaluation).protocol, self.cfg.evaluation
        protocol: dict[str, Any] = dict(self.cfg.rendering.shared)
        if epoch := parse(evaluation).epoch:
            protocol["epoch"] = epoch
        if name:
            protocol |= {"protocol": name, "head": self.cfg.causes.heads[name]}
        if block.undecodable != type(block)().undecodable:
            protocol["undecodable"] = block.undecodable
        return {"batch": block.batch, "precision": block.precision, **protocol}

    def tests(self, testsets: Iterable[str], evaluation: str) -> dict[str, dict[str, Any]]:
        """Per test set what an evaluation reads and writes."""
        text = self.by_text(evaluation)
        return {
            name: {
                "folder": f"results/sets/{name}",
                "tars": self.at.tars(name),
                "answers": None if text else f"results/sets/{name}/answers.json",
                "rows": self.rows(name, evaluation),
            }
            for name in testsets
        }

    def reported(self, name: str) -> list[str]:
        """The evaluations that one report is of: the seeds of a condition, or one alone."""
        return self.conditions().get(name, [name])

    def report_inputs(self, name: str) -> dict[str, str | list[str]]:
        """What a report reads of its test sets, and of the training of its runs."""
        names, sets = self.reported(name), self.reported_sets(name)
        runs = [parse(n) for n in names]
        split, model = runs[0].split, runs[0].model
        controlled = model in self.cfg.causes.models
        return {
            "rows": [file for s in sets for file in self.query_files(s, names)],
            "tables": [self.at.table(s) for s in sets],
            "records": list(dict.fromkeys(f"results/models/{r.run}/record.json" for r in runs)),
            "split": f"results/splits/{split}.parquet",
            "chosen": [self.causes.chosen(split, model)] if controlled else [],
            "counts": [f"results/splits/{name}.json"] * (name in self.cfg.splits),
        }

    def report_sets(self, name: str) -> dict[str, dict[str, Any]]:
        """Per test set its sample table, and the rows of the evaluations of a report."""
        return {
            s: {"table": self.at.table(s), "rows": self.set_rows(s, self.reported(name))}
            for s in self.reported_sets(name)
        }

    def reported_sets(self, name: str) -> list[str]:
        """The sets of a report: the test sets, or those asked after an epoch."""
        one = self.reported(name)[0]
        return self.epochs(one)[1] if parse(one).epoch else self.cfg.test_sets

    def report_subsets(self, name: str) -> dict[str, Subset]:
        """Test sets of fewer classes that a report measures, too: of controlled trainings."""
        one = parse(self.reported(name)[0])
        controlled = one.model in self.cfg.causes.models or one.protocol
        return self.cfg.causes.subsets if controlled and not one.epoch else {}

    def report_guard(self, name: str) -> str:
        """The split's list of test images, which saves reading the split: no input, for one that
        is lost must not be made again, and all that is trained by it."""
        return self.at.guard(parse(self.reported(name)[0]).split)
