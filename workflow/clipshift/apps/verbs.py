"""What the verbs of the command line share, on top of typer."""

import inspect
import re
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any

from typer.core import TyperCommand

from clipshift.core.errors import ClipshiftError

PASSED = "clipshift.passed"
_OPTION = re.compile(r"-[-A-Za-z]")  # -1 and -.5 are values


class Verb(TyperCommand):
    """A verb whose options take several values at once where their metavar ends in `...`.

    An option without its value is refused, which click would take from the next option.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        options = [p for p in self.params if p.param_type_name == "option"]
        valued = {name: p for p in options if not getattr(p, "is_flag", False) for name in p.opts}
        several = {name for name, p in valued.items() if (p.metavar or "").endswith("...")}
        given, lacking = single_values(args, valued, several)
        for name in lacking:
            optional = name in several and not (valued[name].required or valued[name].default)
            if not optional and not ctx.resilient_parsing:  # so completion asks
                ctx.fail(f"Option {name!r} requires an argument.")
        return super().parse_args(ctx, given)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except EOFError as error:  # click takes it for Ctrl-D, and hides where it comes from
            raise RuntimeError("a file ended early") from error


class Passing(Verb):
    """A verb that passes what stands behind `--` on, in `ctx.meta[PASSED]`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        ctx.meta[PASSED] = args[end + 1 :]
        return super().parse_args(ctx, args[:end])


def single_values(
    words: Sequence[str], valued: Collection[str], several: Collection[str]
) -> tuple[list[str], list[str]]:
    """Words with one value for each option, as click needs it, and the options without a value.

    Args:
        valued: options that take a value; `several`: those of them that take one or more.

    >>> single_values(["t", "--x", "a", "-1", "--y", "b", "c", "--x"], ["--x", "--y"], ["--x"])
    (['t', '--x=a', '--x=-1', '--y=b', 'c'], ['--x'])
    """
    given: list[str] = []
    lacking: list[str] = []
    rest = deque(words)
    while rest and rest[0] != "--":
        option, before = rest.popleft(), len(given)
        if option not in valued:
            given.append(option)
            continue
        while rest and not _OPTION.match(rest[0]) and (option in several or len(given) == before):
            given.append(f"{option}={rest.popleft()}")
        if len(given) == before:
            lacking.append(option)
    return [*given, *rest], lacking


def pair(word: str, form: str) -> tuple[str, str]:
    """The two sides of `LEFT=RIGHT`.

    Args:
        form: of the option, for the error.
    """
    left, mark, right = word.partition("=")
    if not (left and mark and right):
        raise ClipshiftError(f"{word!r}: expected {form}")
    return left, right


def of_fields(options: type[Any], work: Callable[[Any], None]) -> Callable[..., None]:
    """A verb whose parameters and help are those of a keyword-only dataclass, which checks them.

    Its fields are annotated as typer's parameters are; a list's default is `Option`'s factory.
    """

    def verb(**given: Any) -> None:
        work(options(**given))

    verb.__signature__ = inspect.signature(options)  # type: ignore[attr-defined]
    verb.__doc__ = options.__doc__
    return verb
