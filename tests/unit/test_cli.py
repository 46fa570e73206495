"""The command line: its help, its completion, options of several values, what it imports."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from clipshift import __version__
from clipshift.apps.audit.options import THRESHOLDS
from clipshift.apps.audit.options import Options as Audit
from clipshift.apps.cli import app
from clipshift.apps.labelling.options import Options as Label

COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
VERBS = sorted(COMMANDS)


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """No colours, which typer has on GitHub's runners."""
    monkeypatch.setattr("typer.rich_utils.FORCE_TERMINAL", False)


def given(monkeypatch: pytest.MonkeyPatch, where: str, *words: str) -> Any:
    """Arguments of the function `where` that a command line calls; `where` is replaced."""
    calls: list[Any] = []
    monkeypatch.setattr(f"clipshift.{where}", lambda *args: calls.append(args))
    done = CliRunner().invoke(app, words, prog_name="clipshift")
    assert done.exit_code == 0, done.output
    (call,) = calls
    return call


def refused(*words: str) -> str:
    """The message of a wrong command line, in one line without its frame."""
    done = CliRunner().invoke(app, words, prog_name="clipshift")
    assert done.exit_code == 2, done.output
    return " ".join(done.output.replace("│", " ").split())


def test_verbs() -> None:
    names = (
        "audit check cluster-check config-docs diff draw init inspect label lineage margins plan "
        "released resume robustness run status steps unlock verify"
    )
    assert names.split() == VERBS


@pytest.mark.parametrize("name", VERBS)
def test_help_describes_every_option_and_ends_with_examples(name: str) -> None:
    assert all(getattr(p, "help", "") for p in COMMANDS[name].params)
    assert f"clipshift {name}" in COMMANDS[name].epilog
    for flag in ("-h", "--help"):
        done = CliRunner().invoke(app, [name, flag], prog_name="clipshift")
        assert done.exit_code == 0 and "Example" in done.output


@pytest.mark.parametrize("words", [["--help"], ["audit", "--help"], ["label"]])
def test_options_import_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys; from clipshift.apps.cli import main\n"
        f"sys.argv = ['clipshift', *{words}]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'matplotlib', 'pyarrow', 'duckdb', 'scipy', 'pandas'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


def test_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"clipshift {__version__}\n"


def test_several_values_of_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = "study.planning.preview.preview"
    both = [Path("a"), Path("b")]
    call = given(monkeypatch, plan, "plan", "--configfile", "a", "b", "--gpus", "2", "--", "t", "u")
    assert call == (["t", "u"], both, None, Path(), 2)
    call = given(monkeypatch, plan, "plan", "t", "--configfile", "a", "--configfile=b")
    assert call == (["t"], both, None, Path(), None)
    call = given(monkeypatch, plan, "plan", "--data", "here", "t")
    assert call[0] == ["t"] and call[2] == "here"
    assert [path.name for path in call[1]] == ["mini.yaml"] and call[1][0].is_file()


def test_options_of_the_audit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    base = ["audit", "--train", str(tmp_path), "--test", str(tmp_path), "--out", "o"]
    options: Audit = given(monkeypatch, "apps.audit.run.audit", *base)[0]
    assert (tuple(options.thresholds), options.main) == (THRESHOLDS, 0.95)
    more = ["--thresholds", "0.9", "-0.5", ".3", "--main-threshold", "-0.5"]
    options = given(monkeypatch, "apps.audit.run.audit", *base, *more)[0]
    assert (options.thresholds, options.main) == ([-0.5, 0.3, 0.9], -0.5)
    assert set(options.sides) == {"train", "test"} and options.embedder is None


def test_options_of_labels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = "apps.labelling.run.label"
    options: Label = given(monkeypatch, run, "label", "--agreement", "a", "b", "--out", "o")[0]
    assert options.agreement == [Path("a"), Path("b")] and options.out == Path("o")
    words = ["label", "--images", str(tmp_path), "--out", "o.parquet"]
    names = ["--annotator", "ann", "--annotator", "ben"]
    assert given(monkeypatch, run, *words, *names)[0].annotators == ("ann", "ben")
    for wrong in (["--out", "o"], ["--images", "a", "--consensus", "b"]):
        assert "give one of --images, --study, --agreement and --consensus" in refused(
            "label", *wrong
        )


def test_a_grid_may_be_empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    record = {"rows": 0, "above_threshold": {}}
    calls: list[Any] = []
    monkeypatch.setattr(
        "clipshift.apps.margins.run.margins", lambda *args: calls.append(args) or record
    )
    words = ["margins", "--pool", "p", "--test", f"v={tmp_path}", "--reference", "r", "--out", "o"]
    for grid in (["--grid"], [], ["--grid", "0.5", "0.9"]):
        assert CliRunner().invoke(app, [*words, *grid]).exit_code == 0
    assert [call[7] or [] for call in calls] == [[], [], [0.5, 0.9]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["audti"], "Did you mean 'audit'?"),
        (["audit", "--threshold", "1"], "--main-threshold, --thresholds"),
        (["audit", "--out", "--device", "cpu"], "'--out' requires an argument"),
        (["plan", "--configfile", "--", "t"], "'--configfile' requires an argument"),
        (["plan", "--gpus", "many"], "--gpus"),
        (["audit"], "Missing option '--out'"),
        (["robustness", "--results", "a", "--out", "o", "--baseline", "x"], "standard, low"),
        (["robustness", "--results", "a", "--out", "o", "--space", "x"], "'probit'"),
        (["verify", "a", "--seed", "1", "b"], "unexpected extra argument"),
        ([], "Usage: clipshift"),
    ],
)
def test_wrong_command_lines(words: list[str], message: str) -> None:
    assert message in refused(*words)


def test_completion_of_options_and_values() -> None:
    def complete(words: str) -> str:
        env = {
            "_CLIPSHIFT_COMPLETE": "complete_bash", "COMP_WORDS": f"clipshift {words}",
            "COMP_CWORD": str(len(words.split(" "))),
        }  # fmt: skip
        return CliRunner().invoke(app, [], prog_name="clipshift", env=env).output

    assert complete("au").split() == ["audit"]
    assert {"--train", "--train-images"} <= set(complete("audit --tr").split())
    assert complete("robustness --baseline ").split() == ["standard", "low"]


def test_an_early_end_of_a_file_is_not_taken_for_an_interrupt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ends(*_: Any) -> None:
        raise EOFError("no data left")

    monkeypatch.setattr("clipshift.study.planning.preview.preview", ends)
    done = CliRunner().invoke(app, ["plan"])
    assert isinstance(done.exception, RuntimeError)
    assert isinstance(done.exception.__cause__, EOFError)
