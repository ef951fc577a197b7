"""Take the pictures of the curation page: `python tools/picture_page.py docs/images`.

Simulates the demo recording, analyses it, serves the result, and takes `curate.png` and
`start.png` in headless Chromium (Debian's, or the path in CHROMIUM).
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


def main(folder: Path) -> None:
    """Make the demo and take the pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        demo = Path(temporary) / "cocuyo-demo"
        if run_command_line(["demo", "--out", str(demo)]):
            sys.exit("The demo failed.")
        result = demo / "result"
        picture(App(result, result=result), folder / "curate.png", curating)
        picture(App(demo), folder / "start.png", starting)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
