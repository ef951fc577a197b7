"""Cells that are easily got wrong, in a movie of known cells, with the shipped default model."""

import numpy as np
import pytest
from flashing_movie import DIAMETER_PX, RATE_HZ, disc, transients
from scipy import ndimage

from cocuyo.core import Recording, RoiSet, find_suspects
from cocuyo.pipeline import derived_traces, extract, segment

SHAPE = (112, 120)
N_FRAMES = 320
FULL = 1900.0  # counts at which the camera is full
APART_PX = DIAMETER_PX + 0.5
PLACES = {
    "left twin": (24.0, 30.0),
    "right twin": (24.0, 30.0 + APART_PX),
    "at the edge": (3.0, 80.0),
    "saturated": (60.0, 24.0),
    "fires once": (60.0, 60.0),
    "always active": (60.0, 96.0),
    "usual": (92.0, 30.0),
    "another": (92.0, 64.0),
    "third": (92.0, 98.0),
}
ONSETS = {
    "left twin": (40, 130, 220),
    "right twin": (75, 170, 270),
    "at the edge": (50, 140, 240),
    "saturated": (60, 150, 250),
    "fires once": (180,),
    "always active": tuple(range(8, N_FRAMES - 8, 16)),
    "usual": (90, 160, 230),
    "another": (65, 200, 285),
    "third": (110, 190, 260),
}
SILENT = ((40.0, 90.0), (44.0, 45.0), (76.0, 45.0), (76.0, 82.0))


def film(*, n_frames=N_FRAMES, light=None, noise_counts=12.0, seed=0):
    """Discs on uneven tissue; the camera is full at `FULL` counts."""
    random = np.random.default_rng(seed)
    texture = ndimage.gaussian_filter(random.standard_normal(SHAPE), 3)
    still = 1000 * (1 + 0.05 * texture / texture.std())
    cells = np.array([disc(place, DIAMETER_PX / 2, SHAPE) for place in PLACES.values()])
    seen = sum(disc(place, DIAMETER_PX / 2, SHAPE) for place in SILENT)
    still = still * (1 + 0.2 * (cells.sum(axis=0) + seen))
    courses = np.array(
        [transients(n_frames, [o for o in own if o < n_frames]) for own in ONSETS.values()]
    )
    heights = np.where(np.array(list(PLACES)) == "saturated", 1500.0, 350.0)
    heights[list(PLACES).index("always active")] = 250.0
    frames = still + np.tensordot((courses * heights[:, None]).T, cells, axes=1)
    frames *= 1 if light is None else light[:, None, None]
    frames += random.normal(0, noise_counts, frames.shape)
    return np.rint(frames).clip(0, FULL).astype(np.uint16)


def analyse(frames):
    recording = Recording.from_array(
        frames, frame_rate_hz=RATE_HZ, pixel_size_um=1.5, name="hard cells"
    )
    return segment(recording.with_metadata(diameter_um=DIAMETER_PX * 1.5))


def at(result, name):
    """Row of the one accepted ROI whose centre lies in a cell."""
    away = np.hypot(*(result.rois.centroids - PLACES[name]).T)
    near = np.flatnonzero((away < 0.4 * DIAMETER_PX) & result.rois.accepted)
    assert len(near) == 1, f"{name}: {len(near)} ROIs"
    return int(near[0])


def onsets(result, name):
    return result.events.onset[result.events.roi == at(result, name)]


def hits(found, true, *, within_s=0.5):
    return sum(np.abs(found - frame).min(initial=99) <= within_s * RATE_HZ for frame in true)


@pytest.fixture(scope="module")
def result():
    return analyse(film())


def test_two_equal_cells_side_by_side_are_two_neurons_with_events_of_their_own(result):
    left, right = at(result, "left twin"), at(result, "right twin")
    assert left != right
    for name, other in (("left twin", "right twin"), ("right twin", "left twin")):
        found = onsets(result, name)
        assert hits(found, ONSETS[name]) == 3
        assert hits(found, ONSETS[other]) == 0


def test_a_cell_at_the_edge_is_found_and_its_outline_ends_there(result):
    row = at(result, "at the edge")
    assert hits(onsets(result, "at the edge"), ONSETS["at the edge"]) == 3
    outline = disc(PLACES["at the edge"], DIAMETER_PX / 2, SHAPE) >= 0.5
    found = result.rois.footprints[[row]].toarray().reshape(SHAPE) > 0
    assert (found & outline).sum() / (found | outline).sum() >= 0.5


def test_a_saturated_cell_is_found_with_its_events_and_finite_traces(result):
    row = at(result, "saturated")
    assert result.traces.raw[row].max() <= FULL
    assert np.isfinite(result.traces.delta_f_over_f[row]).all()
    assert hits(onsets(result, "saturated"), ONSETS["saturated"]) == 3


def test_a_cell_that_fires_once_is_a_neuron_with_one_event(result):
    found = onsets(result, "fires once")
    assert len(found) == 1
    assert hits(found, ONSETS["fires once"]) == 1


def test_a_cell_that_is_active_all_the_time_is_a_neuron_with_most_of_its_events(result):
    true = ONSETS["always active"]
    found = onsets(result, "always active")
    assert hits(found, true) >= 0.8 * len(true)
    assert len(found) <= 1.1 * len(true)


def test_nothing_else_is_a_neuron(result):
    assert result.rois.accepted.sum() == len(PLACES)


def test_thirty_frames_are_enough_for_what_fires_in_them():
    frames = film()[35:65]  # the left twin, the edge and the saturated cell fire in these
    short = analyse(frames)
    assert short.n_frames == 30
    assert hits(onsets(short, "saturated"), [25]) == 1
    assert np.isfinite(short.traces.delta_f_over_f).all()
    for name in ("fires once", "usual", "third"):
        away = np.hypot(*(short.rois.centroids - PLACES[name]).T)
        assert not ((away < 0.4 * DIAMETER_PX) & short.rois.accepted).any()


def test_frames_that_were_dropped_and_repeated_make_no_events(result):
    frames = film()
    lost = np.random.default_rng(1).choice(np.arange(10, N_FRAMES), 30, replace=False)
    for frame in np.sort(lost):
        frames[frame] = frames[frame - 1]
    found = analyse(frames)
    for name in ("usual", "another", "third", "fires once"):
        own = onsets(found, name)
        assert hits(own, ONSETS[name]) == len(ONSETS[name])
        assert len(own) == len(ONSETS[name])


def test_frames_that_were_lost_and_not_replaced_make_no_events():
    lost = np.random.default_rng(2).choice(np.arange(10, N_FRAMES), 30, replace=False)
    kept = np.setdiff1d(np.arange(N_FRAMES), lost)
    found = analyse(film()[kept])
    for name in ("usual", "another", "third", "fires once"):
        own = onsets(found, name)
        # What began in a lost frame is seen in the next one.
        true = np.searchsorted(kept, ONSETS[name])
        assert hits(own, true) == len(own) == len(true)


def test_pixels_that_never_change_have_a_constant_trace_and_no_event():
    frames = film()
    stuck = (slice(70, 82), slice(100, 112))
    frames[:, *stuck] = 700
    masks = np.zeros((2, *SHAPE), np.bool_)
    masks[0][stuck] = True
    masks[1] = disc(PLACES["usual"], DIAMETER_PX / 2, SHAPE) >= 0.5
    recording = Recording.from_array(
        frames, frame_rate_hz=RATE_HZ, pixel_size_um=1.5, name="stuck pixels"
    ).with_metadata(diameter_um=DIAMETER_PX * 1.5)
    found = extract(recording, RoiSet.given(masks))
    # With a surround that changes, what is subtracted of it is all there is in the trace.
    assert found.traces.raw[0].std() < 1e-3
    assert found.events.count(2).tolist() == [0, 3]
    for values in (found.traces.delta_f_over_f, found.traces.dog, found.rois.snr):
        assert np.isfinite(values).all()
    for kind in ("zscore", "denoised"):
        assert np.isfinite(derived_traces(found, kind)).all()
    assert found.rois.quality.skewness[1] > 1


def test_the_quality_says_which_cells_are_saturated_or_at_the_edge(result):
    quality = result.rois.quality
    saturated, edge = at(result, "saturated"), at(result, "at the edge")
    others = [at(result, name) for name in PLACES if name not in ("saturated", "at the edge")]
    assert quality.saturated_share[saturated] > 0.5
    assert (quality.saturated_share[[*others, edge]] < 0.1).all()
    assert quality.edge_share[edge] > 0.1
    assert (quality.edge_share[[*others, saturated]] == 0).all()
    assert (quality.agreement[others] > 0.7).all()
    found = find_suspects(result.rois, result.events.count(len(result.rois)), min_score=0.5)
    said = {name: " ".join(found[at(result, name)].reasons) for name in PLACES}
    assert "camera's limit" in said["saturated"]
    assert "edge of the view" in said["at the edge"]
    assert "a single event" in said["fires once"]


def test_frames_without_light_are_left_out(result):
    frames = film()
    frames[[100, 101, 205]] = 0
    found = analyse(frames)
    for name in ("usual", "another", "third"):
        own = onsets(found, name)
        assert hits(own, ONSETS[name]) == len(own) == 3


@pytest.mark.parametrize("factor", [0.94, 1.06])
def test_a_step_of_the_lamp_is_said_and_makes_no_event(factor):
    light = np.where(np.arange(N_FRAMES) < 140, 1.0, factor)
    found = analyse(film(light=light))
    assert any("light" in note and "17.5 s" in note for note in found.info.notes)
    for name in ("usual", "another", "third", "fires once"):
        own = onsets(found, name)
        assert hits(own, ONSETS[name]) == len(own) == len(ONSETS[name])
    neurons = np.flatnonzero(found.rois.accepted)
    assert len(neurons) <= len(PLACES)
