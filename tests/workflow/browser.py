"""A real browser for tests of pages: which one, when its tests run, and how it is started."""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
NEEDED = bool(os.environ.get("CLIPSHIFT_NEEDS_BROWSER"))
needs_browser = pytest.mark.skipif(
    BROWSER is None and not NEEDED, reason="no Chromium or Chrome; `make browser` installs one"
)
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    assert BROWSER, "CLIPSHIFT_NEEDS_BROWSER is set, and there is no Chromium or Chrome"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER, args=list(QUIET))
        yield started
        started.close()
