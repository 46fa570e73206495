"""Prompt templates and class names that others published, by name.

`python -m clipshift.datasets.prompts --out FILE --words FILE --of JSON TEMPLATE...` writes the templates of
a set, one a line, and the words of its classes; a word without `{c}` names templates, which come
from open_clip.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from clipshift.core.errors import ClipshiftError, run
from clipshift.core.files import write_json, write_text

OPENAI_IMAGENET = "openai_imagenet"


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--words", type=Path, required=True)
    parser.add_argument("--of", type=json.loads, required=True, help="JSON: class -> its words")
    parser.add_argument("templates", nargs="+")
    args = parser.parse_args()
    write_json(args.words, args.of)
    write_text(args.out, "".join(f"{line}\n" for line in templates(args.templates)))


if __name__ == "__main__":
    run(main)
