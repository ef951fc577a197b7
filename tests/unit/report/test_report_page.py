"""The report says what a result holds, safely, within its size, whatever the result."""

import base64
import dataclasses
import html.parser
import json
import re

import numpy as np
import pytest
from synthetic_result import BORDER, make_experiment, make_result

import cocuyo.report.page as page_module
from cocuyo.core import FLAG_UNPLACED, Events, RoiSet, Traces
from cocuyo.report import render_report, write_report
from cocuyo.report.figures import raster_figure

VOID = {"meta", "input", "br", "img", "link", "hr"}


class Reader(html.parser.HTMLParser):
    """Collects elements and checks that every one is closed."""

    def __init__(self):
        super().__init__()
        self.open, self.elements, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)


def read(page):
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return reader


def text_of(page):
    return re.sub(r"\s+", " ", " ".join(read(page).text))


def data_of(page):
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(match.group(1))


def without_rois(result):
    return dataclasses.replace(
        result,
        rois=RoiSet.empty(result.rois.frame_shape),
        traces=Traces.empty(result.n_frames),
        raster=np.zeros((0, result.n_frames), np.bool_),
        events=Events.empty(),
    )


def with_rois(result, **changes):
    return dataclasses.replace(result, rois=dataclasses.replace(result.rois, **changes))


def test_the_page_states_the_counts_rate_size_and_reasons():
    result = with_rois(make_result(), reasons=("", "", "", "", "area 9 px < 20 px (small)", ""))
    text = text_of(render_report(result))
    for words in (
        "slice 1",
        "of 6 candidates",
        "120 frames",
        "10 Hz",
        "1.5 µm",
        "1 area … px < … px",
        "rejected: area 9 px < 20 px (small)",
        "roi_0001",
        "largest shift",
        "2 of 120 frames could not be placed",
    ):
        assert words in text, words


def test_a_missing_pixel_size_is_said_and_draws_no_scale_bar():
    page = render_report(make_result(pixel_size_um=None))
    assert "not known" in text_of(page)
    assert "soma diameter used: 8.0 px (see the notes)" in text_of(page)
    assert 'class="scale"' not in page
    assert "10 µm" in render_report(make_result(pixel_size_um=1.0))


def test_warnings_and_notes_are_on_the_page():
    text = text_of(render_report(make_result(warnings=("It is dim.",), notes=("Grey taken.",))))
    assert "Warnings It is dim." in text
    assert "Notes Grey taken." in text


def test_nothing_on_the_page_comes_from_outside():
    page = render_report(make_result())
    for _, attributes in read(page).elements:
        for name in ("src", "href", "xlink:href", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/"))
    assert "http" not in re.sub(r"http-equiv", "", page)
    assert "@import" not in page
    assert "url(" not in page
    assert "default-src 'none'" in page


EVIL = '</script><script>alert("1")</script><img src=x onerror=alert(2)>&\'"'


def test_no_text_of_the_user_becomes_markup():
    result = make_result(name=EVIL, warnings=(EVIL,), notes=(EVIL,))
    rois = {"ids": (EVIL, *result.rois.ids[1:]), "reasons": ("", "", "", "", EVIL, "")}
    info = dataclasses.replace(
        result.info,
        preset=EVIL,
        model=EVIL,
        engine=EVIL,
        settings={EVIL: EVIL},
        versions={EVIL: EVIL},
        timings_s={EVIL: 1.0},
        inputs=({"path": EVIL},),
    )
    plain = read(render_report(make_result()))
    page = render_report(dataclasses.replace(with_rois(result, **rois), info=info))
    evil = read(page)
    for tag in ("script", "img"):
        assert [t for t, _ in evil.elements].count(tag) == [t for t, _ in plain.elements].count(tag)
    assert not any("onerror" in attributes for _, attributes in evil.elements)
    assert data_of(page)["rois"][0]["name"] == f"1 · {EVIL}"


def test_a_result_without_candidates_explains_what_to_try():
    page = render_report(without_rois(make_result()))
    text = text_of(page)
    assert "No neuron was accepted" in text
    assert "--frame-rate" in text
    assert "--diameter" in text
    assert data_of(page)["rois"] == []
    assert 'id="viewer"' not in page
    assert 'id="table"' not in page


def test_a_result_with_rejected_candidates_only_shows_them_and_their_traces():
    result = make_result()
    none = with_rois(result, accepted=np.zeros(6, np.bool_), reasons=("edge not sharp",) * 6)
    page = render_report(none)
    assert "6 candidates were found and none was accepted" in text_of(page)
    assert len(data_of(page)["rois"]) == 6
    assert page.count('<tr data-roi="') == 6


def test_every_accepted_roi_has_an_outline_a_number_and_a_row_of_the_raster():
    page = render_report(make_result())
    for kind in ('class="number" data-roi', 'class="row" data-roi', 'class="roi yes" data-roi'):
        assert page.count(kind) == 5, kind
    assert page.count('class="roi no" data-roi') == 1


@pytest.mark.parametrize(("n_rois", "is_tall"), [(60, False), (1000, True)])
def test_rows_of_the_raster_are_high_enough_to_be_seen_and_many_of_them_scroll(n_rois, is_tall):
    drawn = raster_figure(make_result(n_rois=n_rois))
    heights = [float(height) for height in re.findall(r'class="row" .*? height="([\d.]+)"', drawn)]
    assert len(heights) == 0.8 * n_rois
    assert min(heights) >= 4
    assert ('class="scroll tall" tabindex="0"' in drawn) == is_tall
    assert drawn.count(">time / s<") == (2 if is_tall else 1)


def test_the_viewer_gets_activity_in_seconds_and_the_threshold():
    result = make_result()
    entry = data_of(render_report(result))["rois"][0]
    active = np.flatnonzero(np.diff(np.concatenate([[0], result.raster[0], [0]])))
    assert entry["runs"][0] == pytest.approx([active[0] / 10, active[1] / 10])
    assert entry["threshold"] == 3.5


def test_the_viewer_gets_counts_and_flagged_frames_too():
    result = make_result()
    data = data_of(render_report(result))
    codes = np.frombuffer(base64.b64decode(data["counts"]["codes"]), "<u2").reshape(6, 2, 120)
    for roi in (0, 4):
        place = [entry["roi"] for entry in data["rois"]].index(roi)
        for which, signal in enumerate((result.traces.raw, result.traces.neuropil)):
            low, high = data["counts"]["ranges"][place][2 * which : 2 * which + 2]
            values = low + (high - low) * codes[place, which] / 65534
            np.testing.assert_allclose(values, signal[roi], atol=1e-3 * (high - low), rtol=0)
    assert data["unplaced"] == [[3.0, 3.2]]
    assert data["flash"] == [[4.8, 4.9]]


def test_irregular_times_place_activity_by_the_clock():
    result = make_result()
    times = np.cumsum(np.linspace(0.05, 0.4, 120))
    result = dataclasses.replace(result, times_s=times - times[0])
    start = int(np.flatnonzero(result.raster[0])[0])
    entry = data_of(render_report(result))["rois"][0]
    assert entry["runs"][0][0] == pytest.approx(result.times_s[start], abs=1e-4)


def test_values_that_are_not_finite_do_not_break_the_page():
    result = make_result()
    broken = result.traces.delta_f_over_f.copy()
    broken[0] = np.nan
    broken[1, 3:9] = np.inf
    shifts = result.motion.shifts.copy()
    shifts[5:9] = np.nan
    nothing = np.full(6, np.nan, np.float32)
    result = dataclasses.replace(
        with_rois(result, score=nothing, snr=nothing),
        traces=dataclasses.replace(result.traces, delta_f_over_f=broken, threshold=nothing),
        motion=dataclasses.replace(result.motion, shifts=shifts),
        probability=np.full_like(result.probability, np.nan),
        projections={"mean": np.full_like(result.probability, 7.0)},
    )
    page = render_report(result)
    assert "nan" not in re.sub(r'"codes":"[^"]*"', "", text_of(page).lower())
    assert data_of(page)["rois"][0]["threshold"] is None


@pytest.mark.parametrize("n_frames", [1, 2, 3])
def test_a_recording_of_few_frames_has_a_report(n_frames):
    read(render_report(make_result(n_frames=n_frames, n_rois=2)))


def test_a_long_recording_has_an_axis_in_minutes_beside_the_seconds():
    short, long = make_result(), make_result(n_frames=700, frame_rate_hz=1.0)
    assert "below in min" not in render_report(short)
    assert "below in min" in render_report(long)


def test_frames_that_were_not_placed_are_marked_in_the_shifts():
    result = make_result()
    page = render_report(result)
    assert page.count('<rect class="unplaced"') == 1  # two frames, one after the other
    flags = np.zeros(120, np.uint8)
    flags[::2] = FLAG_UNPLACED
    motion = dataclasses.replace(result.motion, flags=flags)
    page = render_report(dataclasses.replace(result, motion=motion))
    assert page.count('<rect class="unplaced"') == 60


def test_the_page_keeps_its_size_and_says_what_it_leaves_out(monkeypatch):
    monkeypatch.setattr(page_module, "MAX_TRACES", 20)
    monkeypatch.setattr(page_module, "MAX_ROWS", 30)
    monkeypatch.setattr(page_module, "_TRACE_BYTES", 40_000)
    result = make_result(n_rois=40, n_frames=5000, frame_shape=(90, 120))
    page = render_report(result)
    data = data_of(page)
    assert len(data["rois"]) == 20
    assert len(data["traces"]["codes"]) <= 40_000 * 4 / 3 + 4
    assert data["traces"]["framesPerBin"] > 1
    text = text_of(page)
    assert "Traces of 20 of 40 candidates are in this page" in text
    assert "30 of 40 are shown" in text


def test_the_limit_holds_for_noise_everywhere():
    # The worst for every part: noisy pictures, activity that never rests, long reasons.
    rng = np.random.default_rng(0)
    result = make_result(n_rois=60, n_frames=4000, frame_shape=(300, 420), radius_px=3)
    raster = rng.random(result.raster.shape) < 0.5
    noisy = {name: rng.random((300, 420), np.float32) for name in result.projections}
    result = dataclasses.replace(
        with_rois(result, reasons=("x" * 5000,) * 60), raster=raster, projections=noisy
    )
    page = render_report(result)
    assert len(page.encode()) < 6_000_000
    assert max(len(entry["runs"]) for entry in data_of(page)["rois"]) <= 300


def test_the_file_is_the_page(tmp_path):
    path = write_report(make_result(), tmp_path / "report.html")
    assert path.read_text("utf-8").startswith("<!doctype html>")


def test_a_name_that_is_not_unicode_can_be_written(tmp_path):
    path = write_report(make_result(name="slice\udcff"), tmp_path / "report.html")
    assert "slice?" in path.read_text("utf-8")


def given(result):
    """Make its ROIs given ones, the last one without pixels and so without traces."""
    footprints = result.rois.footprints.tolil()
    footprints[len(result.rois) - 1] = 0
    rois = RoiSet.given(footprints.tocsr(), result.rois.frame_shape, ids=result.rois.ids)
    traces = {}
    for field in dataclasses.fields(Traces):
        traces[field.name] = getattr(result.traces, field.name).copy()
        traces[field.name][-1] = np.nan
    return dataclasses.replace(
        result,
        rois=rois,
        traces=Traces(**traces),
        info=dataclasses.replace(result.info, task="extract"),
    )


def test_the_page_of_given_rois_speaks_of_them_and_shows_neither_score_nor_probability():
    page = render_report(given(make_result()))
    text = text_of(page)
    for words in ("ROIs in view 5 of 6 given", "Given ROIs", "has no pixel in the frame"):
        assert words in text
    for words in ("score", "network probability", "candidate", "neuron"):
        assert words not in text.partition("Complete settings")[0]


def test_a_given_roi_without_pixels_has_a_row_and_no_outline():
    page = render_report(given(make_result()))
    rows = [a["data-roi"] for tag, a in read(page).elements if tag == "tr" and "data-roi" in a]
    paths = [a for tag, a in read(page).elements if tag == "path" and "data-roi" in a]
    assert "5" in rows
    assert [a["data-roi"] for a in paths] == ["0", "1", "2", "3", "4"]
    assert "NaN" not in json.dumps(data_of(page))


def test_a_page_without_a_given_roi_in_view_says_where_to_look():
    result = given(make_result())
    text = text_of(render_report(with_rois(result, accepted=np.zeros(6, np.bool_))))
    assert "No ROI is in view" in text
    assert "frame rate:" not in text


# --- Experiments -------------------------------------------------------------------------------


def test_the_recordings_of_an_experiment_are_listed_and_their_borders_drawn():
    result = make_experiment()
    page = render_report(result)
    text = text_of(page)
    assert "Recordings of the experiment" in text
    first, second = result.parts
    shown = int((result.rois.accepted & second.in_view(result.rois)).sum())
    assert f"b 0 to {first.stop - 1} 0 +0.0 down, +0.0 right 1.00 2" in text
    assert f"a {BORDER} to 119 7 +1.5 down, −2.2 right 0.88 2 {shown}" in text
    assert data_of(page)["borders"] == [result.times_s[BORDER]]
    assert page.count('class="border"') == 2
    assert "mean of a, corrected" in text


def test_a_single_recording_has_no_list_and_no_border():
    page = render_report(make_result())
    assert "Recordings of the experiment" not in page
    assert data_of(page)["borders"] == []
    assert 'class="border"' not in page


def test_names_of_recordings_are_text():
    result = make_experiment(("<b>", "a & b"))
    assert "<b>" not in render_report(result).replace("<b>1</b>", "")
    assert "a & b" in text_of(render_report(result))


def test_events_found_in_phase_randomised_traces_stand_beside_the_real_ones():
    result = make_result()
    figures = {"at_rest_per_min": 0.125, "whole_per_min": 9.0}
    info = dataclasses.replace(result.info, false_events=figures)
    text = text_of(render_report(dataclasses.replace(result, info=info)))
    assert "a minute each, 0.12 in phase-randomised traces at rest" in text
    assert "phase-randomised" not in text_of(render_report(result))
    nothing = dataclasses.replace(without_rois(result), info=info)
    assert "phase-randomised" not in text_of(render_report(nothing))


def with_limit(result, *, scores, min_score=0.5):
    """A result of the default model with given scores."""
    info = dataclasses.replace(result.info, settings={"verification": {"min_score": min_score}})
    return dataclasses.replace(
        result, info=info, rois=dataclasses.replace(result.rois, score=np.array(scores, "f4"))
    )


def test_the_most_doubtful_rois_are_listed_first_with_their_reasons():
    result = with_limit(make_result(), scores=(0.99, 0.52, 0.99, 0.75, 0.45, 0.99))
    page = render_report(result)
    listed = re.search(r'<section id="suspects">.*?</section>', page, re.DOTALL)[0]
    named = re.findall(r'<li data-roi="(\d+)"', listed)
    near = [roi for roi in named if roi in "134"]
    assert near == ["1", "4", "3"]
    assert "score 0.52 is near the limit of 0.50" in listed
    assert "rejected, but its score 0.45 is near the limit of 0.50 (edge not sharp" in listed


def test_no_more_suspects_are_listed_than_a_person_looks_at():
    result = with_limit(make_result(n_rois=60), scores=np.linspace(0.5, 0.8, 60))
    listed = re.search(r'<section id="suspects">.*?</section>', render_report(result), re.DOTALL)[0]
    assert listed.count("<li ") == 15
    assert re.search(r"[34]\d more follow there", listed)


def test_a_page_without_doubtful_rois_says_so_and_one_without_rois_nothing():
    result = with_limit(make_result(n_rois=1), scores=(1.0,))
    assert "No ROI stands out" in render_report(result)
    assert '<section id="suspects">' not in render_report(make_result(n_rois=0))
