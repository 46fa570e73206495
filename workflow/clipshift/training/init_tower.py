"""Models that begin with a tower of another run, or with the text tower of a file of the user's."""

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch

from clipshift.core.errors import ClipshiftError
from clipshift.core.file_identity import file_identity
from clipshift.core.files import read_json, sha256_file, write_json
from clipshift.core.step import step
from clipshift.core.weights import fit, read_weights
from clipshift.datasets.tar_paths import data_folder
from clipshift.similarity.open_clip_models import register
from clipshift.study.config.objective_base import Controlled

# Environment variable by which a training names the weights of its first text tower to the trainer.
TEXT_WEIGHTS = "CLIPSHIFT_TEXT_WEIGHTS"

VISUAL, TEXT = "visual.", "text."
# Not of the text tower: the vision tower, what both share, and three numbers that OpenAI's files
# hold beside the weights.
_SHARED = ("logit_scale", "logit_bias")
_NUMBERS = ("input_resolution", "context_length", "vocab_size")


class TextStart(NamedTuple):
    """Weights whose text tower a training begins with; `given`: a file of the user's."""

    weights: Path
    sha256: str
    given: bool


def start_vision(model: Any, weights: Path) -> None:
    """Load the vision tower of another run into a model with one (`model.visual`).

    Raises:
        ClipshiftError: it has another shape, or the run has no vision tower.
    """
    state = read_weights(weights)
    tower = {k.removeprefix(VISUAL): v for k, v in state.items() if k.startswith(VISUAL)}
    _check(tower, "vision", weights)
    fit(model.visual, tower, weights)


def start_text(model: torch.nn.Module, weights: Path) -> None:
    """Load the text tower of another CLIP model into one.

    open_clip puts `text.` before the names of towers that are modules of their own (CustomTextCLIP:
    those of Hugging Face, or `custom_text`); a tower of either kind may come from the other.

    Raises:
        ClipshiftError: it has another shape, or the file has no text tower.
    """
    own = TEXT if hasattr(model, "text") else ""
    tower = {own + k.removeprefix(TEXT): v for k, v in read_weights(weights).items() if _is_text(k)}
    _check(tower, "text", weights)
    kept = {k: v for k, v in model.state_dict().items() if not _is_text(k)}
    fit(model, kept | tower, weights)


def _is_text(name: str) -> bool:
    return not name.startswith((VISUAL, *_SHARED)) and name not in _NUMBERS


def text_start(spec: Controlled | None, start: Path | None) -> TextStart | None:
    """What the text tower of a training begins with, if it is not random.

    Args:
        start: weights of a run; or the record of the user's file that `spec` names.

    Raises:
        ClipshiftError: the file is not there, or no longer the recorded one.
    """
    if start is None:
        return None
    if spec is None or spec.given is None:
        return TextStart(start, sha256_file(start), given=False)
    path = data_folder() / spec.given
    identity, recorded = file_identity(path), read_json(start)
    if identity["sha256"] != recorded["sha256"]:
        raise ClipshiftError(
            f"{path} changed after this training was planned ({start} has its SHA-256 of then); "
            "run again to train with the file that is there now"
        )
    return TextStart(path, identity["sha256"], given=True)


@step(version=1)
def record_weights(
    weights: str, identity: dict[str, Any] | None, architecture: dict[str, Any], out: Path
) -> None:
    """Record which file of the user's a text tower comes from, and see that the tower fits.

    Args:
        weights: the file; a relative path is below the folder of the user's data.
        identity: its size and SHA-256 as the plan saw it; none where it was not there.
        architecture: open_clip's configuration of the model that begins with it.

    Raises:
        ClipshiftError: the file is missing or no weights, or its text tower does not fit.
    """
    import open_clip

    path = data_folder() / weights
    with tempfile.TemporaryDirectory(prefix="clipshift-") as folder:
        register("clipshift-start", architecture, Path(folder))
        start_text(
            open_clip.create_model("clipshift-start", load_weights=False, pretrained_text=False),
            path,
        )
    write_json(out, {"file": weights} | (identity or file_identity(path)))


def _check(tower: dict[str, torch.Tensor], which: str, weights: Path) -> None:
    if not tower:
        raise ClipshiftError(
            f"{weights} has no {which} tower, so it does not fit this model; start from a run or a "
            "file that has one"
        )
