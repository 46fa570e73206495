"""The one reader of weights: a file's tensors by name, or an error that says what the file is.

Nothing but tensors and plain values is ever unpickled: other objects are code of whoever wrote the
file.
"""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipshift.core.errors import ClipshiftError
from clipshift.core.sniff import explain, special

if TYPE_CHECKING:
    import torch

# What wrappers of a model put before its names: DistributedDataParallel and torch.compile.
PREFIXES = ("module.", "_orig_mod.")
# Where training programs put the weights among other things.
_STATES = ("state_dict", "model_state_dict")
# Kinds of objects that they save beside the weights, as settings and counters. None is ever made:
# an empty object takes its place.
_BESIDE = (
    "argparse.Namespace",
    "numpy.dtype",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
)
_REMEDY = "save the model's weights alone, `torch.save(model.state_dict(), FILE)`"


def read_weights(path: Path) -> dict[str, "torch.Tensor"]:
    """Tensors by name, without the prefixes of wrappers; of a training checkpoint, its model's.

    Raises:
        ClipshiftError: the file is not there, damaged, or holds anything else.
    """
    saved = read_saved(path)
    state = saved
    if isinstance(saved, dict):
        state = next((saved[key] for key in _STATES if key in saved), saved)
    if not isinstance(state, Mapping) or not state:
        raise _other(path, f"holds {_kind(state)}, no weights by name")
    return {_plain_name(path, name, value): value for name, value in state.items()}


def read_saved(path: Path, mmap: bool = False) -> Any:
    """What `torch.save` wrote, as far as it is plain, or the tensors of a safetensors file.

    Args:
        mmap: tensors are read when they are used, and their checksums are not compared.

    Raises:
        ClipshiftError: the file is not there, damaged, or holds objects of other kinds.
    """
    import torch

    if not path.is_file():
        raise ClipshiftError(f"{path}: no such file of weights; give the path of one")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        try:
            return load_file(path, device="cpu")
        except Exception as error:  # of a kind of its own, not exported in all versions
            raise _damaged(path, error) from None
    try:
        if not mmap and zipfile.is_zipfile(path) and not is_whole(path):
            raise RuntimeError("a checksum differs")
        with torch.serialization.safe_globals([(_Beside, name) for name in _BESIDE]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        if _is_pickle(path):
            raise _other(path, "holds Python objects, which are code, and never loaded") from None
        raise _damaged(path, error) from None
    except Exception as error:  # torch raises nearly every kind of exception on damaged files
        if "TorchScript" in str(error):  # as OpenAI's own files of CLIP
            raise _other(path, "is a TorchScript program: code, and never loaded") from None
        raise _damaged(path, error) from None


def is_whole(path: Path) -> bool:
    """Whether every byte of a file written by `torch.save` is as it was written (by its CRCs)."""
    if special(path):  # a pipe would be waited for
        return False
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except Exception:  # damage in a header shows as nearly every kind of exception
        return False


def fit(module: "torch.nn.Module", state: Mapping[str, "torch.Tensor"], path: Path) -> None:
    """Load weights into a module that has exactly these.

    Raises:
        ClipshiftError: names or shapes differ; it names the first of each.
    """
    try:
        module.load_state_dict(dict(state))
    except RuntimeError:  # its text names every weight
        mine = module.state_dict()
        wrong = {
            "missing": [name for name in mine if name not in state],
            "unknown": [name for name in state if name not in mine],
            "of another shape": [
                f"{name} {list(state[name].shape)} for {list(mine[name].shape)}"
                for name in mine
                if name in state and mine[name].shape != state[name].shape
            ],
        }
        said = [f"{len(names)} {how}, e.g. {names[0]}" for how, names in wrong.items() if names]
        raise ClipshiftError(
            f"{path} does not fit this model: {'; '.join(said)}. Use weights of the same "
            "architecture"
        ) from None


class _Beside:
    """In place of an object that is not read: whatever the file says of it is dropped."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def _plain_name(path: Path, name: object, value: object) -> str:
    import torch

    if not isinstance(name, str) or not isinstance(value, torch.Tensor):
        raise _other(path, f"holds {_kind(value)} under {name!r:.80}, where weights have tensors")
    while prefix := next((p for p in PREFIXES if name.startswith(p)), None):
        name = name.removeprefix(prefix)
    return name


def _kind(value: object) -> str:
    if isinstance(value, Mapping):
        return "nothing" if not value else f"a dict with the keys {sorted(map(str, value))[:5]}"
    if isinstance(value, _Beside):
        return "a Python object, which is never loaded,"
    return f"one value of the type {type(value).__name__}"


def _other(path: Path, what: str) -> ClipshiftError:
    return ClipshiftError(f"{path} {what}; {_REMEDY}")


def _damaged(path: Path, error: BaseException) -> ClipshiftError:
    if (why := explain(path)) and why not in _ARCHIVE:
        return ClipshiftError(f"{path} is no readable file of weights; it {why}")
    said = (str(error).splitlines() or [type(error).__name__])[0].split(". ")[0]
    return ClipshiftError(
        f"{path} is no readable file of weights: it is damaged, cut off or of another kind "
        f"({said:.120}); get it again"
    )


# What `explain` says of the files that torch writes.
_ARCHIVE = ("is a zip archive: `unzip` it",)


def _is_pickle(path: Path) -> bool:
    """Whether a file is one of torch's archives, or begins as a pickle."""
    with path.open("rb") as stream:
        head = stream.read(2)
    return head[:1] == b"\x80" or head == b"PK"
