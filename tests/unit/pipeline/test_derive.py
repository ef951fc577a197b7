"""Derived traces of whole results: which ROIs and frames they are of, and from what."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic_result import BORDER, make_experiment, make_result

from cocuyo.core import Events, Result, SettingsError
from cocuyo.io import open_result
from cocuyo.pipeline import derived_traces
from cocuyo.postprocessing import denoise_traces, z_score_traces

KINDS = ("zscore", "denoised", "deconvolved")


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_a_finite_row_for_each_accepted_roi(kind):
    result = make_result(n_rois=9)
    found = derived_traces(result, kind)
    assert found.shape == (int(result.rois.accepted.sum()), result.n_frames)
    assert np.isfinite(found).all()
    assert derived_traces(make_result(n_rois=0), kind).shape == (0, 120)


def test_z_scores_are_those_of_the_rois_own_trace():
    result = make_result(n_rois=9)
    usable = result.motion.flags == 0
    for row, roi in enumerate(np.flatnonzero(result.rois.accepted)):
        own = [roi]
        expected = z_score_traces(
            result.traces.delta_f_over_f[own], result.raster[own], usable=usable
        )
        assert np.array_equal(derived_traces(result, "zscore")[row], expected[0])


def test_each_row_is_denoised_by_its_own_events():
    result = make_result(n_rois=9)
    usable = result.motion.flags == 0
    found = derived_traces(result, "denoised")
    for row, roi in enumerate(np.flatnonzero(result.rois.accepted)):
        own = result.events.roi == roi
        events = Events(
            np.zeros(int(own.sum()), np.int32),
            *(getattr(result.events, name)[own] for name in ("onset", "peak", "offset")),
            result.events.amplitude[own],
        )
        expected = denoise_traces(
            result.traces.delta_f_over_f[[roi]], events, frame_rate_hz=10.0, usable=usable
        )
        np.testing.assert_allclose(found[row], expected[0], rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_recordings_of_an_experiment_are_taken_alone(kind):
    whole = make_experiment()
    found = derived_traces(whole, kind)
    for part, span in zip((0, 1), (slice(0, BORDER), slice(BORDER, None)), strict=True):
        alone = derived_traces(whole.part(part), kind)
        np.testing.assert_allclose(found[:, span], alone, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_rois_give_the_same_as_all_at_once(kind, monkeypatch, tmp_path):
    result = make_result(n_rois=9)
    whole = derived_traces(result, kind)
    monkeypatch.setattr("cocuyo.core.scratch._BLOCK_VALUES", 300)  # two ROIs
    kept = open_result(result.save(tmp_path / "r.cocuyo"))  # read row by row from the disk
    np.testing.assert_allclose(derived_traces(kept, kind), whole, rtol=1e-6, atol=1e-8)


def test_a_neuron_without_noise_has_z_scores_of_0():
    result = make_result()
    flat = np.zeros_like(result.traces.delta_f_over_f)
    still: Result = replace(result, traces=replace(result.traces, delta_f_over_f=flat))
    assert not derived_traces(still, "zscore").any()


def test_other_kinds_are_refused():
    with pytest.raises(SettingsError, match="zscore, denoised, deconvolved"):
        derived_traces(make_result(), "wavelet")
