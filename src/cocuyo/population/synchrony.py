"""Coactivity over time: how many neurons are active together, and when that is no chance."""

from typing import Literal

import numpy as np

from cocuyo.core import (
    AnyArray,
    BoolArray,
    Coactivity,
    LabelArray,
    Progress,
    ProgressCallback,
    SynchronyPeaks,
    ignore_progress,
    stream,
)


def measure_coactivity(
    raster: BoolArray,
    *,
    rule: Literal["pooled", "maximum"] = "pooled",
    n_shuffles: int = 1000,
    significance: float = 0.05,
    seed: int = 0,
    progress: ProgressCallback = ignore_progress,
) -> Coactivity:
    """Count the neurons that are active together and find the number that chance rarely reaches.

    In a shuffled raster each row is shifted by a random lag, circularly: every neuron keeps its
    rate, its durations and its bursts, and only their timing relative to each other is lost.

    By the rule ``pooled`` the threshold is the smallest number that is reached in at most a share
    `significance` of all bins of all shuffled rasters, as in Miller et al. (PNAS 111:E4053, 2014)
    and much of the slice literature. It sees weak synchrony; in a recording of independent
    neurons up to that share of the bins is significant too. By the rule ``maximum`` at most that
    share of the shuffled rasters reaches it in *any* bin (such as Cossart et al., Nature 423:283,
    2003): independent neurons then have no peak at all with 95 % probability.

    Parameters
    ----------
    raster : ndarray of bool, shape (n_neurons, n_bins)
        Activity of each neuron.
    rule : {"pooled", "maximum"}, default: "pooled"
        What the number of active neurons is compared with.
    n_shuffles : int, default: 1000
        Number of shuffled rasters.
    significance : float, default: 0.05
        Largest probability by chance.
    seed : int, default: 0
        Seed of the lags (stream ``population.shuffles``).
    progress : callable, optional
        Called now and then with the number of shuffles done.

    Returns
    -------
    Coactivity
        Number of active neurons, threshold (at least 2) and probabilities by chance.

    Examples
    --------
    >>> import numpy as np
    >>> raster = np.zeros((5, 200), bool)
    >>> raster[:, 50:52] = True
    >>> measure_coactivity(raster, rule="maximum").threshold
    3
    """
    raster = np.asarray(raster, np.bool_)
    n_neurons = len(raster)
    bins, maxima = _shuffle(raster, n_shuffles, seed, progress)
    # The raster itself counts as one more case, so that no probability is 0
    # (Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9:39, 2010).
    chance_bin, chance_recording = (
        (1 + np.cumsum(found[::-1])[::-1]) / (1 + found.sum()) for found in (bins, maxima)
    )
    chance = chance_bin if rule == "pooled" else chance_recording
    enough = np.flatnonzero(chance <= significance)
    threshold = int(enough[0]) if len(enough) else n_neurons + 1
    n_active = raster.sum(axis=0, dtype=np.int32)
    return Coactivity(n_active, max(2, threshold), chance_bin, chance_recording)


def _shuffle(
    raster: BoolArray, n_shuffles: int, seed: int, progress: ProgressCallback
) -> tuple[AnyArray, AnyArray]:
    """Number of bins, and of largest bins, with 0, 1, ..., n + 1 active neurons in shuffles."""
    n_neurons, n_bins = raster.shape
    bins, maxima = np.zeros(n_neurons + 2, np.int64), np.zeros(n_neurons + 2, np.int64)
    # Lags for silent neurons too, so that leaving one out does not move those of the others.
    lags = stream(seed, "population.shuffles").integers(0, n_bins, (n_shuffles, n_neurons))
    active = np.flatnonzero(raster.any(axis=1))
    twice = np.concatenate([raster, raster], axis=1).astype(np.uint16)
    total = np.zeros(n_bins, np.uint16)
    for shuffle in range(n_shuffles):
        total[:] = 0
        for neuron in active:
            lag = lags[shuffle, neuron]
            total += twice[neuron, lag : lag + n_bins]
        bins += np.bincount(total, minlength=n_neurons + 2)
        maxima[total.max()] += 1
        if shuffle % 50 == 49 or shuffle == n_shuffles - 1:
            progress(Progress("shuffling", shuffle + 1, n_shuffles))
    return bins, maxima


def find_peaks(raster: BoolArray, coactivity: Coactivity, *, join_bins: int = 0) -> SynchronyPeaks:
    """Find the peaks of synchrony: stretches of bins with significant coactivity.

    Stretches a few bins apart are one peak: coactivity that wavers about the threshold would
    otherwise count the same transients several times. Population vectors are taken from the
    significant bins alone.

    Parameters
    ----------
    raster : ndarray of bool, shape (n_neurons, n_bins)
        Activity of each neuron.
    coactivity : Coactivity
        What `measure_coactivity` found in it.
    join_bins : int, default: 0
        Most bins between two stretches that are one peak.

    Returns
    -------
    SynchronyPeaks
        The peaks in time, each with its population vector; they belong to no ensemble yet.
    """
    significant = coactivity.significant
    runs = runs_of(significant)
    if len(runs):
        new = np.concatenate([[True], runs[1:, 0] - runs[:-1, 1] > join_bins])
        last = np.concatenate([np.flatnonzero(new)[1:], [len(runs)]]) - 1
        runs = np.column_stack([runs[new, 0], runs[last, 1]])
    n_peaks = len(runs)
    peak = np.zeros(n_peaks, np.int32)
    vectors = np.zeros((n_peaks, len(raster)), np.float32)
    for i, (start, stop) in enumerate(runs.tolist()):
        peak[i] = start + int(np.argmax(coactivity.n_active[start:stop]))
        vectors[i] = raster[:, start:stop][:, significant[start:stop]].mean(axis=1)
    height = coactivity.n_active[peak]
    return SynchronyPeaks(
        onset=runs[:, 0],
        peak=peak,
        offset=runs[:, 1] - np.int32(1),
        n_active=height,
        p_bin=coactivity.chance_bin[height],
        p_recording=coactivity.chance_recording[height],
        vectors=vectors,
        ensemble=np.zeros(n_peaks, np.int32),
    )


def runs_of(active: AnyArray) -> LabelArray:
    """Find the stretches in which a row is true.

    Parameters
    ----------
    active : ndarray of bool, shape (n_bins,)
        The row.

    Returns
    -------
    ndarray of int32, shape (n_runs, 2)
        First bin of each, and the one after its last.
    """
    edges = np.diff(np.concatenate([[0], np.asarray(active, np.int8), [0]]))
    return np.column_stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)]).astype(
        np.int32
    )
