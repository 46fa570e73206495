"""The package makes no objects and no programs from data: what could, is not called at all."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "workflow/clipshift"
# Modules that unpickle or run what they read.
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
# Words of calls that are never true.
WORDS = ("allow_pickle", "shell", "trust_remote_code")
BARE = {"eval", "exec", "compile", "__import__"}
CALLS = {"read_pickle", "load_extension", "unsafe_load", "full_load", "load_module",
         "exec_module"}  # fmt: skip
# What writes tars, or unpacks pinned packages; all other reading is `clipshift.datasets.headers`.
TARFILE = {"datasets/shards.py", "datasets/sources/build.py", "training/tar_filter.py"}


def faults(source: str, where: str = "x.py") -> Iterator[str]:
    """What a source calls that could run data."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in MODULES:
            taken = [a.name for a in node.names if not a.name.endswith("Error")]
            yield from (f"takes {name} from {node.module}" for name in taken)
        elif isinstance(node, ast.Import):
            renamed = [a.name for a in node.names if a.asname and a.name in MODULES]
            yield from (f"renames {name}" for name in renamed)
        elif isinstance(node, ast.Call) and (what := fault(node, where)):
            yield what


def fault(node: ast.Call, where: str) -> str | None:
    """What is wrong with a call, as it is written; None: nothing."""
    called = node.func
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    owner = ast.unparse(called.value) if isinstance(called, ast.Attribute) else ""
    given = {word.arg: ast.unparse(word.value) for word in node.keywords}
    loader = given.get("Loader", "")
    wrong = {
        "unpickles": owner.partition(".")[0] in MODULES or name in CALLS,
        "runs text": name in BARE and owner in ("", "builtins"),
        "starts a shell": owner == "os" and name in ("system", "popen"),
        "torch.load without weights_only=True": (owner, name) == ("torch", "load")
        and given.get("weights_only") != "True",
        "yaml.load without a safe loader": owner == "yaml" and name in ("load", "load_all")
        and "Safe" not in loader and not loader.startswith("_"),
        "webdataset's decode": name == "decode" and owner.endswith(("wds", "WebDataset")),
        "reads a tar past the gate": (owner, name) == ("tarfile", "open") and where not in TARFILE,
    }  # fmt: skip
    wrong |= {f"{word}={given.get(word)}": given.get(word, "False") != "False" for word in WORDS}
    return next((f"{what}: {owner}.{name}" for what, holds in wrong.items() if holds), None)


@pytest.mark.parametrize(
    "source",
    [
        "pickle.loads(b)", "import pickle as p", "from joblib import load",
        "np.load(f, allow_pickle=True)",
        "torch.load(f)", "torch.load(f, weights_only=False)", "pd.read_pickle(f)", "eval(text)",
        "yaml.load(text)", "subprocess.run(text, shell=True)", "tarfile.open(f)", "os.system(x)",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
    ],
)  # fmt: skip
def test_the_scan_finds(source: str) -> None:
    assert list(faults(source))


def test_nothing_in_the_package_runs_data() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 100
    found = {}
    for file in files:
        where = file.relative_to(PACKAGE).as_posix()
        if listed := list(faults(file.read_text(), where)):
            found[where] = listed
    assert found == {}
