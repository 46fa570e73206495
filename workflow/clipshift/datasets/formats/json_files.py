"""JSON files of data sets, checked against the form that their reader needs."""

from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from clipshift.core.errors import ClipshiftError
from clipshift.core.readable import reading
from clipshift.core.sniff import explain

Form = TypeVar("Form")


def parse(file: Path, form: TypeAdapter[Form]) -> Form:
    """The content of a file; of objects, what the form does not name is left out.

    Raises:
        ClipshiftError: not there, not JSON, or of another form.
    """
    with reading(file, "JSON"):
        text = file.read_text(encoding="utf-8-sig")
    try:
        return form.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        why = explain(file) or f"is not as it should be: {where and f'{where}: '}{first['msg']}"
        raise ClipshiftError(f"{file} {why}; get it again") from None
