"""The labelling page in a real browser: mouse, keys, undo, reload, a killed server, two tabs."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clipshift.apps.labelling.table import NATURAL, RENDITION
from tests.conftest import photo
from tests.label_case import Page, labels, pool
from tests.workflow.browser import needs_browser

pytestmark = needs_browser
EVIL = "<img src=x onerror=alert(1)>\"'&amp;.png"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Page]:
    """60 images, three pages of them, one that cannot be decoded (p-07)."""
    started = Page(
        pool(tmp_path / "pool", 60, broken=(7,)), tmp_path / "labels.parquet", "--port", 0
    )
    yield started
    if started.process.poll() is None:
        started.stop()


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens tabs; afterwards nothing was asked of a network and no script failed."""
    context = browser.new_context(viewport={"width": 1240, "height": 900})
    complaints: list[str] = []
    asked: list[str] = []

    def refuse(dialog: Any) -> None:
        if dialog.type == "beforeunload":  # the page asks before labels on their way are dropped
            dialog.accept()
        else:
            complaints.append(dialog.message)

    def tab(url: str) -> Any:
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", refuse)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        page.wait_for_selector(".tile, #empty:not([hidden])")
        return page

    yield tab
    context.close()
    assert complaints == []
    assert [u for u in asked if not u.startswith(("http://127.0.0.1:", "data:"))] == []


def tile(page: Any, number: int) -> Any:
    return page.locator(f"#grid .tile[data-key='p-{number:02d}']")


def expect(page: Any, number: int, label: int | None) -> None:
    """The tile shows the label, and the server has it (no tile is on its way any more)."""
    want = "" if label is None else str(label)
    page.wait_for_selector(f".tile[data-key='p-{number:02d}'][data-label='{want}']:not(.pending)")


def shown(page: Any) -> list[str]:
    found: list[str] = page.locator("#grid .key").all_text_contents()
    return found


def until(page: Any, expression: str, seconds: float = 30) -> None:
    """Wait for an expression; the page's own policy forbids playwright's `wait_for_function`."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"never: {expression}"
        page.wait_for_timeout(30)


def on_page(page: Any, number: int, of: int = 3) -> None:
    until(page, f"document.getElementById('status').textContent === 'Page {number} of {of}'")


def test_click_moves_to_the_next_label_and_shows_it_without_colour(
    server: Page, opened: Callable[..., Any]
) -> None:
    page = opened(server.url)
    assert page.locator(".tile").count() == 25
    columns = page.evaluate(
        "getComputedStyle(document.getElementById('grid')).gridTemplateColumns.split(' ').length"
    )
    assert columns == 5
    styles, letters = set(), []
    for label in (0, 1, 2):
        tile(page, 0).click()
        expect(page, 0, label)
        styles.add(tile(page, 0).evaluate("t => getComputedStyle(t).borderTopStyle"))
        letters.append(tile(page, 0).locator(".badge").text_content())
        assert server.state()["items"][0]["label"] == label
    assert styles == {"solid", "double", "dashed"} and letters == ["N", "R", "A"]
    assert tile(page, 0).get_attribute("aria-label") == "p-00: ambiguous"
    tile(page, 0).click()
    expect(page, 0, None)
    tile(page, 1).click()
    expect(page, 1, 0)
    told = "1 of 60 labelled (1 natural, 0 rendition, 0 ambiguous); 1 seen that cannot be shown"
    until(page, f"document.getElementById('progress').textContent === '{told}'")
    assert server.stop() == {("p-01", "ann"): 0}


def test_keys_label_move_undo_and_turn_the_page(server: Page, opened: Callable[..., Any]) -> None:
    page = opened(server.url)
    for key in "0n1r2a":  # the first image has the focus when the page opens
        page.keyboard.press(key)
    for number, label in enumerate((0, 0, 1, 1, 2, 2)):
        expect(page, number, label)
    assert page.evaluate("document.activeElement.dataset.key") == "p-06"
    page.keyboard.press("u")
    expect(page, 5, None)
    page.keyboard.press("Control+z")
    expect(page, 4, None)
    until(page, "document.activeElement.dataset.key === 'p-04'")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("r")
    expect(page, 9, 1)
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("x")
    expect(page, 9, None)
    page.keyboard.press("ArrowRight")
    on_page(page, 2)
    assert shown(page)[0] == "p-25"
    page.keyboard.press("2")
    expect(page, 25, 2)
    page.keyboard.press("End")
    on_page(page, 3)
    assert shown(page) == [f"p-{i}" for i in range(50, 60)]
    page.keyboard.press("ArrowRight")  # the last page stays
    on_page(page, 3)
    page.keyboard.press("u")  # back to where the last label was
    on_page(page, 2)
    expect(page, 25, None)
    page.keyboard.press("ArrowLeft")
    on_page(page, 1)
    page.locator("#unlabelled").click()
    until(page, "document.activeElement.dataset.key === 'p-04'")
    expected = {0: 0, 1: 0, 2: 1, 3: 1}
    assert server.stop() == {(f"p-{k:02d}", "ann"): v for k, v in expected.items()}


def test_reload_keeps_labels_page_and_undo(server: Page, opened: Callable[..., Any]) -> None:
    page = opened(server.url)
    page.keyboard.press("ArrowRight")
    on_page(page, 2)
    page.keyboard.press("1")
    page.keyboard.press("0")
    expect(page, 26, 0)
    page.reload()
    on_page(page, 2)
    expect(page, 25, 1)
    expect(page, 26, 0)
    page.keyboard.press("u")
    expect(page, 26, None)
    assert server.stop() == {("p-25", "ann"): 1}


def test_reload_with_labels_on_their_way_loses_none(
    server: Page, opened: Callable[..., Any]
) -> None:
    page = opened(server.url)
    page.route("**/api/label", lambda route: route.abort())
    for number in range(6):
        page.keyboard.press(str(number % 3))
    until(page, "document.querySelectorAll('.pending').length === 6")
    assert all(item["label"] is None for item in server.state()["items"])
    page.reload()
    page.unroute("**/api/label")
    for number in range(6):
        expect(page, number, number % 3)
    assert server.stop() == {(f"p-{i:02d}", "ann"): i % 3 for i in range(6)}


def test_lost_answer_acts_once(server: Page, opened: Callable[..., Any]) -> None:
    page = opened(server.url)
    lost: list[str] = []

    def lose(route: Any) -> None:
        if len(lost) < 2:
            lost.append(route.request.post_data)
            route.fetch()  # the server acts, and nobody hears of it
            route.abort()
        else:
            route.continue_()

    page.keyboard.press("0")
    expect(page, 0, 0)
    page.route("**/api/label", lose)
    page.keyboard.press("1")
    expect(page, 1, 1)
    page.unroute("**/api/label")
    page.route("**/api/undo", lose)
    lost.clear()
    page.keyboard.press("u")
    expect(page, 1, None)
    page.wait_for_timeout(100)
    assert len(lost) == 2
    expect(page, 0, 0)  # one undo, though it was sent three times
    assert server.stop() == {("p-00", "ann"): 0}


def test_killed_server_loses_nothing_and_the_tab_goes_on(
    server: Page, opened: Callable[..., Any], tmp_path: Path
) -> None:
    page = opened(server.url)
    for number in range(6):
        page.keyboard.press(str(number % 3))
    expect(page, 5, 2)
    server.kill()
    page.keyboard.press("1")  # while nobody listens
    page.wait_for_selector("#trouble:not([hidden])")
    assert "not saved yet" in page.locator("#trouble").text_content()
    assert "pending" in tile(page, 6).get_attribute("class")
    again = Page(tmp_path / "pool", server.out, "--port", server.port)
    assert again.url == server.url  # the token is kept
    expect(page, 6, 1)
    page.wait_for_selector("#trouble[hidden]", state="attached")
    page.keyboard.press("ArrowRight")
    on_page(page, 2)
    assert again.stop() == {(f"p-{i:02d}", "ann"): i % 3 for i in range(6)} | {("p-06", "ann"): 1}


def test_kill_between_labels_in_a_row(
    server: Page, opened: Callable[..., Any], tmp_path: Path
) -> None:
    """Killed three times while labels are given quickly: each arrives once, in order."""
    page = opened(server.url)
    running = server
    for round_ in range(3):
        for number in range(round_ * 8, round_ * 8 + 8):
            if number != 7:
                tile(page, number).focus()
                page.keyboard.press(str(number % 3))
            if number % 8 == 4:
                running.kill()
                running = Page(tmp_path / "pool", server.out, "--port", server.port)
    until(page, "document.querySelectorAll('.pending').length === 0", 60)
    expected = {(f"p-{i:02d}", "ann"): i % 3 for i in range(24) if i != 7}
    assert running.stop() == expected


def test_two_tabs_see_each_other_and_overwrite_nothing(
    server: Page, opened: Callable[..., Any]
) -> None:
    one, two = opened(server.url), opened(server.url)
    for number in range(7):
        (one if number % 2 else two).bring_to_front()
        tile(one if number % 2 else two, number).click()
    for page in (one, two):
        page.bring_to_front()
        for number in range(7):
            expect(page, number, 0)
    # The second tab believes something that is no longer true: it is told, and nothing is lost.
    two.evaluate("window.setInterval = () => 0")
    two.route("**/api/page*", lambda route: route.abort())
    assert server.label("p-20", RENDITION) == 200
    tile(two, 20).click()
    until(two, "document.getElementById('notice').textContent.includes('another window')")
    assert server.state()["items"][20]["label"] == RENDITION
    two.unroute("**/api/page*")
    expect(two, 20, RENDITION)
    found = server.stop()
    assert found == {(f"p-{i:02d}", "ann"): 0 for i in range(7)} | {("p-20", "ann"): 1}


def test_undecodable_picture_is_shown_as_such(server: Page, opened: Callable[..., Any]) -> None:
    page = opened(server.url)
    assert "cannot be shown: undecodable image" in tile(page, 7).text_content()
    assert tile(page, 7).locator("img").count() == 0
    tile(page, 7).click(force=True)  # it says that it is disabled
    assert "gets no label" in page.locator("#notice").text_content()
    tile(page, 7).focus()
    page.keyboard.press("1")
    assert page.evaluate("document.activeElement.dataset.key") == "p-08"
    whole = (
        "[...document.querySelectorAll('#grid img')].every(i => i.complete && i.naturalWidth > 0)"
    )
    until(page, whole)
    assert server.stop() == {}


def test_keys_that_may_name_the_source_are_hidden_at_first(
    server: Page, opened: Callable[..., Any]
) -> None:
    page = opened(server.url)
    assert not page.locator(".tile .key").first.is_visible()
    page.locator("#names").check()
    assert page.locator(".tile .key").first.is_visible()
    page.keyboard.press("ArrowRight")  # the box has the focus, and keys still work
    on_page(page, 2)


def test_large_picture_by_key(server: Page, opened: Callable[..., Any]) -> None:
    page = opened(server.url)
    page.keyboard.press("z")
    page.wait_for_selector("dialog[open] img")
    until(page, "document.querySelector('dialog img').naturalWidth > 0")
    page.keyboard.press("ArrowRight")  # no page is turned behind it
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    page.keyboard.press("z")
    page.keyboard.press("1")
    expect(page, 0, 1)
    assert not page.locator("dialog").is_visible()
    on_page(page, 1)


def test_two_annotators_disagree_and_a_third_settles(
    tmp_path: Path, opened: Callable[..., Any]
) -> None:
    images = pool(tmp_path / "pool", 30)
    server = Page(images, tmp_path / "labels.parquet", "--port", 0, "--annotator", "ben")
    ann, ben = opened(server.url), opened(f"{server.url}?annotator=ben")
    for key in "010122":
        ann.keyboard.press(key)
    ben.bring_to_front()
    for key in "011120":
        ben.keyboard.press(key)
    expect(ann, 5, 2)
    expect(ben, 5, 0)  # nobody sees the other's labels
    ann.bring_to_front()
    ann.locator("[data-view=agreement]").click()
    ann.wait_for_selector("#agreement table")
    text = ann.locator("#agreement").text_content()
    assert "6 images, 6 with several labels, 2 with different ones" in text
    rows = ann.locator("#agreement tbody tr").all_text_contents()
    # Shares 2 2 2 and 2 3 1 of 6: expected (4 + 6 + 2) / 36; observed 4 / 6: kappa .5.
    assert any(r.startswith("Cohen: ann, ben60.6670.500") for r in rows), rows
    assert any(r.startswith("Fleiss: all 26") for r in rows), rows
    # 12 labels, shares 4 5 3: expected (12 + 20 + 6) / (12 * 11); observed 4 / 6: alpha .532.
    assert any(r.startswith("Krippendorff: all 260.532") for r in rows), rows
    ann.locator("[data-view=disagreements]").click()
    ann.wait_for_selector(".tile")
    assert shown(ann) == ["p-02", "p-05"]
    assert tile(ann, 2).locator("li").all_text_contents() == ["ann: natural", "ben: rendition"]
    ann.keyboard.press("1")
    expect(ann, 2, 1)
    until(ann, "document.getElementById('disputed').textContent === '(1 of 2 settled)'")
    ann.reload()
    ann.wait_for_selector(".tile")
    assert shown(ann) == ["p-02", "p-05"]
    expect(ann, 2, 1)
    ann.keyboard.press("u")
    expect(ann, 2, None)
    ann.keyboard.press("0")
    expect(ann, 2, 0)
    found = server.stop()
    assert found["p-02", "adjudicated"] == NATURAL
    assert found["p-02", "ann"] == 0 and found["p-02", "ben"] == 1
    assert len(found) == 13


def test_hostile_name_is_text_and_odd_keys_work(tmp_path: Path, opened: Callable[..., Any]) -> None:
    names = [EVIL, "100% #1?&=.png", "ä ö/ü+.png", "b.png"]
    for number, name in enumerate(names):
        path = tmp_path / "pool" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo(number, kind="PNG"))
    server = Page(tmp_path / "pool", tmp_path / "labels.parquet", "--port", 0)
    page = opened(server.url)
    assert shown(page) == sorted(names)
    whole = (
        "[...document.querySelectorAll('#grid img')].every(i => i.complete && i.naturalWidth > 0)"
    )
    until(page, whole)
    for key in "0120":
        page.keyboard.press(key)
    until(page, "document.querySelectorAll('.pending').length === 0")
    found = server.stop()
    assert found == {
        (name, "ann"): label for name, label in zip(sorted(names), (0, 1, 2, 0), strict=True)
    }


def test_a_page_is_labelled_at_once_and_pages_are_gone_to_by_number(
    server: Page, opened: Callable[..., Any]
) -> None:
    page = opened(server.url)
    page.keyboard.press("g")
    page.keyboard.type("3")
    page.keyboard.press("Enter")
    on_page(page, 3)
    until(page, "document.activeElement.dataset.key === 'p-50'")
    page.keyboard.press("n")
    expect(page, 50, 0)
    page.keyboard.press("Shift+R")
    for number in range(51, 60):
        expect(page, number, 1)
    expect(page, 50, 0)  # it had its label
    page.keyboard.press("u")
    expect(page, 59, None)
    page.keyboard.press("g")
    page.keyboard.type("99")
    page.keyboard.press("Enter")
    on_page(page, 3)  # the last one
    expected = {50: 0} | dict.fromkeys(range(51, 59), 1)
    assert server.stop() == {(f"p-{k:02d}", "ann"): v for k, v in expected.items()}


def test_scores_sort_the_page_and_a_sample_is_resumed(
    tmp_path: Path, opened: Callable[..., Any]
) -> None:
    import pyarrow as pa

    from clipshift.core.files import write_parquet

    images, out = pool(tmp_path / "pool", 60), tmp_path / "labels.parquet"
    keys = [f"p-{i:02d}" for i in range(60)]
    scores = tmp_path / "scores.parquet"
    write_parquet(scores, pa.table({"key": keys, "score": [i * 7 % 60 / 60 for i in range(60)]}))
    options = ("--port", 0, "--sample", 30, "--seed", 1, "--scores", scores)
    server = Page(images, out, *options)
    assert "30 left out: not in the sample" in server.said
    page = opened(server.url)
    first = shown(page)
    assert first == sorted(first, key=lambda key: -(int(key[2:]) * 7 % 60))
    page.keyboard.press("2")
    page.wait_for_selector(".tile[data-label='2']:not(.pending)")
    server.stop()
    again = Page(images, out, *options)
    page = opened(again.url)
    assert shown(page) == first
    page.wait_for_selector(f".tile[data-key='{first[0]}'][data-label='2']")
    again.stop()
    assert labels(out) == {(first[0], "ann"): 2}


@pytest.mark.parametrize("width", [320, 480, 760, 1600])
def test_no_width_needs_sideways_scrolling(
    server: Page, opened: Callable[..., Any], width: int
) -> None:
    page = opened(server.url)
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".tile").count() == 25


def test_labels_are_given_as_fast_as_a_person_types(
    server: Page, opened: Callable[..., Any]
) -> None:
    page = opened(server.url)
    start = time.monotonic()
    for number in range(25):
        page.keyboard.press(str(number % 3))
    until(page, "document.querySelectorAll('.pending').length === 0")
    assert time.monotonic() - start < 20
    assert len(server.stop()) == 24  # all but the one that cannot be decoded


def test_keys_pressed_before_a_page_is_shown_label_nothing_and_are_told(
    server: Page, opened: Callable[..., Any]
) -> None:
    """The old page is still on the screen, and the new one was not seen."""
    page = opened(server.url)
    for key in "012012":
        page.keyboard.press(key)
    expect(page, 5, 2)
    held: list[Any] = []
    page.route("**/api/page*", lambda route: held.append(route))  # noqa: PLW0108
    page.keyboard.press("ArrowRight")
    for key in "012012012":  # those of the old page have these labels already
        page.keyboard.press(key)
    until(page, "document.getElementById('notice').textContent.startsWith('9 keys not used')")
    assert page.locator("#grid").get_attribute("aria-busy") == "true"
    while held:
        held.pop().continue_()
    page.unroute("**/api/page*")
    on_page(page, 2)
    assert page.locator("#notice").text_content().startswith("9 keys not used")
    assert page.locator("#grid").get_attribute("aria-busy") is None
    page.keyboard.press("1")
    expect(page, 25, 1)
    expected = {(f"p-{i:02d}", "ann"): i % 3 for i in range(6)} | {("p-25", "ann"): 1}
    assert server.stop() == expected


def test_a_page_is_shown_though_the_server_takes_longer_than_the_page_waits_to_ask(
    server: Page, opened: Callable[..., Any]
) -> None:
    page = opened(server.url)
    asked: list[str] = []

    def slow(route: Any) -> None:
        asked.append(route.request.url)
        page.wait_for_timeout(3000)
        route.continue_()

    page.route("**/api/page*", slow)
    page.keyboard.press("ArrowRight")
    on_page(page, 2)
    assert len(asked) <= 2


def test_tiles_say_what_is_saved_and_a_failing_server_is_asked_again(
    server: Page, opened: Callable[..., Any]
) -> None:
    page = opened(server.url)
    answers = [500, 503, 507, 403]
    sent: list[str] = []

    def fail(route: Any) -> None:
        sent.append(route.request.post_data)
        if answers:
            route.fulfill(status=answers.pop(), json={"error": "not now"})
        else:
            route.continue_()

    assert tile(page, 0).get_attribute("data-saved") == "saved"
    page.route("**/api/label", fail)
    page.keyboard.press("1")
    page.wait_for_selector(".tile[data-key='p-00'][data-saved='saving']")
    assert "saving" in tile(page, 0).get_attribute("aria-label")
    page.wait_for_selector("#trouble:not([hidden])")
    while answers:
        if page.locator("#retry").is_visible():
            page.locator("#retry").click()
        page.wait_for_timeout(30)
    page.wait_for_selector(".tile[data-key='p-00'][data-saved='saved'][data-label='1']")
    page.wait_for_selector("#trouble[hidden]", state="attached")
    assert len(sent) == 5 and len(set(sent)) == 1  # one request, with its number, five times
    assert server.stop() == {("p-00", "ann"): 1}


def test_a_refused_label_is_shown_as_not_saved(server: Page, opened: Callable[..., Any]) -> None:
    page = opened(server.url)
    page.evaluate("window.setInterval = () => 0")
    page.route("**/api/page*", lambda route: route.abort())
    page.route(
        "**/api/label", lambda route: route.fulfill(status=422, json={"error": "no such image"})
    )
    page.keyboard.press("1")
    page.wait_for_selector(".tile[data-key='p-00'][data-saved='unsaved']")
    assert "not saved: no such image" in tile(page, 0).get_attribute("aria-label")
    assert page.evaluate(
        "(() => { const e = new Event('beforeunload', { cancelable: true });"
        " window.dispatchEvent(e); return e.defaultPrevented; })()"
    )
    page.unroute("**/api/page*")
    page.evaluate("window.dispatchEvent(new Event('focus'))")
    page.wait_for_selector(".tile[data-key='p-00'][data-saved='saved'][data-label='']")
    assert server.stop() == {}
