"""What classifiers are asked about a set: prompt templates, words of its classes, and answers.

Templates are written one a line. Those of a name, and the class names of ImageNet, come from
open_clip.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, write_json, write_text
from clipshift.core.step import step
from clipshift.study.config.captions import OPENAI_IMAGENET


def templates(words: Sequence[str]) -> list[str]:
    """The templates that some words give or name.

    Raises:
        ClipshiftError: a word is neither a template nor a name.
    """
    if list(words) == [OPENAI_IMAGENET]:
        from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

        return [template("{c}") for template in OPENAI_IMAGENET_TEMPLATES]
    for word in words:
        if "{c}" not in word:
            raise ClipshiftError(f"evaluation.templates: {word!r} has no {{c}} for the class")
    return list(words)


def imagenet_names() -> list[str]:
    """OpenAI's names of the 1,000 classes of ImageNet, in the order of the class indices."""
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    return list(IMAGENET_CLASSNAMES)


def prompts_of(
    names: Sequence[str], given: Sequence[str], words: Mapping[str, Sequence[str]]
) -> list[list[str]]:
    """Per class, every word of it in every template."""
    return [[t.replace("{c}", w) for w in words.get(name, [name]) for t in given] for name in names]


@step(version=1)
def export(name: str, classnames: Path, given: Path, words: Path, out: Path) -> None:
    """Write the prompts of a set as CLIP_benchmark's `--custom_template_file` reads them.

    The set's own files can say names and templates, but not several words for a class.
    """
    names = classnames.read_text().splitlines()
    prompts = prompts_of(names, given.read_text().splitlines(), read_json(words))
    write_json(out, {name: dict(zip(names, prompts, strict=True))})


@step(version=1)
def write(
    prompts: str | list[str], class_words: dict[str, list[str]], out: Path, words: Path
) -> None:
    """Write the templates of a set (`out`) and the words of its classes."""
    write_json(words, class_words)
    given = [prompts] if isinstance(prompts, str) else prompts
    write_text(out, "".join(f"{line}\n" for line in templates(given)))


@step(version=1)
def answers(rule: str | dict[str, list[int]] | None, out: Path) -> None:
    """Write a set's entry in `causes.answers`: which trained classes stand for its classes."""
    write_text(out, json.dumps(rule) + "\n")
