"""The package makes no objects and no programs from data: what could, is not called at all."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "workflow/clipshift"
# Modules that unpickle or run what they read.
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve",
           "runpy", "code", "imp"}  # fmt: skip
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
        if isinstance(node, ast.Import):
            renamed = [a.name for a in node.names if a.asname and a.name in MODULES]
            yield from (f"renames {name}" for name in renamed)
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        owner = ast.unparse(called.value) if isinstance(called, ast.Attribute) else ""
        given = {word.arg: ast.unparse(word.value) for word in node.keywords}
        if name in CALLS or (name in BARE and owner in ("", "builtins")):
            yield f"calls {owner}.{name}"
        if given.get("allow_pickle", "False") != "False":
            yield "allows pickle"
        if given.get("shell", "False") != "False" or (
            owner == "os" and name in ("system", "popen")
        ):
            yield "starts a shell"
        if owner == "torch" and name == "load" and given.get("weights_only") != "True":
            yield "torch.load without weights_only=True"
        if name in ("load", "load_all") and owner == "yaml" and not safe(given.get("Loader")):
            yield "yaml.load without a safe loader"
        if given.get("trust_remote_code", "False") != "False":
            yield "trusts remote code"
        if name == "decode" and owner.endswith(("wds", "WebDataset")):
            yield "webdataset's decode"
        if owner == "tarfile" and name == "open" and where not in TARFILE:
            yield "reads a tar past the gate"


def safe(loader: str | None) -> bool:
    return loader is not None and ("Safe" in loader or loader.startswith("_"))


@pytest.mark.parametrize(
    "source",
    [
        "pickle.loads(b)", "import pickle as p", "from joblib import load", "np.load(f, allow_pickle=True)",
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
