"""While the recording runs: ROIs keep their ids, traces and events know nothing of the future."""

import numpy as np
import pytest
from fake_engine import FakeEngine
from flashing_movie import ACTIVE, DIAMETER_PX, RATE_HZ, SHAPE, SILENT, make_movie

from cocuyo.core import FLAG_INVALID
from cocuyo.pipeline import PRESETS, load_model
from cocuyo.pipeline.analysis import FirstPass, network_shape
from cocuyo.pipeline.provisional import (
    CausalTraces,
    Provisional,
    ProvisionalConfig,
    ProvisionalRoi,
)
from cocuyo.pipeline.stream import set_up
from cocuyo.preprocessing import MotionConfig
from cocuyo.segmentation import load_engine
from cocuyo.simulation import PRESETS as SIMULATIONS
from cocuyo.simulation import simulate

CONFIG = PRESETS["default"].model_copy(update={"motion": MotionConfig(method="none")})
QUICK = ProvisionalConfig(refresh_s=2.0, warm_up_s=2.0)
N_FRAMES = 360


@pytest.fixture(scope="module")
def movie():
    return make_movie(n_frames=N_FRAMES)


@pytest.fixture
def begin(movie):
    """Begin analyses of movies; let their threads end."""
    begun = []

    def start(rois=(), frames=None, config=CONFIG):
        recording = movie.recording(None if frames is None else frames)
        setup = set_up(recording, config=config, diameter_px=DIAMETER_PX)
        engine = None if config.method == "blobs" else FakeEngine(SHAPE, diameter_px=DIAMETER_PX)
        first = FirstPass(setup, engine, frame_shape=SHAPE)
        begun.append(Provisional(first, QUICK, list(rois)))
        return begun[-1]

    yield start
    for each in begun:
        each.close()


def follow(provisional, frames, *, look=lambda: None):
    """Push frames, and search after each as long as something is to do."""
    reports = []
    for frame in frames:
        reports.append(provisional.push(frame))
        provisional._settle()
        while provisional.search() is False:
            pass
        look()
    return reports


def roi_at(rois, centre):
    """The accepted ROI that covers a place, if any."""
    flat = centre[0] * SHAPE[1] + centre[1]
    found = [roi for roi in rois if roi.accepted and flat in roi.pixels]
    assert len(found) <= 1
    return found[0] if found else None


def test_cells_are_found_when_they_have_flashed_and_silent_ones_are_not(begin, movie):
    provisional = begin()
    follow(provisional, movie.frames)
    provisional.finish()
    masks = {}
    for i, centre in enumerate(ACTIVE):
        roi = roi_at(provisional.rois, centre)
        onsets = np.flatnonzero(np.diff(movie.courses[i]) > 0.5) + 1
        # Flashes before are in the first baseline: some are seen, some are not.
        latest = onsets[onsets > CONFIG.first_frames][0] + 4 * RATE_HZ
        assert onsets[0] <= roi.found_at <= latest
        mask = np.zeros(SHAPE, np.bool_)
        mask.ravel()[roi.pixels] = True
        masks[centre] = mask
        # The fake's probability is a peak, narrower than the cell: all of the ROI lies in the
        # cell, not the other way round.
        assert (mask & movie.masks[i]).sum() > 0.95 * mask.sum()
        assert (mask & movie.masks[i]).sum() > 0.4 * movie.masks[i].sum()
    assert all(roi_at(provisional.rois, centre) is None for centre in SILENT)


def test_with_the_shipped_networks_outlines_are_those_of_the_cells():
    settings = SIMULATIONS["demo"].model_copy(
        update={"n_frames": 200, "n_rows": 128, "n_columns": 128}
    )
    simulation = simulate(settings, seed=5804)
    recording, model = simulation.recording(), load_model("default")
    config = model.settings.pipeline
    setup = set_up(
        recording,
        config=config,
        diameter_px=settings.soma_diameter_um / settings.pixel_size_um,
    )
    shape = recording.frame_shape
    engine = load_engine(
        model.folder,
        config.networks,
        frame_shape=network_shape(shape, setup.factor),
        precision="f32",
        n_threads=1,
    )
    provisional = Provisional(FirstPass(setup, engine, frame_shape=shape), QUICK, [])
    try:
        follow(provisional, simulation.frames)
        provisional.finish()
    finally:
        provisional.close()
    truth = simulation.truth
    cells = truth.cell_masks()[np.flatnonzero(truth.functional)].toarray()
    best = np.zeros(len(cells))
    for roi in provisional.rois:
        if roi.accepted:
            mask = np.zeros(cells.shape[1], np.bool_)
            mask[roi.pixels] = True
            best = np.maximum(best, (cells & mask).sum(axis=1) / (cells | mask).sum(axis=1))
    assert len(best) >= 5
    assert np.median(best) > 0.6


@pytest.mark.parametrize("preset", ["srname", "paper"])
def test_the_other_presets_find_cells_too(begin, movie, preset):
    config = PRESETS[preset].model_copy(update={"motion": MotionConfig(method="none")})
    provisional = begin(config=config)
    follow(provisional, movie.frames[:200])
    provisional.finish()
    assert sum(roi_at(provisional.rois, centre) is not None for centre in ACTIVE) >= 3


def test_an_roi_keeps_its_id(begin, movie):
    provisional, seen = begin(), {}

    def look():
        for roi in provisional.rois:
            seen.setdefault(roi.id, []).append(roi.pixels)

    follow(provisional, movie.frames, look=look)
    assert len(seen) == len(provisional.rois) >= len(ACTIVE)
    for drawn in seen.values():
        first, last = set(drawn[0].tolist()), set(drawn[-1].tolist())
        assert len(first & last) >= 0.3 * min(len(first), len(last))
    assert [roi.id for roi in provisional.rois] == [f"roi_{i + 1:04d}" for i in range(len(seen))]


def test_rois_known_before_keep_their_ids(begin, movie):
    flat = np.flatnonzero(movie.masks[3]).astype(np.int32)
    known = ProvisionalRoi("roi_0001", flat, 0.9, 17, accepted=True)
    provisional = begin([known])
    reports = follow(provisional, movie.frames)
    assert reports[0].ids == ("roi_0001",)
    assert roi_at(provisional.rois, ACTIVE[3]).id == "roi_0001"
    assert roi_at(provisional.rois, ACTIVE[3]).found_at == 17


def test_events_are_told_at_the_flashes_and_only_there(begin, movie):
    provisional = begin()
    reports = follow(provisional, movie.frames)
    told = [event for report in reports for event in report.events]
    assert provisional.n_events == len(told) >= 5
    assert [event.frame for event in told] == sorted(event.frame for event in told)
    for event in told:
        assert event.onset <= event.frame
        away = [np.hypot(event.y_px - y, event.x_px - x) for y, x in ACTIVE]
        course = movie.courses[int(np.argmin(away))]
        assert min(away) < 3
        assert course[event.frame] > 0.2
        assert course[event.onset - 3] < course[event.frame]
    late = [
        (i, int(onset))
        for i, course in enumerate(movie.courses)
        for onset in np.flatnonzero(np.diff(course) > 0.5) + 1
        if onset > 240
    ]
    hit = sum(any(0 <= event.frame - onset <= 4 for event in told) for _, onset in late)
    assert hit >= 0.8 * len(late)


def test_traces_and_events_know_nothing_of_the_future(begin, movie):
    half = follow(begin(), movie.frames[:250])
    other = movie.frames.copy()
    other[250:] = movie.frames[: N_FRAMES - 250][::-1]
    for kept, whole in zip(half, follow(begin(), other), strict=False):
        np.testing.assert_array_equal(kept.delta_f_over_f, whole.delta_f_over_f)
        assert kept.ids == whole.ids
        assert kept.events == whole.events


def test_traces_follow_the_courses(begin, movie):
    provisional = begin()
    reports = follow(provisional, movie.frames)
    roi = roi_at(provisional.rois, ACTIVE[0])
    values = {
        report.frame: report.delta_f_over_f[report.ids.index(roi.id)]
        for report in reports
        if roi.id in report.ids
    }
    known = [frame for frame, value in values.items() if np.isfinite(value)]
    found, true = [values[frame] for frame in known], movie.courses[0][known]
    assert len(known) > 200
    assert np.corrcoef(found, true)[0, 1] > 0.9


def test_frames_without_values_have_no_traces_and_no_events(begin, movie):
    frames = movie.frames.copy()
    frames[300:303] = np.nan
    reports = follow(begin(), frames)
    for report in reports[300:303]:
        assert report.flags & FLAG_INVALID
        assert np.isnan(report.delta_f_over_f).all()
        assert len(report.delta_f_over_f) == len(report.ids) > 0
        assert report.events == ()
    assert np.isfinite(reports[303].delta_f_over_f).any()


def test_the_first_pass_beside_the_search_is_that_of_the_whole(begin, movie):
    provisional = begin()
    for frame in movie.frames[:123]:  # nobody waits for the networks here
        provisional.push(frame)
        provisional.search()
    provisional.finish()
    alone = FirstPass(
        provisional.first.setup, FakeEngine(SHAPE, diameter_px=DIAMETER_PX), frame_shape=SHAPE
    )
    alone.push(movie.frames[:123])
    alone.end()
    found, expected = provisional.first.analysis(), alone.analysis()
    np.testing.assert_array_equal(found.maps.probability, expected.maps.probability)
    np.testing.assert_array_equal(found.maps.peaks, expected.maps.peaks)


def test_what_goes_wrong_in_the_networks_is_raised(begin, movie):
    provisional = begin()

    def fail(image):
        raise ZeroDivisionError

    provisional.first.engine.segment = fail
    with pytest.raises(ZeroDivisionError):
        follow(provisional, movie.frames[:60])


def noise(n_rois, n_frames, seed=0):
    random = np.random.default_rng(seed)
    cells = 1000 + random.normal(0, 5, (n_rois, n_frames))
    rings = 900 + random.normal(0, 1, (n_rois, n_frames))
    return cells.astype(np.float32), rings.astype(np.float32)


def causal():
    return CausalTraces(CONFIG, rate_hz=20.0, provisional=QUICK)


def run(traces, cells, rings):
    return [traces.push(c, r, t) for t, (c, r) in enumerate(zip(cells.T, rings.T, strict=True))]


def test_noise_has_hardly_any_events():
    traces = causal()
    traces.choose([f"roi_{i}" for i in range(50)])
    events = [event for _, found in run(traces, *noise(50, 1200)) for event in found]
    minutes = 50 * 1200 / 20 / 60
    assert len(events) < 2 * minutes  # the default filter: one false event a minute at most


def test_a_step_of_the_surround_is_no_event_of_the_cell():
    cells, rings = noise(3, 800)
    haze = np.where(np.arange(800) % 160 > 120, 60, 0)
    traces = causal()
    traces.choose(["a", "b", "c"])
    events = [event for _, found in run(traces, cells + haze, rings + haze) for event in found]
    late = [event for event in events if event[1] > 320]
    assert len(late) <= 1


def test_other_rois_leave_the_traces_of_those_that_stay():
    cells, rings = noise(3, 400)
    cells[:, 300:305] += 80
    alone, changing = causal(), causal()
    alone.choose(["b"])
    changing.choose(["b"])
    expected = run(alone, cells[1:2], rings[1:2])
    found = []
    for t in range(400):
        if t == 150:
            changing.choose(["a", "b", "c"])
        which = slice(1, 2) if t < 150 else slice(0, 3)
        found.append(changing.push(cells[which, t], rings[which, t], t))
    for t, ((value, _), (wanted, _)) in enumerate(zip(found, expected, strict=True)):
        # The levels are estimated at times that depend on the place in the list.
        np.testing.assert_allclose(value[0 if t < 150 else 1], wanted[0], atol=0.01)
    assert any(i == 1 for _, events in found for i, _, _ in events)


def test_a_redrawn_roi_begins_anew():
    cells, rings = noise(1, 200)
    traces = causal()
    traces.choose(["a"])
    run(traces, cells, rings)
    traces.choose(["a"], anew=["a"])
    assert np.isnan(traces.push(cells[:, 0], rings[:, 0], 200)[0]).all()
