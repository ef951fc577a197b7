"""The whole analysis of a population, from raster to ensembles and responses."""

from dataclasses import replace

import numpy as np

from cocuyo.core import (
    BoolArray,
    FloatArray,
    LabelArray,
    PairCorrelations,
    PopulationAnalysis,
    ProgressCallback,
    SettingsError,
    StimulusResponse,
    TimeArray,
    ignore_progress,
)
from cocuyo.population.correlation import correlate_pairs
from cocuyo.population.ensembles import find_ensembles
from cocuyo.population.settings import EnsembleConfig
from cocuyo.population.stimuli import group_by_label, measure_responses
from cocuyo.population.synchrony import find_peaks, measure_coactivity


def analyse_population(
    raster: BoolArray,
    times_s: TimeArray,
    *,
    frame_rate_hz: float,
    delta_f_over_f: FloatArray | None = None,
    stimuli_s: TimeArray | None = None,
    stimulus_labels: tuple[str, ...] | None = None,
    config: EnsembleConfig = EnsembleConfig(),
    seed: int = 0,
    progress: ProgressCallback = ignore_progress,
) -> PopulationAnalysis:
    """Find synchrony, correlated pairs, ensembles and responders in the raster of a recording.

    The order of the neurons changes nothing but the order of what is given back.

    Parameters
    ----------
    raster : ndarray of bool, shape (n_neurons, n_frames)
        Activity of each neuron in each frame.
    times_s : ndarray of float64, shape (n_frames,)
        Time of each frame, in seconds, rising.
    frame_rate_hz : float
        Frames per second.
    delta_f_over_f : ndarray of float32, shape (n_neurons, n_frames), optional
        Traces, for averages around stimuli.
    stimuli_s : ndarray of float64, shape (n_stimuli,), optional
        Times of stimuli, in seconds of the recording.
    stimulus_labels : tuple of str, optional
        Name of each stimulus; stimuli of one name are averaged.
    config : EnsembleConfig
        Settings.
    seed : int, default: 0
        Seed of all shuffles.
    progress : callable, optional
        Called now and then; may raise `Cancelled`.

    Returns
    -------
    PopulationAnalysis
        What was found; empty, with a reason, where there is nothing.

    Raises
    ------
    SettingsError
        If shapes do not fit each other, the seed is negative, or no stimulus lies within the
        recording.

    Examples
    --------
    Eight neurons that fire together ten times, and four that fire alone:

    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> raster = rng.random((12, 400)) < 0.02
    >>> raster[:8, rng.choice(400, 10, replace=False)] = True
    >>> found = analyse_population(raster, np.arange(400) / 10, frame_rate_hz=10.0)
    >>> len(found.ensembles), np.flatnonzero(found.ensembles.core[0]).tolist()
    (1, [0, 1, 2, 3, 4, 5, 6, 7])
    """
    raster = np.asarray(raster, np.bool_)
    times_s = np.asarray(times_s, np.float64)
    _check(raster, times_s, frame_rate_hz, delta_f_over_f, stimuli_s, stimulus_labels, seed)
    # Lags are drawn row by row: rows in an order of their own make the given one irrelevant.
    order = np.array(
        sorted(range(len(raster)), key=lambda i: np.packbits(raster[i]).tobytes()), int
    )
    bin_frames = 1 if config.bin_s is None else max(1, round(config.bin_s * frame_rate_hz))
    binned = bin_raster(raster[order], bin_frames)
    coactivity = measure_coactivity(
        binned,
        rule=config.threshold,
        n_shuffles=config.n_shuffles,
        significance=config.significance,
        seed=seed,
        progress=progress,
    )
    join_bins = round(config.join_s * frame_rate_hz / bin_frames)
    peaks = find_peaks(binned, coactivity, join_bins=join_bins)
    correlations = correlate_pairs(binned, significance=config.significance, progress=progress)
    ensembles, membership = find_ensembles(
        binned,
        coactivity,
        peaks,
        max_ensembles=config.max_ensembles,
        min_peaks=config.min_peaks,
        n_shuffles=config.n_shuffles,
        significance=config.significance,
        seed=seed,
        progress=progress,
    )
    back = np.argsort(order)
    peaks = replace(peaks, ensemble=membership)
    stimuli, notes = _responses(
        raster,
        times_s,
        frame_rate_hz,
        delta_f_over_f,
        stimuli_s,
        stimulus_labels,
        config,
        seed,
    )
    found = PopulationAnalysis(
        raster=binned[back],
        times_s=times_s[::bin_frames],
        bin_frames=bin_frames,
        coactivity=coactivity,
        peaks=replace(peaks, vectors=peaks.vectors[:, back]),
        correlations=PairCorrelations(
            *(
                getattr(correlations, name)[np.ix_(back, back)]
                for name in PairCorrelations.__dataclass_fields__
            )
        ),
        ensembles=replace(
            ensembles,
            core=ensembles.core[:, back],
            participation=ensembles.participation[:, back],
            q_value=ensembles.q_value[:, back],
        ),
        order=np.zeros(0, np.int32),
        stimuli=stimuli,
        settings=config.model_dump(mode="json"),
        seed=seed,
        notes=notes,
    )
    return replace(found, order=_display_order(found))


def bin_raster(raster: BoolArray, bin_frames: int) -> BoolArray:
    """Join frames to bins: active in a bin is what is active in any of its frames.

    Parameters
    ----------
    raster : ndarray of bool, shape (n_neurons, n_frames)
        Activity in each frame.
    bin_frames : int
        Frames in a bin; the last one may have fewer.

    Returns
    -------
    ndarray of bool, shape (n_neurons, n_bins)
        Activity in each bin.

    Examples
    --------
    >>> import numpy as np
    >>> bin_raster(np.array([[True, False, False, False, True]]), 2).tolist()
    [[True, False, True]]
    """
    if bin_frames == 1 or raster.shape[1] == 0:
        return raster.copy()
    starts = np.arange(0, raster.shape[1], bin_frames)
    return np.asarray(np.logical_or.reduceat(raster, starts, axis=1), np.bool_)


def _responses(
    raster: BoolArray,
    times_s: TimeArray,
    frame_rate_hz: float,
    delta_f_over_f: FloatArray | None,
    stimuli_s: TimeArray | None,
    labels: tuple[str, ...] | None,
    config: EnsembleConfig,
    seed: int,
) -> tuple[tuple[StimulusResponse, ...], tuple[str, ...]]:
    if stimuli_s is None:
        return (), ()
    groups = group_by_label([float(time) for time in stimuli_s], labels or ("",) * len(stimuli_s))
    responses, notes = [], []
    for label, times in groups.items():
        response = measure_responses(
            raster,
            times_s,
            times,
            frame_rate_hz=frame_rate_hz,
            delta_f_over_f=delta_f_over_f,
            before_s=config.before_s,
            after_s=config.after_s,
            n_shuffles=config.n_shuffles,
            significance=config.significance,
            seed=seed,
            label=label,
        )
        responses.append(response)
        left_out = len(times) - len(response.times_s)
        if left_out:
            named = f" {label!r}" if label else ""
            notes.append(
                f"{left_out} of {len(times)} stimuli{named} were left out: their window of "
                f"{config.before_s:g} s before to {config.after_s:g} s after them goes beyond the "
                "recording."
            )
    return tuple(responses), tuple(notes)


def _display_order(found: PopulationAnalysis) -> LabelArray:
    """Neurons by ensemble, then by participation in it; those in none last, by activity."""
    member = found.membership()
    first = np.where(member == 0, len(found.ensembles) + 1, member)
    rate = found.raster.mean(axis=1) if found.raster.shape[1] else np.zeros(len(member))
    share = rate.astype(np.float64)
    for number in range(1, len(found.ensembles) + 1):
        mine = member == number
        share[mine] = found.ensembles.participation[number - 1, mine]
    return np.lexsort([-rate, -share, first]).astype(np.int32)


def _check(
    raster: BoolArray,
    times_s: TimeArray,
    frame_rate_hz: float,
    delta_f_over_f: FloatArray | None,
    stimuli_s: TimeArray | None,
    labels: tuple[str, ...] | None,
    seed: int,
) -> None:
    if raster.ndim != 2 or raster.shape[1] != len(times_s):
        msg = (
            f"The raster has shape {raster.shape} and there are {len(times_s)} times; give it as "
            "(n_neurons, n_frames) and one time for each frame."
        )
        raise SettingsError(msg)
    if len(times_s) == 0:
        msg = "The raster has no frames; give one of a recording."
        raise SettingsError(msg)
    if not 0 < frame_rate_hz < float("inf"):
        msg = f"frame_rate_hz is {frame_rate_hz}; give a positive number of frames per second."
        raise SettingsError(msg)
    if delta_f_over_f is not None and delta_f_over_f.shape != raster.shape:
        msg = f"ΔF/F₀ has shape {delta_f_over_f.shape}; give that of the raster, {raster.shape}."
        raise SettingsError(msg)
    if labels is not None and len(labels) != (0 if stimuli_s is None else len(stimuli_s)):
        msg = f"There are {len(labels)} labels; give one for each stimulus."
        raise SettingsError(msg)
    if stimuli_s is not None and (not len(stimuli_s) or not np.isfinite(stimuli_s).all()):
        msg = f"There are {len(stimuli_s)} stimuli; give one or more, with finite times."
        raise SettingsError(msg)
    if seed < 0:
        msg = f"The seed is {seed}; it must be 0 or more."
        raise SettingsError(msg)
