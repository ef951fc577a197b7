"""The page in a browser, as a person uses it: with the mouse, and without one."""

import shutil
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tifffile
from flashing_movie import make_movie

from cocuyo.core import Result, acceptance_limit, find_suspects, score_decides
from cocuyo.core.curation import curate
from cocuyo.io import file_identity, is_result, read_edits, save_result
from cocuyo.pipeline import segment, with_inputs
from cocuyo.server import App, Server

PATIENCE_MS = 90_000


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A recording and its result."""
    folder = tmp_path_factory.mktemp("page")
    movie = make_movie(n_frames=160)
    path = folder / "slice.tif"
    tifffile.imwrite(path, movie.frames.astype(np.uint16))
    result = with_inputs(segment(movie.recording(), preset="srname"), file_identity(path))
    save_result(result, folder / "slice.cocuyo")
    return folder


@contextmanager
def served(app):
    server = Server(app)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Page:
    """A window, and what its user sees."""

    def __init__(self, page, url):
        self.page, self.url = page, url
        self.wrong = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on(
            "console", lambda message: message.type == "error" and self.wrong.append(message.text)
        )
        page.on("request", lambda request: self.look_where(request.url))
        page.goto(url)
        page.wait_for_selector("body[data-ready=yes]")

    def look_where(self, url):
        if not url.startswith((self.url, "data:", "blob:")):
            self.wrong.append(f"asked {url}")

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def text(self, selector):
        return self.page.inner_text(selector)

    def wait(self, expression, argument=None):
        """Wait until something is true; the page's policy forbids Playwright's own way."""
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while not self.page.evaluate(expression, argument):
            assert time.monotonic() < deadline, f"never true: {expression}"
            self.page.wait_for_timeout(15)

    def counts(self):
        accepted, rejected, judged, *_ = (
            int(part.split()[0]) for part in self.text("#counts").split("·")
        )
        return accepted, rejected, judged

    def wait_for_edits(self, n):
        self.wait("(n) => window.cocuyo.store.history.n_edits === n", n)

    def wait_for_chosen(self):
        self.wait("window.cocuyo.store.chosen !== null")
        return self.chosen

    def wait_for_trace(self, name):
        self.wait("(id) => document.getElementById('plot').dataset.shows === id", name)

    @property
    def chosen(self):
        return self.page.evaluate("window.cocuyo.store.chosen")

    def place(self, y, x):
        """Where a pixel of the frame is on the screen."""
        return self.page.evaluate(
            """([y, x]) => {
              const { field } = window.cocuyo;
              const box = field.overlay.getBoundingClientRect();
              const ratio = field.overlay.width / box.width;
              return [box.left + (field.left + (x + 0.5) * field.scale) / ratio,
                      box.top + (field.top + (y + 0.5) * field.scale) / ratio];
            }""",
            [y, x],
        )


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made, tmp_path / "own")
    return tmp_path / "own"


@pytest.fixture
def opened(folder, browser):
    """The page of a result."""
    result = folder / "slice.cocuyo"
    with served(App(result, result=result)) as server:
        context = browser.new_context(viewport={"width": 1360, "height": 850})
        page = Page(context.new_page(), server.url)
        yield page
        assert page.wrong == []
        context.close()


def edits(folder):
    return read_edits(folder / "slice.cocuyo")


def state(folder):
    result = Result.load(folder / "slice.cocuyo")
    return curate(result.rois, edits(folder), valid=result.valid)


def test_from_the_start_page_to_a_curated_result(folder, browser):
    shutil.rmtree(folder / "slice.cocuyo")
    with served(App(folder)) as server:
        context = browser.new_context(viewport={"width": 1360, "height": 850})
        page = Page(context.new_page(), server.url)
        page.page.click("text=slice.tif")
        page.page.wait_for_selector("#run-form")
        assert "not known" in page.text("table")
        page.page.click("#run")  # the browser asks for the frame rate
        assert page.page.evaluate(
            "document.querySelector('[name=frame_rate_hz]').validity.valueMissing"
        )
        page.page.fill("[name=frame_rate_hz]", "8")
        page.page.select_option("[name=preset]", "srname")
        page.page.click("#run")
        page.page.click("#open-result")
        page.page.wait_for_selector("#curate:not([hidden])")
        page.page.wait_for_selector("body[data-ready=yes]")
        assert is_result(folder / "slice.cocuyo")
        assert page.counts()[0] >= 3
        page.press("j", "r")
        page.wait_for_edits(1)
        assert page.wrong == []
        context.close()
    assert [edit.kind for edit in edits(folder)] == ["reject"]


def test_what_a_run_warns_of_is_said_on_the_page(folder, browser, monkeypatch):
    def run(_path, _folder, _preset, _reading, _overwrite, job):
        job.warnings = ("It is <b>dim</b>.", "It moves.")
        return "2 functional neurons of 3 candidates."

    monkeypatch.setattr("cocuyo.server.workspace._run", run)
    shutil.rmtree(folder / "slice.cocuyo")
    with served(App(folder)) as server:
        context = browser.new_context()
        page = Page(context.new_page(), server.url)
        page.page.click("text=slice.tif")
        page.page.fill("[name=frame_rate_hz]", "8")
        page.page.click("#run")
        page.page.wait_for_selector("#open-result")
        assert "2 functional neurons" in page.text("main")
        assert "It is <b>dim</b>.\n\nIt moves." in page.text("main")
        assert page.wrong == []
        context.close()


def test_a_click_on_an_outline_shows_its_trace(opened, folder):
    rois = Result.load(folder / "slice.cocuyo").rois
    y, x = (float(v) for v in rois.centroids[1])
    opened.page.mouse.click(*opened.place(y, x))
    assert opened.chosen == rois.ids[1]
    opened.wait_for_trace(rois.ids[1])
    assert rois.ids[1] in opened.text("#chosen")
    assert "event" in opened.text("#trace-note")


def test_the_movie_plays_scrubs_and_shows_its_guises(opened):
    opened.press("1")
    opened.wait("document.getElementById('stage').dataset.frame === '0'")
    opened.press("Space")
    opened.wait("window.cocuyo.movie.frame > 8 && window.cocuyo.movie.drawn > 5")
    opened.press("Space", "Home", "ArrowRight", "Shift+ArrowRight")
    opened.wait("document.getElementById('stage').dataset.frame === '11'")
    assert "frame 11" in opened.text("#when")
    opened.page.focus("#scrub")
    opened.press("End")
    opened.wait("document.getElementById('stage').dataset.frame === '159'")
    opened.press("Escape")
    for key, name in (("2", "movie corrected"), ("3", "movie dff"), ("4", "mean")):
        opened.page.evaluate("document.activeElement.blur()")
        opened.press(key)
        opened.wait("(name) => document.getElementById('stage').dataset.picture === name", name)
    for name in ("std", "correlation", "probability", "max"):
        opened.page.select_option("#picture", name)
        opened.wait("(name) => document.getElementById('stage').dataset.picture === name", name)


def grey_at(page, y, x):
    """Level of the picture at a pixel, as drawn."""
    return page.page.evaluate(
        """([y, x]) => {
          const { source } = window.cocuyo.field;
          return source.getContext("2d").getImageData(x, y, 1, 1).data[0];
        }""",
        [y, x],
    )


def test_what_is_drawn_is_the_frame_between_black_and_white(opened, folder):
    frame = tifffile.imread(folder / "slice.tif", key=30).astype(float)
    opened.press("1")
    opened.page.evaluate("window.cocuyo.movie.go(30)")
    opened.wait("document.getElementById('stage').dataset.frame === '30'")
    low, high = opened.page.evaluate("window.cocuyo.picture.levels.get('movie raw')")
    for y, x in ((0, 0), (14, 14), (40, 60), (63, 71)):
        expected = np.clip(255 * (frame[y, x] - low) / (high - low), 0, 255)
        assert abs(grey_at(opened, y, x) - expected) <= 1
    before = grey_at(opened, 14, 14)
    opened.press("w", "w")
    assert grey_at(opened, 14, 14) >= before
    assert opened.page.evaluate("window.cocuyo.picture.levels.get('movie raw')")[1] < high


def test_accept_reject_undo_and_redo_by_keyboard_alone_survive_a_reload(opened, folder):
    before = opened.counts()
    opened.press("j", "r")
    opened.wait_for_edits(1)
    opened.press("j", "a")
    opened.wait_for_edits(2)
    after = opened.counts()
    assert after == (before[0] - 1, before[1] + 1, 2)
    opened.press("z")
    opened.wait_for_edits(3)
    opened.press("z")
    opened.wait_for_edits(4)
    assert opened.counts() == before
    opened.press("y")
    opened.wait_for_edits(5)
    opened.press("Control+Shift+Z")
    opened.wait_for_edits(6)
    assert opened.counts() == after
    opened.page.reload()
    opened.page.wait_for_selector("body[data-ready=yes]")
    assert opened.counts() == after
    assert not opened.page.is_disabled("#undo")
    assert not state(folder).rois.accepted[0]


def test_marked_rois_are_merged_and_parted_again(opened, folder):
    found = Result.load(folder / "slice.cocuyo").rois
    opened.press("j", "x", "j", "m")
    opened.wait_for_edits(1)
    made = opened.wait_for_chosen()
    opened.wait_for_trace(made)
    now = state(folder).rois
    assert made in now.ids
    assert now.area_px[now.ids.index(made)] == found.area_px[:2].sum()
    opened.press("s")
    opened.wait_for_edits(2)
    opened.wait_for_trace(opened.wait_for_chosen())
    parts = state(folder).rois
    assert made not in parts.ids
    assert parts.area_px[-2:].sum() == found.area_px[:2].sum()


def test_a_line_drawn_through_an_roi_parts_it(opened, folder):
    rois = Result.load(folder / "slice.cocuyo").rois
    opened.press("j")
    y, x = (float(v) for v in rois.centroids[0])
    opened.press("Shift+S")
    mouse = opened.page.mouse
    mouse.click(*opened.place(y, x - 9))
    mouse.click(*opened.place(y, x + 9))
    opened.press("Enter")
    opened.wait_for_edits(1)
    parts = state(folder).rois
    upper, lower = sorted(float(parts.centroids[i, 0]) for i in (-2, -1))
    assert upper < y < lower


def test_a_polygon_is_drawn_with_the_mouse(opened, folder):
    opened.press("d")
    for corner in ((24.5, 20.5), (24.5, 28.5), (32.5, 28.5), (32.5, 20.5)):
        opened.page.mouse.click(*opened.place(*corner))
    opened.press("Enter")
    opened.wait_for_edits(1)
    opened.wait_for_trace(opened.wait_for_chosen())
    (edit,) = edits(folder)
    assert edit.kind == "draw"
    rois = state(folder).rois
    assert rois.area_px[rois.ids.index(edit.roi)] == 64
    assert "new" in opened.text("#chosen")


def test_a_polygon_is_drawn_without_a_mouse(opened, folder):
    opened.press("d", "Space", *["Shift+ArrowRight"], "Space", "Shift+ArrowDown", "Space")
    opened.press("Shift+ArrowLeft", "Space", "Enter")
    opened.wait_for_edits(1)
    opened.wait_for_trace(opened.wait_for_chosen())
    rois = state(folder).rois
    assert 16 <= rois.area_px[-1] <= 36


def test_the_brush_adds_and_erases_and_the_trace_follows_at_once(opened, folder):
    rois = Result.load(folder / "slice.cocuyo").rois
    opened.press("j")
    opened.wait_for_trace(rois.ids[0])
    y, x = (float(v) for v in rois.centroids[0])
    opened.press("b")
    before = opened.page.evaluate("Array.from(window.cocuyo.trace.data.dff)")
    mouse = opened.page.mouse
    mouse.move(*opened.place(y, x + 3))
    mouse.down()
    mouse.move(*opened.place(y, x + 8), steps=4)
    mouse.up()
    opened.wait_for_edits(1)
    opened.wait("!window.cocuyo.store.roi.pending && window.cocuyo.store.roi.shape === 'changed'")
    opened.wait("(old) => window.cocuyo.trace.data.dff?.[40] !== old", before[40])
    larger = state(folder).rois.area_px[0]
    assert larger > rois.area_px[0]
    opened.press("e")
    mouse.move(*opened.place(y, x + 6))
    mouse.down()
    mouse.move(*opened.place(y, x + 8), steps=3)
    mouse.up()
    opened.wait_for_edits(2)
    assert state(folder).rois.area_px[0] < larger
    assert [edit.kind for edit in edits(folder)] == ["reshape", "reshape"]


def test_a_threshold_is_dragged_and_stepped(opened, folder):
    opened.press("j")
    opened.wait_for_trace(opened.chosen)
    found = float(opened.page.input_value("#threshold"))
    opened.press("t")
    opened.wait_for_edits(1)
    assert edits(folder)[0].threshold_sd == pytest.approx(found + 0.25)
    opened.wait("document.getElementById('trace-note').textContent.includes('person')")
    y = opened.page.evaluate(
        """() => {
          const { trace } = window.cocuyo;
          const { top, bottom, low, high } = trace.dogScale;
          return trace.canvas.getBoundingClientRect().top
            + bottom - (trace.data.head.threshold - low) / (high - low) * (bottom - top);
        }"""
    )
    box = opened.page.locator("#plot").bounding_box()
    mouse = opened.page.mouse
    mouse.move(box["x"] + 300, y)
    mouse.down()
    mouse.move(box["x"] + 300, y - 12, steps=4)
    mouse.up()
    opened.wait_for_edits(2)
    assert edits(folder)[1].threshold_sd > edits(folder)[0].threshold_sd
    opened.page.click("#threshold-reset")
    opened.wait_for_edits(3)
    assert edits(folder)[2].threshold_sd is None


def test_the_slider_accepts_from_a_score_on(opened, folder):
    opened.press("l", "End")
    opened.wait_for_edits(1)
    assert edits(folder)[0].score == 1
    assert opened.counts()[0] == state(folder).rois.accepted.sum()


def test_the_list_sorts_and_filters_by_figures(opened, folder):
    rois = Result.load(folder / "slice.cocuyo").rois
    opened.page.select_option("#sort", "snr")
    order = opened.page.evaluate("window.cocuyo.store.listed")
    snr = dict(zip(rois.ids, rois.snr, strict=True))
    assert order == sorted(order, key=lambda name: -snr[name])
    limit = float(np.median(rois.area_px)) + 0.5
    opened.press("/")
    opened.page.keyboard.type(f"area<{limit} roi_")
    listed = opened.page.evaluate("window.cocuyo.store.listed")
    assert set(listed) == {n for n, a in zip(rois.ids, rois.area_px, strict=True) if a < limit}
    opened.press("Enter", "j")
    assert opened.chosen == listed[0]
    opened.page.fill("#filter", "nonsense>1")
    assert opened.page.get_attribute("#filter", "aria-invalid") == "true"


def test_suspects_come_in_the_order_of_the_report_and_judged_ones_no_more(opened, folder):
    result = Result.load(folder / "slice.cocuyo")
    found = find_suspects(
        result.rois,
        result.events.count(len(result.rois)),
        min_score=acceptance_limit(result),
        score_decides=score_decides(result),
    )
    named = zip(found, result.rois.ids, strict=True)
    order = sorted((-one.value, name, one) for one, name in named if one)
    opened.press("n")
    first = opened.chosen
    assert first == order[0][1]
    for reason in order[0][2].reasons:
        assert reason in opened.text("#chosen")
    opened.press("n")
    assert opened.chosen == order[1][1]
    opened.page.evaluate(f"window.cocuyo.store.choose('{first}')")
    opened.press("a")
    opened.wait_for_edits(1)
    opened.press("n")
    assert opened.chosen not in (first, None)


def test_two_windows_show_the_same_and_lose_no_edit(opened, folder):
    other = Page(opened.page.context.new_page(), opened.url)
    opened.press("j", "r")
    opened.wait_for_edits(1)
    other.wait_for_edits(1)
    other.press("j", "j", "r")
    other.wait_for_edits(2)
    opened.wait_for_edits(2)
    assert opened.counts() == other.counts()
    assert len(edits(folder)) == 2
    opened.press("z")
    other.wait_for_edits(3)
    assert other.wrong == []


def test_the_curated_state_is_exported_for_other_programs(opened, folder):
    opened.press("j", "r")
    opened.wait_for_edits(1)
    opened.page.select_option("#export", "labels")
    opened.page.wait_for_selector("text=Written:")
    labels = tifffile.imread(folder / "slice_labels.tif")
    assert labels.max() == state(folder).rois.accepted.sum()
    asked = []
    opened.page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.accept()))
    opened.press("j", "r")
    opened.wait_for_edits(2)
    opened.page.select_option("#export", "labels")
    opened.wait("document.querySelectorAll('.toast').length > 0")
    deadline = time.monotonic() + 20
    while tifffile.imread(folder / "slice_labels.tif").max() == labels.max():
        assert time.monotonic() < deadline
        opened.page.wait_for_timeout(50)
    assert len(asked) == 1
    # The browser notes the refusal that came before the question.
    opened.wrong = [text for text in opened.wrong if "422" not in text]


@pytest.mark.parametrize("width", [1400, 700])
def test_messages_do_not_cover_the_trace(opened, width):
    opened.page.set_viewport_size({"width": width, "height": 900})
    opened.press("j", "r")
    opened.wait_for_edits(1)
    opened.page.select_option("#export", "labels")
    opened.page.wait_for_selector("text=Written:")
    toast = opened.page.locator(".toast").last.bounding_box()
    trace = opened.page.locator("#plot").bounding_box()
    assert toast["y"] + toast["height"] <= trace["y"] or toast["y"] >= trace["y"] + trace["height"]


def test_help_lists_the_keys_and_closes(opened):
    opened.press("?")
    assert "next suspect" in opened.text("#keys")
    opened.press("r")  # not while the help is open
    opened.press("Escape")
    assert not opened.page.is_visible("#keys")
    assert opened.page.evaluate("window.cocuyo.store.history.n_edits") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(opened, scheme):
    opened.page.emulate_media(color_scheme=scheme)
    opened.press("j")
    opened.wait_for_trace(opened.chosen)
    weak = opened.page.evaluate(
        """() => {
          const parse = (text) => text.match(/[\\d.]+/g).map(Number);
          const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
            .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
          const ground = (element) => {
            for (let at = element; at; at = at.parentElement) {
              const colour = parse(getComputedStyle(at).backgroundColor);
              if (colour.length === 3 || colour[3] === 1) return colour;
            }
            return [255, 255, 255];
          };
          const weak = [];
          for (const element of document.querySelectorAll("body *")) {
            const text = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
            const left = ":disabled, #stage, option";
            if (!text || !element.checkVisibility() || element.closest(left)) continue;
            const colours = [parse(getComputedStyle(element).color), ground(element)];
            const [low, high] = colours.map(light).sort((x, y) => x - y);
            const ratio = (high + 0.05) / (low + 0.05);
            const what = `${element.tagName} ${element.textContent.slice(0, 20)}`;
            if (ratio < 4.5) weak.push(`${what} ${ratio.toFixed(2)}`);
          }
          return weak;
        }"""
    )
    assert weak == []


def test_every_control_has_a_name_and_is_reached_by_tab(opened):
    opened.press("j")
    nameless = opened.page.evaluate(
        """() => {
          const kinds = "button, select, input, canvas[tabindex], [role=grid], [role=application]";
          const named = (e) => e.textContent.trim() || e.ariaLabel || e.labels?.length || e.title;
          return [...document.querySelectorAll(kinds)]
            .filter((e) => e.checkVisibility() && !named(e))
            .map((e) => e.outerHTML.slice(0, 80));
        }"""
    )
    assert nameless == []
    reached = set()
    for _ in range(60):
        opened.press("Tab")
        reached.add(
            opened.page.evaluate("document.activeElement.id || document.activeElement.textContent")
        )
    assert {
        "picture",
        "stage",
        "play",
        "scrub",
        "black",
        "plot",
        "score",
        "filter",
        "rows",
    } <= reached


def test_a_narrow_window_has_no_sideways_scrolling(opened):
    opened.page.set_viewport_size({"width": 390, "height": 800})
    opened.press("j")
    opened.wait_for_trace(opened.chosen)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390
    for selector in ("#stage", "#plot", "#rows", "#chosen"):
        assert opened.page.locator(selector).bounding_box()["width"] > 300


def test_when_the_server_is_gone_the_page_says_so(folder, browser):
    result = folder / "slice.cocuyo"
    context = browser.new_context()
    with served(App(result, result=result)) as server:
        page = Page(context.new_page(), server.url)
    page.page.wait_for_selector(".toast.bad")
    assert "does not answer" in page.text("#toasts")
    context.close()


def test_the_page_has_nothing_outside_of_the_package():
    folder = Path(__file__).parents[2] / "src" / "cocuyo" / "server" / "page"
    assert {path.suffix for path in folder.iterdir()} == {".html", ".css", ".js"}
    assert sum(path.stat().st_size for path in folder.iterdir()) < 200_000
