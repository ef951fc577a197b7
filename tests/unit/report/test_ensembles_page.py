"""The page of an ensemble analysis: whole, self-contained, honest where nothing was found."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from planted_ensembles import planted_raster
from synthetic_result import make_result

from cocuyo.population import EnsembleConfig, analyse_population
from cocuyo.report import render_ensembles

VOID = {"meta", "br", "input"}
RECORD = {"name": "slice", "versions": {"cocuyo": "0.1.0"}, "inputs": [{"path": "a<b.h5"}]}


class Balance(HTMLParser):
    """Checks that every element is closed in order."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def page_of(result, raster, **options):
    found = analyse_population(
        raster,
        result.times_s,
        frame_rate_hz=result.frame_rate_hz,
        delta_f_over_f=result.traces.delta_f_over_f[result.rois.accepted],
        config=EnsembleConfig(n_shuffles=100),
        **options,
    )
    return found, render_ensembles(result, found, record=RECORD)


@pytest.fixture(scope="module")
def planted():
    result = make_result(n_rois=50, n_frames=1500, name="<i>slice</i>")
    result = replace(
        result, rois=replace(result.rois, accepted=np.ones(50, np.bool_), reasons=("",) * 50)
    )
    return page_of(
        result,
        planted_raster(seed=1),
        stimuli_s=np.arange(10, 140, 9.0),
        stimulus_labels=("light", "<sham>") * 7 + ("light",),
    )


def expect_well_formed(page):
    checker = Balance()
    checker.feed(page)
    assert checker.open == []
    assert not re.search(r"(?:href|src)=\"(?!data:|#)", page)
    assert "nan" not in re.findall(r"[a-z]+", re.sub(r'href="data:[^"]*"', "", page).lower())


def test_the_page_is_well_formed_and_loads_nothing(planted):
    expect_well_formed(planted[1])


def test_names_are_text_not_markup(planted):
    assert "<i>slice" not in planted[1]
    assert "<sham>" not in planted[1]
    assert "&lt;sham&gt;" in planted[1]


def test_each_ensemble_has_a_map_with_its_core_neurons(planted):
    found, page = planted
    assert len(found.ensembles) == 2
    for number, core in enumerate(found.ensembles.core, start=1):
        assert page.count(f'<path class="core e{number}"') == core.sum()


def test_axes_say_what_they_show_and_in_which_unit(planted):
    for label in (
        "time / s",
        "active neurons",
        "core active",
        "neurons, by ensemble",
        "time from the stimulus / s",
        "ΔF/F₀",
        "correlation",
    ):
        assert f">{label}</text>" in planted[1] or label in planted[1]


def test_stimuli_are_drawn_over_time_and_around_them(planted):
    found, page = planted
    n_used = sum(len(each.times_s) for each in found.stimuli)
    assert page.count("<title>stimulus at ") == n_used
    assert page.count("Around the stimulus") == 2


@pytest.mark.parametrize(("n_rois", "n_frames"), [(0, 60), (1, 60), (2, 3), (3, 1)])
def test_a_page_without_ensembles_says_why(n_rois, n_frames):
    result = make_result(n_rois=n_rois, n_frames=n_frames)
    found, page = page_of(result, result.raster[result.rois.accepted])
    expect_well_formed(page)
    assert "No ensemble was found" in page
    assert found.ensembles.reason in page


def test_no_neuron_with_stimuli_still_gives_a_page():
    result = make_result(n_rois=0)
    _, page = page_of(result, result.raster, stimuli_s=np.array([4.0]))
    expect_well_formed(page)


def test_a_recording_of_unknown_scale_and_many_neurons_has_a_page():
    result = make_result(n_rois=700, n_frames=60, pixel_size_um=None)
    _, page = page_of(result, result.raster[result.rois.accepted])
    expect_well_formed(page)
    assert len(page) < 3_000_000
