"""Configuration of the zero-shot evaluation."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from clipshift.study.config.data import Block
from clipshift.study.config.names import Ref


def _fills(template: str) -> str:
    try:
        filled = template.format(c="class name")
    except (LookupError, ValueError, AttributeError, TypeError):
        filled = ""
    if "class name" not in filled:
        raise ValueError(f"{template!r} needs {{c}} for the class, and no other braces")
    return template


Template = Annotated[str, AfterValidator(_fills)]
Templates = Literal["openai_imagenet"] | Annotated[list[Template], Field(min_length=1)]


class Evaluation(Block):
    """Zero-shot classification."""

    templates: Templates = Field(
        default=["a photo of a {c}."],
        description="Prompt templates with `{c}`; or `openai_imagenet`: OpenAI's 80 of open_clip.",
    )
    words: dict[Annotated[str, Ref("configured class")], list[str]] = Field(
        default={},
        description="Words for a class, each filled into every template and averaged like them "
        "(default: the class name alone).",
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        default="fp32",
        description="Precision of the products of the vision tower's forward pass (torch's "
        "autocast); part of the result's identity.",
    )
    batch: int = Field(
        default=64, ge=1, le=10_000_000, description="Batch size; part of the result's identity."
    )
    undecodable: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Share of a test set's images that may be damaged: they are left out and named "
        "in the record, and accuracies are of the others. One is let pass in any case.",
    )
