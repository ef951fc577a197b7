"""The first pass: maps of the whole recording, and what the networks are shown."""

import threading
from dataclasses import fields

import numpy as np
import pytest
from fake_engine import FakeEngine
from flashing_movie import ACTIVE, DIAMETER_PX, SILENT, make_movie

from cocuyo.core import Cancelled
from cocuyo.pipeline import PRESETS, analyse, blob_labels, final_mask
from cocuyo.pipeline.analysis import (
    FirstPass,
    _Sums,
    follow,
    keep_analysis,
    kept_analysis,
    network_shape,
)
from cocuyo.pipeline.checkpoint import keep_first_pass, take_up_first_pass
from cocuyo.pipeline.stream import set_up
from cocuyo.preprocessing import MotionConfig
from cocuyo.segmentation import BlobConfig, NetworkConfig, TemporalConfig, UNetConfig

NOISE = 12.0
STILL = PRESETS["default"].model_copy(update={"motion": MotionConfig(method="none")})
BLOBS = PRESETS["srname"].model_copy(update={"motion": MotionConfig(method="none")})
PAPER = NetworkConfig(
    unet=UNetConfig(input_frames="frame"), temporal=TemporalConfig(contrast_input=False)
)


@pytest.fixture(scope="module")
def movie():
    return make_movie(n_frames=120, noise_counts=NOISE)


@pytest.fixture(scope="module")
def analysis(movie):
    return look(movie)


def look(movie, *, frames=None, config=STILL, engine=None, exclude=None):
    shape = movie.frames.shape[1:]
    return analyse(
        movie.recording(frames),
        config=config,
        diameter_px=DIAMETER_PX,
        engine=engine or FakeEngine(shape, diameter_px=DIAMETER_PX),
        exclude=exclude,
    )


def at(image, centres):
    return np.array([image[centre] for centre in centres])


def test_mean_and_maximum_are_those_of_the_frames(movie, analysis):
    np.testing.assert_allclose(analysis.mean_raw, movie.frames.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(analysis.maps.mean, movie.frames.mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(analysis.max_raw, movie.frames.max(axis=0))
    np.testing.assert_array_equal(analysis.max, movie.frames.max(axis=0))


def test_the_noise_is_that_of_a_pixel_from_frame_to_frame(movie, analysis):
    dark = ~movie.masks.any(axis=0)
    assert np.median(analysis.maps.noise[dark]) == pytest.approx(NOISE, rel=0.05)


def test_flicker_of_the_lamp_is_no_noise_of_a_pixel(movie, analysis):
    light = 1 + 0.03 * np.random.default_rng(0).standard_normal(len(movie.frames))
    flickering = (movie.frames * light[:, None, None]).astype(np.float32)
    found = np.median(look(movie, frames=flickering).maps.noise)
    # Brightness differs between pixels: some of the flicker, 30 counts, remains.
    assert found < 1.3 * np.median(analysis.maps.noise)


def test_contrast_tells_flashing_cells_from_silent_ones(analysis):
    assert at(analysis.maps.contrast, ACTIVE).min() > 2 * at(analysis.maps.contrast, SILENT).max()


def test_the_contrast_of_a_soma_is_high_where_cells_flash(analysis):
    of_soma = analysis.maps.soma_contrast
    assert at(of_soma, ACTIVE).min() > 2 * at(of_soma, SILENT).max()
    assert not of_soma[~analysis.maps.valid].any()


def test_the_maps_say_how_many_steps_they_hold(analysis):
    assert analysis.maps.n_steps == analysis.n_steps == 24


def test_probability_is_what_the_temporal_network_says_at_the_end(analysis):
    assert at(analysis.maps.probability, ACTIVE).min() > 0.7
    assert at(analysis.maps.probability, SILENT).max() < 0.3


def test_the_projections_of_the_spatial_network_show_silent_cells_too(analysis):
    assert at(analysis.probability_mean, SILENT).min() > 0.2
    assert (analysis.probability_max >= analysis.probability_mean - 1e-6).all()


def test_frames_without_values_do_not_darken_the_mean_as_acquired(movie, analysis):
    gaps = movie.frames.copy()
    gaps[[30, 31, 70]] = np.nan
    found = look(movie, frames=gaps)
    np.testing.assert_allclose(found.mean_raw, np.nanmean(gaps, axis=0), rtol=1e-5)
    np.testing.assert_array_equal(found.max_raw, np.nanmax(gaps, axis=0))


def test_the_maximum_of_values_below_zero_is_below_zero(movie):
    below = movie.frames - 5000
    below[40] = np.nan
    found = look(movie, frames=below)
    np.testing.assert_array_equal(found.max_raw, np.nanmax(below, axis=0))


def test_a_pixel_that_never_has_a_value_is_zero_in_the_projections(movie):
    holes = movie.frames.copy()
    holes[:, 20, 30] = np.nan
    found = look(movie, frames=holes)
    assert found.mean_raw[20, 30] == found.max_raw[20, 30] == 0
    assert np.isfinite(found.maps.mean).all()


def test_excluded_pixels_are_invalid_and_zero_in_the_maps(movie):
    exclude = np.zeros(movie.frames.shape[1:], np.bool_)
    exclude[:, :30] = True
    maps = look(movie, exclude=exclude).maps
    np.testing.assert_array_equal(maps.valid, ~exclude)
    assert not maps.probability[exclude].any()
    assert not maps.contrast[exclude].any()
    assert maps.probability[~exclude].max() > 0.7


def test_the_spatial_network_sees_each_step_once(movie):
    engine = FakeEngine(movie.frames.shape[1:], diameter_px=DIAMETER_PX)
    found = look(movie, engine=engine)
    assert engine.n_segmented == found.n_steps == 24


def test_the_papers_spatial_network_sees_every_frame(movie):
    engine = FakeEngine(movie.frames.shape[1:], diameter_px=DIAMETER_PX)
    config = STILL.model_copy(update={"networks": PAPER})
    found = look(movie, engine=engine, config=config)
    assert engine.n_segmented == len(movie.frames)
    assert found.n_steps == 24


@pytest.mark.parametrize("diameter", [4.0, 20.0])
def test_maps_come_back_at_the_size_of_the_frames(movie, diameter):
    shape = movie.frames.shape[1:]
    small = network_shape(shape, STILL.scale.factor(diameter))
    found = analyse(
        movie.recording(),
        config=STILL,
        diameter_px=diameter,
        engine=FakeEngine(small, diameter_px=10),
    )
    for image in (found.maps.probability, found.maps.contrast, found.probability_max):
        assert image.shape == shape
        assert np.isfinite(image).all()


@pytest.mark.parametrize("value", [np.nan, 0.0, 77.0])
def test_a_recording_without_values_has_empty_maps(movie, value):
    frames = np.full((20, *movie.frames.shape[1:]), value, np.float32)
    found = look(movie, frames=frames)
    assert found.n_steps == 0
    for image in (found.maps.probability, found.maps.contrast, found.maps.mean):
        assert not image.any()
    assert (found.motion.flags != 0).all()


def test_without_networks_the_share_of_frames_with_a_blob_takes_their_place(movie):
    found = analyse(movie.recording(), config=BLOBS, diameter_px=DIAMETER_PX, engine=None)
    share = found.maps.probability
    assert at(share, SILENT[:2]).min() > 0.5
    counts = share * len(movie.frames)
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-3)


def test_the_final_mask_is_where_the_probability_reaches_the_threshold(analysis):
    mask = final_mask(analysis, STILL.model_copy(update={"mask_threshold": 0.6}))
    np.testing.assert_array_equal(mask, analysis.maps.probability >= 0.6)


def test_the_final_mask_of_blobs_lies_between_least_and_largest_share(movie):
    found = analyse(movie.recording(), config=BLOBS, diameter_px=DIAMETER_PX, engine=None)
    config = BLOBS.model_copy(update={"blobs": BlobConfig(min_share=0.1, max_share=0.5)})
    share = found.maps.probability
    np.testing.assert_array_equal(final_mask(found, config), (share >= 0.1) & (share <= 0.5))


def test_blob_labels_are_the_accepted_cells_of_srname(movie):
    labels = blob_labels(movie.recording(), config=BLOBS, diameter_px=DIAMETER_PX)
    assert labels.shape == movie.frames.shape[1:]
    found = [labels[centre] for centre in ACTIVE if labels[centre]]
    assert len(found) >= 3
    assert len(set(found)) == len(found) == labels.max()
    assert not at(labels, SILENT).any()


def test_a_recording_without_values_has_no_blob_labels(movie):
    dark = movie.recording(np.zeros((20, *movie.frames.shape[1:]), np.uint16))
    assert not blob_labels(dark, config=BLOBS, diameter_px=DIAMETER_PX).any()


def pushed(movie, sizes, config, engine):
    """Feed the first pass in blocks of given sizes; nobody says how many frames there will be."""
    setup = set_up(movie.recording(), config=config, diameter_px=DIAMETER_PX)
    first = FirstPass(setup, engine, frame_shape=movie.frames.shape[1:])
    at = 0
    for size in sizes:
        block = first.push(movie.frames[at : at + size])
        assert len(block.corrected) == len(block.motion.flags) == size
        at += size
    assert at == len(movie.frames)
    first.end()
    assert first.n_frames == at
    return first.analysis()


def blocks_of(random, n_frames):
    ends = np.sort(random.choice(np.arange(1, n_frames), 9, replace=False))
    return np.diff([0, *ends, n_frames]).tolist()


@pytest.mark.parametrize("kind", ["networks", "blobs", "paper"])
@pytest.mark.parametrize("sizes", ["one by one", "random"])
def test_frames_pushed_in_any_blocks_give_the_maps_of_the_whole(kind, sizes):
    movie = make_movie(n_frames=123, shifts=np.linspace(0, 2, 246).reshape(123, 2))
    config = PRESETS["default"] if kind == "networks" else BLOBS
    if kind == "paper":
        config = STILL.model_copy(update={"networks": PAPER})
    shape = movie.frames.shape[1:]

    def engine():
        return None if kind == "blobs" else FakeEngine(shape, diameter_px=DIAMETER_PX)

    cut = {"one by one": [1] * 123}
    cut["random"] = blocks_of(np.random.default_rng(5), 123)
    found = pushed(movie, cut[sizes], config, engine())
    expected = analyse(movie.recording(), config=config, diameter_px=DIAMETER_PX, engine=engine())
    for name in ("probability", "contrast", "mean", "noise", "valid", "soma_contrast", "peaks"):
        np.testing.assert_array_equal(getattr(found.maps, name), getattr(expected.maps, name))
    for name in ("shifts", "confidence", "flags"):
        np.testing.assert_array_equal(getattr(found.motion, name), getattr(expected.motion, name))
    for name in ("mean_raw", "max_raw", "max", "probability_max", "probability_mean"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert found.n_steps == expected.n_steps == found.maps.n_steps


def test_whole_numbers_have_the_same_mean_and_maximum_as_floats(movie):
    counts = np.rint(np.clip(movie.frames, 0, 65535))
    whole, floats = (
        analyse(movie.recording(counts.astype(kind)), config=STILL, diameter_px=8.0, engine=None)
        for kind in (np.uint16, np.float32)
    )
    np.testing.assert_allclose(whole.mean_raw, counts.mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(whole.mean_raw, floats.mean_raw)
    np.testing.assert_array_equal(whole.max_raw, floats.max_raw)
    np.testing.assert_array_equal(whole.max_raw, counts.max(axis=0))


@pytest.mark.parametrize("n_steps", [90, 700])
def test_flashes_that_the_length_makes_too_low_do_not_count(n_steps):
    """Nobody knew the length when they were seen; afterwards they count as if it had been known."""
    random = np.random.default_rng(n_steps)
    least = STILL.candidates.contrast_threshold(n_steps)
    live, known = (
        _Sums((40, 50), (40, 50), 8.0, distance=3.6, least=floor, final=final)
        for floor, final in ((STILL.candidates.contrast_threshold(0), False), (least, True))
    )
    low = 0
    for _ in range(40):
        height = random.normal(0, 2.0, (40, 50)).astype(np.float32)
        low += int(((height >= 4.5) & (height < least)).sum())
        live.add_flashes(height)
        known.add_flashes(height)
    assert (low > 0) == (n_steps > 100)
    assert known.votes(least).any()
    np.testing.assert_array_equal(live.votes(least), known.votes(least))


def test_what_was_kept_is_taken_up_as_it_was(analysis, tmp_path):
    keep_analysis(tmp_path / "kept.npz", analysis, key="this")
    again = kept_analysis(tmp_path / "kept.npz", key="this")
    for name in ("probability", "contrast", "mean", "noise", "valid", "soma_contrast", "peaks"):
        np.testing.assert_array_equal(getattr(again.maps, name), getattr(analysis.maps, name))
    for name in ("shifts", "confidence", "flags"):
        np.testing.assert_array_equal(getattr(again.motion, name), getattr(analysis.motion, name))
    np.testing.assert_array_equal(again.max_raw, analysis.max_raw)
    assert again.n_steps == again.maps.n_steps == analysis.n_steps
    assert again.motion_corrected is analysis.motion_corrected


def test_what_was_made_of_something_else_is_not_taken_up(analysis, tmp_path):
    keep_analysis(tmp_path / "kept.npz", analysis, key="this")
    assert kept_analysis(tmp_path / "kept.npz", key="that") is None


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 and nothing more", b"x" * 500])
def test_what_cannot_be_read_is_not_taken_up(content, analysis, tmp_path):
    path = tmp_path / "kept.npz"
    if content is not None:
        path.write_bytes(content)
    assert kept_analysis(path, key="this") is None


def test_half_of_what_was_kept_is_not_taken_up(analysis, tmp_path):
    path = tmp_path / "kept.npz"
    keep_analysis(path, analysis, key="this")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert kept_analysis(path, key="this") is None


def test_maps_that_cannot_be_are_not_taken_up(analysis, tmp_path):
    path = tmp_path / "kept.npz"
    keep_analysis(path, analysis, key="this")
    with np.load(path) as stored:
        arrays = dict(stored)
    for name, value in (("n_steps", -1), ("maps.noise", np.nan), ("motion.shifts", np.inf)):
        np.savez(path, **{**arrays, name: np.full_like(arrays[name], value)})
        assert kept_analysis(path, key="this") is None
    np.savez(path, **arrays)
    assert kept_analysis(path, key="this") is not None


def first_pass_of(movie, kind):
    config = BLOBS if kind == "blobs" else PRESETS["default"]
    if kind == "lucas_kanade":
        config = PRESETS["default"].model_copy(update={"motion": MotionConfig(method=kind)})
    engine = None
    if kind != "blobs":
        engine = FakeEngine(movie.frames.shape[1:], diameter_px=DIAMETER_PX)
    setup = set_up(movie.recording(), config=config, diameter_px=DIAMETER_PX)
    return FirstPass(setup, engine, frame_shape=movie.frames.shape[1:])


@pytest.fixture(scope="module")
def drifting():
    return make_movie(n_frames=93, shifts=np.linspace(0, 2, 186).reshape(93, 2))


@pytest.mark.parametrize("kind", ["template_correlation", "lucas_kanade", "blobs"])
@pytest.mark.parametrize("at", [5, 60])
def test_a_pass_that_was_kept_goes_on_as_if_nothing_had_been(drifting, tmp_path, kind, at):
    undisturbed, killed, again = (first_pass_of(drifting, kind) for _ in range(3))
    undisturbed.push(drifting.frames)
    undisturbed.end()
    killed.push(drifting.frames[:at])
    keep_first_pass(tmp_path / "so_far.npz", killed, killed.stream, key="this")
    killed.push(drifting.frames[at:])  # what came later is not in the file
    assert take_up_first_pass(tmp_path / "so_far.npz", again, key="this", n_frames=93)
    assert again.n_frames == again.stream.start == at
    again.push(drifting.frames[at:])
    again.end()
    found, expected = again.analysis(), undisturbed.analysis()
    for name in ("probability", "contrast", "mean", "noise", "valid", "soma_contrast", "peaks"):
        np.testing.assert_array_equal(getattr(found.maps, name), getattr(expected.maps, name))
    np.testing.assert_array_equal(found.motion.shifts, expected.motion.shifts)
    for name in ("mean_raw", "max_raw", "max", "probability_max", "probability_mean"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert found.n_steps == expected.n_steps


def test_a_pass_is_kept_between_steps_only(drifting, tmp_path):
    first = first_pass_of(drifting, "blobs")
    first.push(drifting.frames[:7])
    with pytest.raises(ValueError, match="the stream is at 5"):
        keep_first_pass(tmp_path / "so_far.npz", first, first.stream, key="this")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["another key", "absent", "cut", "another size"])
def test_a_pass_that_cannot_be_taken_up_begins_anew(drifting, tmp_path, damage):
    path = tmp_path / "so_far.npz"
    before = first_pass_of(drifting, "template_correlation")
    before.push(drifting.frames[:60])
    keep_first_pass(path, before, before.stream, key="this")
    first = first_pass_of(drifting, "template_correlation")
    if damage == "absent":
        path.unlink()
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-2000])
    if damage == "another size":
        first = first_pass_of(make_movie(n_frames=60, shape=(60, 72)), "template_correlation")
    key = "that" if damage == "another key" else "this"
    assert not take_up_first_pass(path, first, key=key, n_frames=93)
    assert first.n_frames == first.stream.start == first.stream.motion.n_placed == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sums.n_seen", -60),
        ("stream.start", -60),
        ("sums.n_frames", -1),
        ("sums.n_pairs", 10**9),
        ("sums.weight", np.nan),
        ("sums._sum", np.nan),
        ("sums._n_raw", -1),
        ("memory.hidden", np.nan),
    ],
)
def test_a_pass_with_numbers_that_cannot_be_is_not_taken_up(drifting, tmp_path, name, value):
    path = tmp_path / "so_far.npz"
    before = first_pass_of(drifting, "template_correlation")
    before.push(drifting.frames[:60])
    keep_first_pass(path, before, before.stream, key="this")
    with np.load(path) as stored:
        arrays = dict(stored)
    name = next((each for each in arrays if each.startswith(name)), name)
    arrays[name] = np.full_like(arrays[name], value)
    np.savez(path, **arrays)
    first = first_pass_of(drifting, "template_correlation")
    assert not take_up_first_pass(path, first, key="this", n_frames=93)
    assert first.n_frames == first.stream.start == 0


def test_a_pass_over_more_frames_than_there_are_is_not_taken_up(drifting, tmp_path):
    path = tmp_path / "so_far.npz"
    before = first_pass_of(drifting, "template_correlation")
    before.push(drifting.frames[:60])
    keep_first_pass(path, before, before.stream, key="this")
    first = first_pass_of(drifting, "template_correlation")
    assert not take_up_first_pass(path, first, key="this", n_frames=59)


def follow_in_small_blocks(movie, monkeypatch, *, engine=None, **options):
    shape = movie.frames.shape[1:]
    monkeypatch.setattr("cocuyo.pipeline.stream.READ_BYTES", 4 * movie.frames[:13].size)
    recording = movie.recording()
    setup = set_up(recording, config=STILL, diameter_px=DIAMETER_PX)
    first = FirstPass(
        setup,
        engine or FakeEngine(shape, diameter_px=DIAMETER_PX),
        frame_shape=shape,
        n_steps=recording.n_frames // setup.frames_per_step,
    )
    return follow(first, recording, **options)


def test_one_thread_and_two_find_the_same(movie, monkeypatch):
    one = follow_in_small_blocks(movie, monkeypatch, n_threads=1)
    two = follow_in_small_blocks(movie, monkeypatch)
    for field in fields(one.maps):
        np.testing.assert_array_equal(
            getattr(one.maps, field.name), getattr(two.maps, field.name), err_msg=field.name
        )


def test_progress_says_what_the_networks_have_seen_and_may_stop_the_pass(movie, monkeypatch):
    seen = []

    def stop_half_way(progress):
        seen.append(progress.done)
        if progress.done >= 60:
            raise Cancelled

    with pytest.raises(Cancelled):
        follow_in_small_blocks(movie, monkeypatch, progress=stop_half_way)
    assert 60 <= seen[-1] < 80
    assert not [one for one in threading.enumerate() if one.name.startswith("cocuyo-networks")]


def test_an_error_of_the_networks_ends_the_pass(movie, monkeypatch):
    class Broken(FakeEngine):
        def segment(self, image):
            raise FloatingPointError

    broken = Broken(movie.frames.shape[1:], diameter_px=DIAMETER_PX)
    with pytest.raises(FloatingPointError):
        follow_in_small_blocks(movie, monkeypatch, engine=broken)
