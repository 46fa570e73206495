"""The audit's page in a real browser: by keyboard alone, offline, without errors, at any width."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipshift.apps.audit import run
from clipshift.core.files import read_json
from tests import audit_case
from tests.conftest import dump, photo, unit
from tests.workflow.browser import needs_browser

pytestmark = needs_browser
EVIL = '<script>document.title="owned"</script><img src=x onerror=alert(1)>"\'&amp;</script>'


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 test items, of which 30 + 20 are on the page, with images and a hostile key."""
    root = tmp_path_factory.mktemp("page")
    rng = np.random.default_rng(0)
    train = unit(rng.normal(size=(40, 6)))
    near = train[rng.integers(0, 40, 60)].astype(float)
    test = unit(near + rng.normal(size=(60, 6)) * np.linspace(0, 0.6, 60)[:, None])
    keys = [f"class{i % 3}/item-{i:02d}.png" for i in range(60)]
    keys[0] = f"class0/{EVIL}"
    for key in keys[1:]:
        path = root / "pictures" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo(len(key) + int(key[-6:-4]), kind="PNG"))
    given = {
        "train": audit_case.folder(root / "train", {"0": train}),
        "test": audit_case.folder(root / "test", {"0": test}, keys),
    }
    lines = [
        "key,correct",
        *(f'"{k.replace(chr(34), chr(34) * 2)}",{i % 2}' for i, k in enumerate(keys)),
    ]
    asked = audit_case.options(
        root / "out", given, test_images=root / "pictures", items=30, sample=20,
        predictions=dump(root / "predictions.csv", "\n".join(lines)),
    )  # fmt: skip
    run.audit(asked, ["clipshift", "audit", EVIL])
    return root / "out"


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    """The open page; afterwards nothing was asked of a network and nothing was complained of."""
    context = browser.new_context(offline=True, viewport={"width": 1200, "height": 900})
    opened = context.new_page()
    complaints: list[str] = []
    asked: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("dialog", lambda dialog: complaints.append(dialog.message))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto((report / "index.html").as_uri())
    yield opened
    context.close()
    assert complaints == []
    assert [url[:80] for url in asked if not url.startswith(("data:", "file:"))] == []
    assert sum(url.startswith("file:") for url in asked) == 1  # the page itself


def similarities(page: Any) -> list[float]:
    return [float(t) for t in page.locator("#rows td.similarity .value").all_text_contents()]


def keys(page: Any) -> list[str]:
    found: list[str] = page.locator("#rows td.test .key").all_text_contents()
    return found


def status(page: Any) -> str:
    return str(page.locator("#status").text_content())


def tab_to(page: Any, selector: str) -> None:
    """Reach an element by the Tab key alone; it must show that it has the focus."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("s => document.activeElement.matches(s)", selector):
            outline = "getComputedStyle(document.activeElement).outlineStyle"
            assert page.evaluate(outline) != "none"
            return
    raise AssertionError(f"Tab does not reach {selector}")


def test_first_page_shows_the_most_similar_first(page: Any, report: Path) -> None:
    found = similarities(page)
    assert len(found) == 10 and found == sorted(found, reverse=True)
    assert status(page) == "Page 1 of 5, 50 test items"
    share = read_json(report / "summary.json")["near_duplicates"][1]
    headline = page.locator(".headline").text_content()
    assert f"{100 * share['share']:.1f} %" in headline and f"{share['count']} of 60" in headline
    assert "30 of 60 test items" in page.locator("#about-pairs").text_content()
    assert page.locator("html").get_attribute("lang") == "en"


def test_hostile_key_is_text(page: Any) -> None:
    assert page.title().startswith("clipshift audit")
    assert f"class0/{EVIL}" in keys(page)
    assert page.locator("#rows script").count() == 0


def test_pages_turn_by_keyboard(page: Any) -> None:
    first = keys(page)
    tab_to(page, "[data-page=next]")
    page.keyboard.press("Enter")
    assert status(page).startswith("Page 2 of 5") and not set(keys(page)) & set(first)
    page.keyboard.press("End")
    assert status(page).startswith("Page 5 of 5")
    page.keyboard.press("ArrowRight")  # the last page stays, and so does the focus
    assert status(page).startswith("Page 5 of 5")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.dataset.page") == "next"
    page.keyboard.press("ArrowLeft")
    assert status(page).startswith("Page 4 of 5")
    page.keyboard.press("Home")
    assert keys(page) == first


def test_sort_by_keyboard_says_so(page: Any) -> None:
    tab_to(page, "th[data-sort=key] button")
    page.keyboard.press("Enter")
    assert keys(page) == sorted(keys(page))
    assert page.locator("th[data-sort=key]").get_attribute("aria-sort") == "ascending"
    assert page.locator("th[data-sort=similarity]").get_attribute("aria-sort") is None
    page.keyboard.press("Space")
    assert keys(page) == sorted(keys(page), reverse=True)
    assert page.locator("th[data-sort=key]").get_attribute("aria-sort") == "descending"
    tab_to(page, "th[data-sort=class] button")
    page.keyboard.press("Enter")
    assert set(page.locator("#rows td.class").all_text_contents()) == {"class0"}
    tab_to(page, "th[data-sort=similarity] button")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert similarities(page) == sorted(similarities(page))


def test_filters_by_keyboard(page: Any, report: Path) -> None:
    tab_to(page, "#threshold")
    page.keyboard.press("End")  # the highest threshold
    expected = read_json(report / "summary.json")["near_duplicates"][-1]["count"]
    page.wait_for_function("document.getElementById('threshold').value === '0.9'")
    shown = int(status(page).split(", ")[1].split()[0])
    assert 0 < shown <= expected and min(similarities(page)) > 0.9
    page.keyboard.press("Home")
    tab_to(page, "#group")
    page.keyboard.press("End")
    page.wait_for_function("document.getElementById('group').value === 'drawn'")
    assert status(page) == "Page 1 of 2, 20 test items"
    page.keyboard.press("Home")
    tab_to(page, "#words")
    page.keyboard.type("CLASS1/")
    assert all(key.startswith("class1/") for key in keys(page))
    page.keyboard.type("no such key")
    assert page.locator("#empty").is_visible() and keys(page) == []


def test_pictures_have_alternatives_and_load(page: Any) -> None:
    images = page.locator("#rows img")
    assert images.count() == 9  # the hostile key has no image
    assert all(images.nth(i).get_attribute("alt").startswith("Test item") for i in range(9))
    whole = "[...document.images].every(i => i.complete && i.naturalWidth > 0)"
    page.wait_for_function(whole)


def test_lists_to_remove_can_be_downloaded(page: Any, report: Path, tmp_path: Path) -> None:
    link = page.locator("a[download='remove_0.9.txt']")
    with page.expect_download() as waiting:
        link.focus()
        page.keyboard.press("Enter")
    waiting.value.save_as(tmp_path / "list.txt")
    assert (tmp_path / "list.txt").read_bytes() == (report / "remove_0.9.txt").read_bytes()


@pytest.mark.parametrize("width", [320, 480, 760, 1600])
def test_no_width_needs_sideways_scrolling(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    tab_to(page, "th[data-sort=key] button")
    assert page.locator("th[data-sort=key] button").is_visible()
    assert page.locator("#rows tr").count() == 10
    cell = page.locator("#rows td.neighbours").first.bounding_box()
    assert cell["width"] > (0.8 if width < 720 else 0.4) * min(width, 1100)
    for entry in page.locator("#rows li").all()[:6]:
        box = entry.bounding_box()
        assert box["x"] >= cell["x"] and box["x"] + box["width"] <= width
