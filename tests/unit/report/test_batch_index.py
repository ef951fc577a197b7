"""The index of a batch."""

import base64
import re
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from synthetic_result import make_result

from cocuyo.report import IndexRow, Strip, draw_strip, draw_thumbnail, render_index


@pytest.fixture
def strip():
    return Strip("n_neurons", "neurons", {"a": [("x", 1.0), ("y", 5.0)], "b": [("z", 3.0)]})


def test_every_recording_has_a_row_with_its_figures_and_a_link():
    rows = [
        IndexRow("r1", link="recordings/r1/report.html", figures={"n_neurons": 12}),
        IndexRow("r2", state="failed", reason="empty file"),
        IndexRow("r3", state="to do"),
        IndexRow("r4", warnings=("first", "second")),
    ]
    page = render_index("mine", rows, strips=())
    assert page.count("<tr data-state=") == 4
    assert '<a href="recordings/r1/report.html">r1</a>' in page
    assert '<td class="n" data-v="12">12</td>' in page
    assert page.count("empty file") == 2  # above the table and in it
    assert "second" in page
    assert "<dd>2<small>of 4 recordings" in page
    assert "<dt>not yet done</dt><dd>1" in page


def test_nothing_in_a_name_or_reason_is_taken_as_html_and_nothing_is_loaded():
    bad = '"><script>alert(1)</script>'
    parts = (IndexRow(bad, group=bad),) * 2
    row = IndexRow(bad, bad, bad, state="failed", reason=bad, warnings=(bad,), recordings=parts)
    page = render_index(bad, [row], strips=[Strip("m", bad, {bad: [(bad, 1.0)]})], notes=[bad])
    assert "<script>alert" not in page
    assert not re.search(r'(src|href)="(https?:)?//', page)


def test_columns_for_groups_are_there_only_where_groups_are():
    assert "animal</button>" not in render_index("m", [IndexRow("r")], strips=())
    page = render_index("m", [IndexRow("r", group="g", animal="e")], strips=())
    assert "animal</button>" in page
    assert "<option>g</option>" in page


def test_an_experiment_has_a_line_for_all_and_one_for_each_recording():
    parts = (
        IndexRow(
            "e_1",
            "before",
            figures={"n_active": 7, "field_offset_px": 0.0, "field_correlation": 1.0},
        ),
        IndexRow(
            "e_2",
            "drug",
            figures={"n_active": 3, "field_offset_px": 2.5, "field_correlation": 0.93},
        ),
    )
    rows = [
        IndexRow("e", link="recordings/e/report.html", figures={"n_neurons": 8}, recordings=parts),
        IndexRow("alone", figures={"n_neurons": 2}),
        IndexRow("f", state="failed", reason="b.tif is empty", recordings=(IndexRow("f_1"),) * 3),
    ]
    page = render_index("mine", rows, strips=())
    assert page.count("<tbody>") == 3
    assert page.count('<tr class="part"') == 5
    assert page.count('rowspan="3"') == page.count('rowspan="4"') == 1
    assert "field moved 2.5 px, match 0.93" in page
    assert '<td class="n" data-v="3">3</td>' in page
    assert "<option>before</option><option>drug</option>" in page
    assert "<dd>3<small>of 6 recordings, 5 of them in 2 experiments" in page
    assert "<dt>neurons</dt><dd>10" in page  # those of an experiment count once
    assert "3 recordings could not be analysed" in page


@pytest.mark.parametrize("standalone", [False, True])
def test_a_strip_has_a_point_for_each_unit_and_a_line_at_each_median(strip, standalone):
    picture = ElementTree.fromstring(draw_strip(strip, standalone=standalone))
    every = [e for e in picture.iter() if e.tag.endswith("circle")]
    heights = [float(e.get("cy")) for e in every]
    assert len(every) == 3
    assert heights[1] < heights[2] < heights[0]  # 5 above 3 above 1
    lines = [e.get("d") for e in picture.iter() if e.get("class") == "middle"]
    assert len(lines) == 2
    assert float(lines[0].split()[1].split("h")[0]) == pytest.approx(heights[2], abs=0.2)  # both 3


def test_a_unit_in_two_groups_has_a_line_through_its_points():
    strip = Strip("m", "m", {"before": [("s1", 1.0), ("s2", 3.0)], "drug": [("s2", 2.0)]})
    picture = ElementTree.fromstring(draw_strip(strip, standalone=True))
    (line,) = (e.get("d") for e in picture.iter() if e.get("class") == "pair")
    points = [f"{e.get('cx')} {e.get('cy')}" for e in picture.iter() if e.tag.endswith("circle")]
    assert line == f"M{points[1]}L{points[2]}"


def test_equal_values_lie_side_by_side():
    strip = Strip("m", "m", {"a": [(str(i), 2.0) for i in range(5)]})
    xs = re.findall(r'cx="([\d.]+)"', draw_strip(strip))
    assert len(set(xs)) == 5


def test_a_thumbnail_shows_the_field_with_the_outlines_of_accepted_rois():
    result = make_result()
    data = base64.b64decode(draw_thumbnail(result).partition(",")[2])
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).astype(int)
    assert max(picture.shape[:2]) == 144
    assert len(data) < 15_000
    yellow = (picture[..., 1] - picture[..., 0]) > 60
    assert yellow.any()
