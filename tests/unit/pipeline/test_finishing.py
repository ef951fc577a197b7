"""From maps to ROIs: candidates drawn from their own activity, or a mask taken apart."""

from dataclasses import replace

import numpy as np
import pytest
from flashing_movie import ACTIVE, DIAMETER_PX, RATE_HZ, SILENT, disc, make_movie
from scipy import ndimage, sparse

from cocuyo.core import FLAG_FLASH, ModelError
from cocuyo.pipeline import (
    PRESETS,
    Maps,
    analyse,
    extract_traces,
    finish,
    finish_candidates,
    finish_mask,
)
from cocuyo.postprocessing import (
    FEATURES,
    N_SECTORS,
    OPINION,
    VIEW_SIDE,
    CandidateConfig,
    ValidationConfig,
    VerificationConfig,
    Verifier,
)
from cocuyo.preprocessing import MotionConfig
from cocuyo.segmentation import NetworkConfig, OutlineConfig

CONFIG = PRESETS["default"].model_copy(
    update={"motion": MotionConfig(method="none"), "networks": NetworkConfig()}
)
WITH_OUTLINE = CONFIG.model_copy(update={"networks": NetworkConfig(outline=OutlineConfig())})


@pytest.fixture(scope="module")
def movie():
    return make_movie(n_frames=200)


@pytest.fixture(scope="module")
def analysis(movie):
    return analyse(movie.recording(), config=CONFIG, diameter_px=DIAMETER_PX, engine=None)


@pytest.fixture(scope="module")
def maps(movie, analysis):
    """The true probability, a little blurred, and the real contrast."""
    truth = ndimage.gaussian_filter(movie.masks.any(axis=0).astype(np.float32), 0.7)
    # Without the peaks of single steps, whose noise makes candidates of its own.
    return replace(analysis.maps, probability=truth, peaks=None)


@pytest.fixture(scope="module")
def found(movie, analysis, maps):
    return candidates(movie, analysis, maps)


@pytest.fixture(scope="module")
def parted(movie, analysis):
    return from_mask(movie, analysis, everything(movie))


def candidates(movie, analysis, maps, *, verifier=None, motion=None, **settings):
    return finish_candidates(
        movie.recording(),
        motion or analysis.motion,
        maps,
        config=CONFIG.model_copy(update=settings),
        diameter_px=DIAMETER_PX,
        verifier=verifier,
    )


def from_mask(movie, analysis, mask, *, valid=None, mean=None, score=None, **settings):
    return finish_mask(
        movie.recording(),
        analysis.motion,
        mask,
        valid=np.ones(mask.shape, np.bool_) if valid is None else valid,
        config=CONFIG.model_copy(update=settings),
        diameter_px=DIAMETER_PX,
        mean=mean,
        score=score,
    )


def test_cells_of_a_mask_agree_with_what_flashes_where_the_mean_picture_is_given(movie, analysis):
    plain, seen = (
        from_mask(movie, analysis, everything(movie), mean=mean).rois
        for mean in (None, analysis.maps.mean)
    )
    assert np.isnan(plain.quality.agreement).all()
    flashing = [owner(seen, centre) for centre in ACTIVE]
    assert (seen.quality.agreement[flashing] > 0.7).all()


def everything(movie):
    """All discs, flashing and silent."""
    silent = np.any([disc(centre, DIAMETER_PX / 2) >= 0.5 for centre in SILENT], axis=0)
    return movie.masks.any(axis=0) | silent


def owner(rois, centre):
    """Index of the ROI whose centre of weight is within 2 pixels, and only that."""
    (index,) = np.flatnonzero(np.hypot(*(rois.centroids - centre).T) < 2)
    return int(index)


def covered(rois, roi):
    mask = np.zeros(rois.frame_shape, np.bool_)
    rows, columns, _ = rois.pixels(roi)
    mask[rows, columns] = True
    return mask


def judge(bias):
    """Make a verifier that scores everything the same."""
    n = len(FEATURES)
    none = np.zeros((1, n), np.float32)
    return Verifier(
        np.zeros(n, np.float32), np.ones(n, np.float32), (none,), (np.array([bias], np.float32),)
    )


def test_each_flashing_cell_is_found_once_and_no_silent_one(found):
    assert len(found.rois) == len(ACTIVE)
    assert {owner(found.rois, centre) for centre in ACTIVE} == set(range(len(ACTIVE)))


def test_each_roi_has_the_outline_of_its_cell(movie, found):
    for centre, truth in zip(ACTIVE, movie.masks, strict=True):
        mask = covered(found.rois, owner(found.rois, centre))
        assert (mask & truth).sum() / (mask | truth).sum() > 0.85


def test_each_trace_is_that_of_its_cell(movie, found):
    for centre, course in zip(ACTIVE, movie.courses, strict=True):
        trace = found.traces.delta_f_over_f[owner(found.rois, centre)]
        assert np.corrcoef(trace, course)[0, 1] > 0.97


def test_delta_f_over_f_is_relative_to_all_the_light_of_the_cell(movie, found):
    # 25 % of the background on top of 125 % of it; the edge of the disc is darker.
    for centre in ACTIVE:
        highest = found.traces.delta_f_over_f[owner(found.rois, centre)].max()
        assert highest == pytest.approx(0.25 / 1.25, rel=0.2)


def test_each_event_is_found_at_its_frame(movie, found):
    for centre, course in zip(ACTIVE, movie.courses, strict=True):
        roi = owner(found.rois, centre)
        onsets = np.flatnonzero(np.diff(course, prepend=0) > 0.5)
        peaks = found.events.peak[found.events.roi == roi]
        assert len(peaks) == len(onsets)
        assert np.abs(peaks - onsets).max() <= 2


def test_footprints_have_the_largest_weight_one_and_sorted_pixels(found):
    footprints = found.rois.footprints
    np.testing.assert_allclose(footprints.max(axis=1).toarray().ravel(), 1)
    assert footprints.has_sorted_indices
    assert (footprints.data > 0).all()


def test_the_footprint_of_a_cell_agrees_with_what_flashes_with_its_trace(found):
    assert (found.rois.quality.agreement > 0.8).all()


def test_without_verifier_the_score_is_the_largest_probability(maps, found):
    for roi in range(len(found.rois)):
        highest = maps.probability[covered(found.rois, roi)].max()
        assert found.rois.score[roi] == pytest.approx(highest)


def test_everything_has_a_row_for_each_candidate(movie, found):
    n = len(found.rois)
    assert found.features.shape == (n, len(FEATURES))
    assert found.raster.shape == found.traces.raw.shape == (n, len(movie.frames))
    assert found.rois.ids == tuple(f"roi_{i + 1:04d}" for i in range(n))


def test_what_the_verifier_rejects_stays_with_a_reason(movie, analysis, maps, found):
    rejected = candidates(movie, analysis, maps, verifier=judge(-9))
    assert len(rejected.rois) == len(found.rois)
    assert not rejected.rois.accepted.any()
    assert all(rejected.rois.reasons)
    np.testing.assert_array_equal(rejected.traces.raw, found.traces.raw)


def test_what_the_verifier_accepts_has_no_reason(movie, analysis, maps):
    accepted = candidates(movie, analysis, maps, verifier=judge(9))
    assert accepted.rois.accepted.all()
    assert not any(accepted.rois.reasons)


def test_a_candidate_smaller_than_a_soma_says_so(movie, analysis, maps):
    strict = VerificationConfig(min_area_share=1.5)
    rejected = candidates(movie, analysis, maps, verification=strict)
    assert set(rejected.rois.reasons) == {"too small for a soma"}


def test_a_candidate_without_event_says_so(movie, analysis, maps):
    strict = ValidationConfig(threshold_sd=1000.0)
    rejected = candidates(movie, analysis, maps, validation=strict)
    assert set(rejected.rois.reasons) == {"no event in its trace"}


def test_several_seeds_in_one_cell_become_one_neuron_and_its_repeats(movie, analysis, maps):
    uneven = np.random.default_rng(0).uniform(0, 200, maps.contrast.shape).astype(np.float32)
    many = replace(maps, contrast=uneven * movie.masks.any(axis=0))
    close = CandidateConfig(min_distance_diameters=0.1)
    repeated = candidates(movie, analysis, many, candidates=close).rois
    assert len(repeated) > len(ACTIVE)
    assert repeated.accepted.sum() == len(ACTIVE)
    repeats = "shows the same neuron as "
    originals = [r.removeprefix(repeats) for r in repeated.reasons if r.startswith(repeats)]
    assert originals
    assert all(repeated.accepted[repeated.ids.index(original)] for original in originals)


def test_empty_maps_give_no_candidate(movie, analysis, maps):
    nothing = np.zeros(maps.mean.shape, np.float32)
    empty = candidates(movie, analysis, replace(maps, probability=nothing, contrast=nothing))
    assert len(empty.rois) == len(empty.events) == 0
    assert empty.raster.shape == empty.traces.dog.shape == (0, len(movie.frames))
    assert empty.features.shape == (0, len(FEATURES))


def test_no_roi_holds_an_invalid_pixel(movie, analysis, maps):
    valid = np.ones(maps.mean.shape, np.bool_)
    valid[:, 14:16] = False
    valid[:30] = False
    parts = candidates(movie, analysis, replace(maps, valid=valid)).rois
    assert len(parts) >= 2
    assert valid.ravel()[parts.footprints.indices].all()


def test_flagged_frames_take_part_in_no_trace(movie, analysis, maps):
    flags = analysis.motion.flags.copy()
    flags[100:104] = FLAG_FLASH
    bright = movie.frames.copy()
    bright[100:104] *= 1.5
    motion = replace(analysis.motion, flags=flags)
    flashed = replace(movie, frames=bright)
    seen = candidates(flashed, analysis, maps, motion=motion)
    assert len(seen.rois) == len(ACTIVE)
    for trace in seen.traces.corrected:
        line = np.interp(np.arange(100, 104), [99, 104], trace[[99, 104]])
        np.testing.assert_allclose(trace[100:104], line, rtol=1e-4)
    # The raw trace is unaltered: it shows the flash.
    assert (seen.traces.raw[:, 101] > 1.3 * seen.traces.raw[:, 90]).all()


def test_each_cell_of_a_mask_is_a_candidate(parted):
    assert len(parted.rois) == len(ACTIVE) + len(SILENT)
    for centre in ACTIVE + SILENT:
        assert covered(parted.rois, owner(parted.rois, centre)).sum() > 40


def test_a_cell_without_event_is_rejected_and_stays(parted):
    for centre in SILENT:
        roi = owner(parted.rois, centre)
        assert not parted.rois.accepted[roi]
        assert parted.rois.reasons[roi] == "no event in its trace"


def test_a_cell_with_events_is_accepted(parted):
    for centre in ACTIVE:
        roi = owner(parted.rois, centre)
        assert parted.rois.accepted[roi]
        assert parted.rois.reasons[roi] == ""


def test_touching_cells_of_a_mask_are_parted(movie, analysis):
    mask = (disc((34, 31), 4) >= 0.5) | (disc((34, 39), 4) >= 0.5)
    assert len(from_mask(movie, analysis, mask).rois) == 2


def test_the_score_of_a_cell_is_the_mean_of_the_map(movie, analysis):
    image = np.random.default_rng(0).random(movie.masks.shape[1:]).astype(np.float32)
    scored = from_mask(movie, analysis, movie.masks.any(axis=0), score=image).rois
    for roi in range(len(scored)):
        assert scored.score[roi] == pytest.approx(image[covered(scored, roi)].mean(), rel=1e-4)


def test_an_excluded_line_across_a_cell_is_in_no_roi(movie, analysis):
    valid = np.ones(movie.masks.shape[1:], np.bool_)
    valid[14] = False
    valid[:, 31] = False
    rois = from_mask(movie, analysis, everything(movie), valid=valid).rois
    assert valid.ravel()[rois.footprints.indices].all()


def test_small_pieces_of_a_cut_cell_are_rejected_as_such(movie, analysis):
    valid = np.ones(movie.masks.shape[1:], np.bool_)
    valid[12] = False
    strict = VerificationConfig(min_area_share=0.4)
    mask = movie.masks[0]
    rois = from_mask(movie, analysis, mask, valid=valid, verification=strict).rois
    assert sorted(rois.reasons) == ["", "too small for a soma"]


def test_an_empty_mask_gives_nothing(movie, analysis):
    empty = from_mask(movie, analysis, np.zeros(movie.masks.shape[1:], np.bool_))
    assert len(empty.rois) == 0
    assert empty.features.shape == (0, 0)


def test_a_mask_has_no_figures_for_a_verifier(parted):
    assert parted.features.shape == (len(parted.rois), 0)


def test_raw_traces_are_means_of_the_pixels_whatever_their_weights(movie, analysis):
    weighted = np.array([disc(ACTIVE[0], 4), disc(ACTIVE[1], 3)]).reshape(2, -1)
    weighted = np.where(weighted > 0.3, weighted, 0).astype(np.float32)
    traces = extract_traces(
        movie.recording(),
        analysis.motion,
        sparse.csr_array(weighted),
        valid=np.ones(movie.masks.shape[1:], np.bool_),
        config=CONFIG,
        diameter_px=DIAMETER_PX,
    ).traces
    flat = movie.frames.reshape(len(movie.frames), -1)
    for row, trace in zip(weighted, traces.raw, strict=True):
        np.testing.assert_allclose(trace, flat[:, row > 0].mean(axis=1), rtol=1e-5)


def test_the_ring_of_a_cell_does_not_show_its_flashing_neighbour(movie, analysis):
    near = make_movie(n_frames=200, active=((30, 30), (30, 42)), silent=())

    def flash_in_ring(masks):
        ring = extract_traces(
            near.recording(),
            analysis.motion,
            sparse.csr_array(masks.reshape(len(masks), -1).astype(np.float32)),
            valid=np.ones(near.masks.shape[1:], np.bool_),
            config=CONFIG,
            diameter_px=DIAMETER_PX,
        ).traces.neuropil[0]
        return np.polyfit(near.courses[1], ring, 1)[0]

    # Both given, neither is in a ring but with its soft edge; not given, the neighbour is.
    assert abs(flash_in_ring(near.masks)) < 0.25 * flash_in_ring(near.masks[:1])


def test_surrounds_are_the_same_whether_their_parts_are_kept_or_read_again(monkeypatch):
    longer = make_movie(n_frames=600)
    still = analyse(longer.recording(), config=CONFIG, diameter_px=DIAMETER_PX, engine=None)
    valid = np.zeros(longer.masks.shape[1:], np.bool_)
    valid[::3, ::2] = True  # some parts of rings are too small to be read
    stages = []

    def surrounds(most_values):
        monkeypatch.setattr(finish, "_MOST_FRAMES", 256)
        monkeypatch.setattr(finish, "_MOST_VALUES", most_values)
        return extract_traces(
            longer.recording(),
            still.motion,
            sparse.csr_array(longer.masks.reshape(len(longer.masks), -1).astype(np.float32)),
            valid=valid,
            config=CONFIG,
            diameter_px=DIAMETER_PX,
            progress=lambda progress: stages.append(progress.stage),
        ).traces.neuropil

    n_values = len(longer.masks) * N_SECTORS * 600
    kept = surrounds(n_values)
    assert set(stages) == {"extracting traces"}
    read_again = surrounds(n_values - 1)
    assert "looking at surrounds" in stages
    np.testing.assert_allclose(kept, read_again, rtol=1e-4)


class Artist:
    """Draws a small disc in the middle of every view, and thinks something of it."""

    def outline(self, views):
        small = disc((VIEW_SIDE // 2, VIEW_SIDE // 2), 5, (VIEW_SIDE, VIEW_SIDE))
        return np.repeat(small[None].astype(np.float32), len(views), axis=0), np.full(
            len(views), 1.5, np.float32
        )


def test_the_outline_network_draws_the_rois_and_its_word_reaches_the_verifier(
    movie, analysis, maps, found
):
    drawn = finish_candidates(
        movie.recording(),
        analysis.motion,
        maps,
        config=WITH_OUTLINE,
        diameter_px=DIAMETER_PX,
        verifier=None,
        engine=Artist(),
    )
    # Radius 5 of 16 pixels a diameter.
    expected = np.pi * (5 * DIAMETER_PX / 16) ** 2
    np.testing.assert_allclose(drawn.rois.area_px, expected, rtol=0.5)
    assert (found.rois.area_px > 2 * expected).all()
    own = slice(FEATURES.index(OPINION[0]), FEATURES.index(OPINION[-1]) + 1)
    opinion = drawn.features[:, own]
    np.testing.assert_allclose(opinion[:, 0], 1.5)
    assert ((opinion[:, 1:] > 0) & (opinion[:, 1:] < 1)).all()
    assert not found.features[:, own].any()


def test_an_outline_network_without_an_engine_is_an_error(movie, analysis, maps):
    with pytest.raises(ModelError, match="give the engine"):
        finish_candidates(
            movie.recording(),
            analysis.motion,
            maps,
            config=WITH_OUTLINE,
            diameter_px=DIAMETER_PX,
            verifier=None,
        )


def test_progress_names_the_further_passes(movie, analysis, maps):
    seen = []
    finish_candidates(
        movie.recording(),
        analysis.motion,
        maps,
        config=CONFIG,
        diameter_px=DIAMETER_PX,
        verifier=None,
        progress=seen.append,
    )
    stages = list(dict.fromkeys(p.stage for p in seen))
    assert stages == [
        "reading candidates",
        "drawing candidates",
        "extracting traces",
    ]
    assert all(p.done <= p.total == len(movie.frames) for p in seen)


def test_maps_are_not_modified(movie, analysis, maps):
    frozen = {
        name: getattr(maps, name).copy()
        for name in ("probability", "contrast", "mean", "noise", "valid")
    }
    for array in frozen.values():
        array.flags.writeable = False
    candidates(movie, analysis, Maps(**frozen))


def traced(movie, analysis, *masks, frames=None, **changes):
    traces = CONFIG.traces.model_copy(update=changes)
    return extract_traces(
        movie.recording(frames),
        analysis.motion,
        sparse.csr_array(np.stack([mask.ravel() for mask in masks]).astype(np.float32)),
        valid=np.ones(movie.frames.shape[1:], np.bool_),
        config=CONFIG.model_copy(update={"traces": traces}),
        diameter_px=DIAMETER_PX,
    )


def test_rois_that_share_pixels_do_not_have_each_others_transients():
    pair = make_movie(n_frames=200, active=((30, 30), (30, 36)), silent=())
    still = analyse(pair.recording(), config=CONFIG, diameter_px=DIAMETER_PX, engine=None)
    parted, mixed = (traced(pair, still, *pair.masks, unmix=unmix) for unmix in (True, False))
    np.testing.assert_array_equal(parted.traces.raw, mixed.traces.raw)
    apart = np.corrcoef(pair.courses)[0, 1]
    for own, other in ((0, 1), (1, 0)):
        foreign = [
            np.corrcoef(found.traces.delta_f_over_f[own], pair.courses[other])[0, 1]
            for found in (parted, mixed)
        ]
        assert foreign[0] - apart < 0.05
        assert foreign[1] - apart > 0.1


def test_a_step_of_the_light_leaves_traces_level_and_makes_no_event():
    bright = make_movie(n_frames=200, rest=2.0)  # three times their rings, which do not undo it
    still = analyse(bright.recording(), config=CONFIG, diameter_px=DIAMETER_PX, engine=None)
    light = np.where(np.arange(200) < 60, 1.0, 0.93)
    usual = traced(bright, still, *bright.masks)
    found = traced(
        bright, still, *bright.masks, frames=np.rint(bright.frames * light[:, None, None])
    )
    difference = found.traces.delta_f_over_f - usual.traces.delta_f_over_f
    assert np.abs(difference).max() < 0.01
    np.testing.assert_array_equal(found.events.roi, usual.events.roi)


def test_the_rate_of_the_recording_is_that_of_the_movie(movie):
    assert movie.recording().rate_hz == RATE_HZ
