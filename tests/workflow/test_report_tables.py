"""The script of the report's tables in a real browser: sorts by numbers or text, saves as csv."""

from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from tests.conftest import ROOT
from tests.workflow.browser import needs_browser

pytestmark = needs_browser
ROWS = (("split 10", "9.5<br>8.0 to 11.0"), ("split 9", "12.5<br>10 to 15"), ('a "b", c', ""))


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Any:
    body = "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in ROWS)
    head = "<thead><tr><th>split</th><th>top1</th></tr></thead>"
    script = (ROOT / "workflow/clipshift/data/tables.js").read_text()
    file = tmp_path / "page.html"
    file.write_text(f"<table>{head}<tbody>{body}</tbody></table><script>{script}</script>")
    opened = browser.new_page()
    opened.goto(file.as_uri())
    yield opened
    opened.close()


def first_cells(page: Any) -> list[str]:
    found: list[str] = page.locator("tbody td:first-child").all_inner_texts()
    return found


def test_sorts_by_numbers_with_empty_cells_last(page: Any) -> None:
    header = page.locator("th", has_text="top1")
    header.click()
    assert first_cells(page) == ["split 10", "split 9", 'a "b", c']
    assert header.get_attribute("aria-sort") == "ascending"
    header.press("Enter")
    assert first_cells(page) == ["split 9", "split 10", 'a "b", c']
    assert header.get_attribute("aria-sort") == "descending"


def test_sorts_text_with_numbers_in_their_order(page: Any) -> None:
    page.locator("th", has_text="split").click()
    assert first_cells(page) == ['a "b", c', "split 9", "split 10"]


def test_saves_the_table_as_csv(page: Any) -> None:
    with page.expect_download() as started:
        page.locator("a.save").click()
    assert started.value.suggested_filename == "table-1.csv"
    lines = unquote(Path(started.value.path()).read_text()).splitlines()
    assert lines[:2] == ['"split","top1"', '"split 10","9.5 8.0 to 11.0"']
    assert lines[3] == '"a ""b"", c",""'
