"""What all tests share."""

import os
import shutil

import pytest
from hypothesis import settings

# Nothing is timed: a busy machine must not fail a law.
settings.register_profile("cocuyo", deadline=None)
settings.load_profile("cocuyo")

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window; where CI says that it is needed, its absence is a failure."""
    if CHROMIUM is None:
        if os.environ.get("COCUYO_NEEDS_BROWSER"):
            pytest.fail("COCUYO_NEEDS_BROWSER is set, but there is no Chromium")
        pytest.skip("no Chromium here; set CHROMIUM to its path")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()
