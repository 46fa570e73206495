"""Whole plans of configurations whose texts are hostile: what each job's shell line really runs."""

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json
from clipshift.study.config.load import merged, parse
from tests.folder_case import write_pool, write_set
from tests.unit.test_hostile_strings import run, texts
from tests.workflow.runner import ROOT, WHOLE, snakemake
from tests.workflow.test_folders import STUDY

# Each with a mark, so that it is known again in a path or a sentence.
FORMS = ["; touch PWNED {}", "$(touch PWNED) {}", "`touch PWNED` {}", "a b {}", "it's {}", '"{}',
         "-{}", "%s {}", "é日 😀 {}", "\u202e{}", "\\{}", "&{}", "#{}", "*{}"]  # fmt: skip
LINE = re.compile(r"^Shell command: (python .*?^END_OF_JOB)$", re.MULTILINE | re.DOTALL)
LAION = ROOT / "config/laion400m.yaml"


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the texts of a configuration are."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        if isinstance(inner, str):
            yield (*path, key)
        elif isinstance(inner, dict | list):
            yield from leaves(inner, (*path, key))


def valid(config: dict[str, Any]) -> bool:
    try:
        parse(config)
    except ClipshiftError:
        return False
    return True


def hostile(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """A configuration with hostile texts wherever it takes them, and these by their marks."""
    config, marks = copy.deepcopy(config), {}
    for number, (*parents, last) in enumerate(leaves(config)):
        block = config
        for key in parents:
            block = block[key]
        before, mark = block[last], f"h{number}h"
        text = FORMS[number % len(FORMS)].replace("{}", mark)
        block[last] = text
        if valid(config):
            marks[mark] = text
        else:
            block[last] = before
    return config, marks


@pytest.mark.parametrize(
    ("files", "change", "least"),
    [(WHOLE, {}, 40), ((LAION,), {"tars": 4, "shards": 2}, 20)],
    ids=["made", "folders"],
)
def test_every_job_gets_the_texts_of_its_configuration(
    files: tuple[Path, ...], change: dict[str, int], least: int, tmp_path: Path
) -> None:
    config, marks = hostile(merged(*files))
    if change:
        config["pools"]["laion400m"] |= change
    file = tmp_path / "hostile.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    (tmp_path / "run").mkdir()
    for text in marks.values():  # some are files of the user's, which must be there
        (tmp_path / "run" / text).touch()
    plan = snakemake(tmp_path / "run", "--dry-run", "-p", "--forceall", config=file).stdout
    lines, seen = LINE.findall(plan), set()
    assert len(lines) > 20
    assert len(re.findall("^Shell command: (?!None$)", plan, flags=re.M)) == len(lines)
    for number, line in enumerate(lines):
        folder = tmp_path / f"job{number}"
        folder.mkdir()
        words, job = run(re.sub(r" > \S+ 2>&1", " > job.log 2>&1", line, count=1), folder)
        assert words[:2] == ["-m", "clipshift.core.step"] and len(words) == 3
        for text in texts(job):
            for mark in re.findall(r"h\d+h", text):
                assert marks[mark] in text, (line, mark)
                seen.add(mark)
    assert len(seen) >= least, f"{len(seen)} of {len(marks)} texts reach a job"
    assert not list(tmp_path.rglob("PWNED"))


def test_folders_of_any_name_are_trained_on_and_evaluated(tmp_path: Path) -> None:
    """With the data, a pool, two sets and a split in folders whose names a shell would run."""
    data, pool = "it's; touch PWNED", 'a "b" $(touch PWNED) é'
    train, split, val = "日本 `touch PWNED`", "tr ain;touch PWNED", "-n & touch PWNED"
    write_pool(tmp_path / data / pool, {0: 4, 1: 3, 3: 2, 4: 5})
    write_set(tmp_path / data / train, [0, 1] * 3, split=split, seed=50)
    write_set(tmp_path / data / val, [0, 1, 1, 0], seed=70)
    study = copy.deepcopy(STUDY) | {"data": data}
    study["pools"]["fold_pool"]["folder"] = pool
    study["sets"]["fold_train"] |= {"folder": train, "split": split}
    study["sets"]["fold_val"]["folder"] = val
    study["models"]["fold_nano"]["read"] = "filter"
    study["evaluation"]["templates"] = ["a {c}; $(touch PWNED)"]
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(study, allow_unicode=True))
    snakemake(tmp_path, "results/eval/fold_far.json", config=file)
    result = read_json(tmp_path / "results/eval/fold_far.json")["sets"]["fold_val"]
    assert (result["n"], result["templates"]) == (4, study["evaluation"]["templates"])
    record = read_json(tmp_path / "results/models/fold_far-fold_nano-s0/record.json")
    assert (record["split_samples"], record["samples_seen"]) == (12, 32)
    assert not [*tmp_path.rglob("PWNED"), *ROOT.glob("PWNED")]
