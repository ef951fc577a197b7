"""The report in a browser: a file on disk, with nothing behind it."""

import pytest
from synthetic_result import make_result

from cocuyo.report import write_report


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return write_report(make_result(), tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(params=["light", "dark"])
def page(report, browser, request):
    """The report, opened."""
    context = browser.new_context(
        viewport={"width": 1300, "height": 900}, color_scheme=request.param, offline=True
    )
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
    page.goto(report.as_uri())
    yield page
    assert wrong == []
    context.close()


def ink(page, selector):
    """The pixels of a canvas that are drawn, and a sum over all that changes with any."""
    return page.evaluate(
        """(selector) => {
          const canvas = document.querySelector(selector);
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          let drawn = 0, sum = 0;
          for (let i = 0; i < data.length; i += 4) {
            drawn += data[i + 3] > 0;
            sum = (sum * 31 + data[i] + 7 * data[i + 1] + 13 * data[i + 2]) % 1000003;
          }
          return [drawn, sum];
        }""",
        selector,
    )


def at_row(page, roi, kind="rect.row"):
    """Bring a row into view; scrolling hides the card, so wait until it is over."""
    row = page.locator(f'{kind}[data-roi="{roi}"]')
    row.scroll_into_view_if_needed()
    page.wait_for_timeout(100)
    return row


def test_the_pointer_over_a_row_shows_the_cell_on_the_map_and_its_trace(page):
    peek = page.locator("#peek")
    assert peek.is_hidden()
    seen = []
    for roi, name in ((0, "1 · roi_0001"), (2, "3 · roi_0003")):
        at_row(page, roi).hover()
        assert peek.is_visible()
        assert peek.locator("b").inner_text() == name
        outline = page.locator(f'svg.field path.roi[data-roi="{roi}"]').get_attribute("d")
        assert peek.locator("path.roi").first.get_attribute("d") == outline
        # Outline, number, row of raster and of table, and the line among the suspects if it is one.
        suspect = page.locator(f'#suspects li[data-roi="{roi}"]').count()
        assert page.locator(".hovered").count() == 4 + suspect
        drawn, trace = ink(page, "#peek canvas")
        assert drawn > 500
        seen.append(trace)
    assert seen[0] != seen[1]
    ring = peek.locator(".ring").bounding_box()
    path = peek.locator("path.roi").first.bounding_box()
    for low, size in (("x", "width"), ("y", "height")):
        assert ring[low] < path[low]
        assert path[low] + path[size] < ring[low] + ring[size]
    page.mouse.move(2, 2)
    assert peek.is_hidden()
    assert page.locator(".hovered").count() == 0


def test_the_card_stays_within_the_window_wherever_the_pointer_is(page):
    row = at_row(page, 3).bounding_box()
    for part in (0.01, 0.5, 0.99):
        page.mouse.move(row["x"] + part * row["width"], row["y"] + row["height"] / 2)
        box = page.locator("#peek").bounding_box()
        assert box["x"] >= 0
        assert box["y"] >= 0
        assert box["x"] + box["width"] <= 1300
        assert box["y"] + box["height"] <= 900


def test_a_suspect_is_shown_by_the_pointer_and_its_trace_kept_by_a_click_or_a_key(page):
    lines = page.locator("#suspects li")
    assert lines.count() >= 2
    lines.first.hover()
    name = lines.first.locator("strong").inner_text()
    assert page.locator("#peek b").inner_text() == name
    lines.first.click()
    assert page.locator("#about").inner_text().startswith(name)
    lines.nth(1).focus()
    page.keyboard.press("Enter")
    second = lines.nth(1).locator("strong").inner_text()
    assert page.locator("#about").inner_text().startswith(second)
    assert "chosen" in lines.nth(1).get_attribute("class")


def test_a_rejected_candidate_of_the_table_is_seen_too(page):
    at_row(page, 4, "#table tr.no").hover()
    assert page.locator("#peek path.roi.no").first.is_visible()
    assert "rejected" in page.locator("#peek p").inner_text()


def test_a_click_keeps_the_trace_and_the_arrow_keys_go_on(page):
    at_row(page, 2).click()
    assert page.locator("#about").inner_text().startswith("3 · roi_0003")
    page.keyboard.press("ArrowRight")
    assert page.locator("#about").inner_text().startswith("4 · roi_0004")


def test_counts_and_flags_are_drawn_on_demand_only(page):
    height = page.locator("#plot").bounding_box()["height"]
    plain = ink(page, "#plot")
    page.check("#show-flags")
    assert page.locator("#flag-keys").inner_text().split() == ["not", "placed", "flash"]
    flagged = ink(page, "#plot")
    assert flagged != plain
    page.uncheck("#show-flags")
    assert ink(page, "#plot") == plain
    page.check("#show-counts")
    assert page.locator("#plot").bounding_box()["height"] > height + 100
    page.uncheck("#show-counts")
    assert ink(page, "#plot") == plain


def test_paper_is_light_and_holds_the_plot_in_its_shape(page):
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print", color_scheme="light")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    light = page.evaluate(
        "[...document.getElementById('plot').getContext('2d').getImageData(200, 30, 1, 1).data]"
    )
    assert light[:3] == [255, 255, 255]
    page.set_viewport_size({"width": 700, "height": 900})
    shown = page.locator("#plot").bounding_box()
    drawn = page.evaluate("document.getElementById('plot').width") / page.evaluate(
        "document.getElementById('plot').height"
    )
    assert shown["width"] / shown["height"] == pytest.approx(drawn, rel=0.02)
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_a_narrow_window_has_no_sideways_scrolling(page):
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
