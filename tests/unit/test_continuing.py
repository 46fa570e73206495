"""A start that gets further costs no attempt: in a run of Snakemake, and by itself."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from clipshift.core.files import write_json
from clipshift.core.step import Job
from clipshift.study.continuing import PROGRESS, progress

# A job whose starts each do one part and fail, until `PARTS` are done or it is stuck at `STUCK`.
SNAKEFILE = """
from clipshift.core.step import Job
from clipshift.study.continuing import continue_jobs

continue_jobs()
continue_jobs()  # as where a study is a module of another

rule train:
    output: "model"
    retries: 1
    resources: mem_mb=lambda w, attempt: 100 * attempt
    params: job=lambda w: Job("training", {{}}, lambda: {{"work": "work"}})
    shell: "python part.py {parts} {stuck} {{resources.mem_mb}}"
"""
PART = """
import json, pathlib, sys
parts, stuck, memory = map(int, sys.argv[1:])
work = pathlib.Path("work")
work.mkdir(exist_ok=True)
with open("starts", "a") as starts:
    starts.write(f"{memory} ")
file = work / "progress.json"
done = json.loads(file.read_text())["parts"] if file.exists() else 0
if done < stuck:
    file.write_text(json.dumps({"parts": done + 1}))
if done + 1 < parts or done >= stuck:
    sys.exit(1)
pathlib.Path("model").touch()
"""


def run(folder: Path, parts: int, stuck: int) -> tuple[int, list[str], str]:
    """Exit code, memory of each start, and what was said."""
    (folder / "Snakefile").write_text(SNAKEFILE.format(parts=parts, stuck=stuck))
    (folder / "part.py").write_text(PART)
    words = [sys.executable, "-m", "snakemake", "--cores", "1", "--directory", str(folder)]
    done = subprocess.run(
        [*words, "--snakefile", str(folder / "Snakefile")],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    return done.returncode, (folder / "starts").read_text().split(), done.stderr


def test_a_job_is_started_as_long_as_it_gets_on(tmp_path: Path) -> None:
    code, starts, said = run(tmp_path, parts=11, stuck=99)
    assert (code, starts) == (0, ["100"] * 11), said  # nor does its memory grow
    assert said.count("this start costs no attempt") == 10


def test_retries_are_for_starts_that_do_not(tmp_path: Path) -> None:
    code, starts, said = run(tmp_path, parts=11, stuck=3)
    # Three starts with a part each; then the first attempt without one, and its one retry.
    assert (code, starts) == (1, ["100"] * 4 + ["200"]), said


@pytest.mark.parametrize("content", [None, "{", "[]", '{"parts": "many"}'])
def test_what_is_no_progress(tmp_path: Path, content: str | None) -> None:
    params = {"work": str(tmp_path)}
    job = SimpleNamespace(params=SimpleNamespace(job=Job("s", {}, lambda: params)))
    if content is not None:
        (tmp_path / PROGRESS).write_text(content)
    assert progress(job) == {}
    write_json(tmp_path / PROGRESS, {"parts": 2})
    assert progress(job) == {tmp_path: 2}
    assert progress(SimpleNamespace()) == progress(SimpleNamespace(params=None)) == {}
