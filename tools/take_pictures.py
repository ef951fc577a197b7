"""Take the pictures of the demo: `python tools/take_pictures.py docs/images [DEMO]`.

Simulates the demo recording and analyses it, or takes the folder DEMO that `cocuyo demo` made;
draws `demo.png`, and takes `report.png`, `report-cell.png`, `start.png` and `curate.png` in
headless Chromium (Debian's, or the path in CHROMIUM).
"""

import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from playwright.sync_api import sync_playwright

from cocuyo.cli import run_command_line
from cocuyo.core import Result, outline
from cocuyo.server import App, Server

SIZE = {"width": 1280, "height": 820}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def draw(result: Result, path: Path) -> None:
    """Mean frame, what was found in it, and the raster, side by side."""
    accepted = np.flatnonzero(result.rois.accepted)
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.45))
    mean = result.projections["mean"]
    low, high = np.percentile(mean, [1, 99.7])
    for axes, title in (
        (left, "Mean of the recording: who fires?"),
        (middle, f"{len(accepted)} functional neurons"),
    ):
        axes.imshow(mean, cmap="gray", vmin=low, vmax=high)
        axes.set_title(title, fontsize=11)
        axes.set_axis_off()
    colours = [f"C{i % 10}" for i in range(len(accepted))]
    shape = result.rois.frame_shape
    for roi, colour in zip(accepted, colours, strict=True):
        mask = result.rois.footprints[[roi]].toarray().reshape(shape) > 0
        for ring in outline(mask):
            closed = np.vstack([ring, ring[:1]]) - 0.5
            middle.plot(closed[:, 0], closed[:, 1], color=colour, linewidth=1.3)
    for row, (roi, colour) in enumerate(zip(accepted, colours, strict=True), start=1):
        active = np.flatnonzero(result.raster[roi])
        times = result.times_s[active]
        right.vlines(times, row - 0.4, row + 0.4, color=colour, linewidth=1.2)
    right.set_xlim(0, result.times_s[-1])
    right.set_ylim(len(accepted) + 0.5, 0.5)
    right.set_xlabel("time / s")
    right.set_ylabel("neuron")
    right.set_title("Raster: when each is active", fontsize=11)
    figure.savefig(path, dpi=100)


@contextmanager
def served(app: App) -> Iterator[str]:
    """Serve something while its picture is taken."""
    server = Server(app)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.url
    server.shutdown()
    server.server_close()


def picture(url: str, path: Path, steps: Callable[[Any], None]) -> None:
    """Open a page, do something on it, and take a picture of it."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport=SIZE, color_scheme="light")
        page.set_default_timeout(120_000)
        page.goto(url)
        steps(page)
        page.screenshot(path=path)
        browser.close()


def curating(page: Any) -> None:
    """Choose a neuron with several events and go to one of them."""
    page.wait_for_selector("body[data-ready=yes]")
    page.select_option("#sort", "events")
    for key in ("j", "j", ".", "."):
        page.keyboard.press(key)
        page.wait_for_timeout(800)
    page.keyboard.press("3")
    page.wait_for_timeout(1500)


def starting(page: Any) -> None:
    """Choose the recording."""
    page.wait_for_selector("body[data-ready=yes]")
    page.click("text=recording.tif")
    page.wait_for_selector("#run-form")
    hide = "(place) => { place.textContent = '/home/me/data'; }"
    for selector in ("#counts", ".where"):
        page.eval_on_selector(selector, hide)


def reading(page: Any) -> None:
    """Show where the neurons are."""
    page.evaluate("document.getElementById('base-form').parentNode.scrollIntoView()")


def pointing(page: Any) -> None:
    """Put the pointer on a row of the raster."""
    row = page.locator("rect.row").nth(3)
    row.evaluate("(row) => row.closest('section').scrollIntoView()")
    page.wait_for_timeout(200)
    row.hover()


def take(demo: Path, folder: Path) -> None:
    """Take the pictures of a demo."""
    folder.mkdir(parents=True, exist_ok=True)
    result = demo / "result"
    draw(Result.load(result), folder / "demo.png")
    report = (result / "report.html").resolve().as_uri()
    picture(report, folder / "report.png", reading)
    picture(report, folder / "report-cell.png", pointing)
    with served(App(result, result=result)) as url:
        picture(url, folder / "curate.png", curating)
    with served(App(demo)) as url:
        picture(url, folder / "start.png", starting)


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
