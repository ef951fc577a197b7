"""Take the pictures of the curation page: `python tools/picture_page.py docs/images [DEMO]`.

Simulates the demo recording and analyses it, or takes the folder DEMO that `cocuyo demo` made;
serves it, and takes `curate.png` and `start.png` in headless Chromium (Debian's, or the path in
CHROMIUM).
"""

import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cocuyo.cli import run_command_line
from cocuyo.server import App, Server

SIZE = {"width": 1280, "height": 820}


def picture(app: App, path: Path, steps: Callable[[Any], None], *, dark: bool = False) -> None:
    """Serve something, do something on its page, and take a picture of it."""
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    server = Server(app)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as play:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = play.chromium.launch(executable_path=chromium, args=flags)
        page = browser.new_page(viewport=SIZE, color_scheme="dark" if dark else "light")
        page.set_default_timeout(120_000)
        page.goto(server.url)
        page.wait_for_selector("body[data-ready=yes]")
        steps(page)
        page.screenshot(path=path)
        browser.close()
    server.shutdown()
    server.server_close()


def curating(page: Any) -> None:
    """Choose a neuron with several events and go to one of them."""
    page.select_option("#sort", "events")
    for key in ("j", "j", ".", "."):
        page.keyboard.press(key)
        page.wait_for_timeout(800)
    page.keyboard.press("3")
    page.wait_for_timeout(1500)


def starting(page: Any) -> None:
    """Choose the recording."""
    page.click("text=recording.tif")
    page.wait_for_selector("#run-form")
    hide = "(place) => { place.textContent = '/home/me/data'; }"
    for selector in ("#counts", ".where"):
        page.eval_on_selector(selector, hide)


def take(demo: Path, folder: Path) -> None:
    """Take the pictures of a demo."""
    folder.mkdir(parents=True, exist_ok=True)
    result = demo / "result"
    picture(App(result, result=result), folder / "curate.png", curating)
    picture(App(demo), folder / "start.png", starting)


def main(folder: Path, demo: Path | None = None) -> None:
    """Make the demo where none is given, and take the pictures."""
    if demo is not None:
        take(demo, folder)
        return
    with tempfile.TemporaryDirectory() as temporary:
        made = Path(temporary) / "cocuyo-demo"
        if run_command_line(["demo", "--out", str(made)]):
            sys.exit("The demo failed.")
        take(made, folder)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
