"""Correlation of pairs of rasters."""

import numpy as np

from cocuyo.core import (
    AnyArray,
    BoolArray,
    FloatArray,
    PairCorrelations,
    Progress,
    ProgressCallback,
    TimeArray,
    ignore_progress,
)
from cocuyo.population.statistics import discovery_rate, overlaps, spectrum

# Numbers handled at once: 16 MB of float64.
_BLOCK = 2_000_000
# With fewer shifts than this in the tail, its fitted form tells more than their count
# (Knijnenburg et al., Bioinformatics 25:i161, 2009).
_FEW = 10


def correlate_pairs(
    raster: BoolArray,
    *,
    significance: float = 0.05,
    progress: ProgressCallback = ignore_progress,
) -> PairCorrelations:
    """Correlate the activity of all pairs of neurons and test each against circular shifts.

    The test asks how often two rasters overlap as much when one is shifted against the other by
    any lag, which is what shuffling by random lags does to a pair; here all lags are counted, so no
    chance enters. Where fewer than ten lags reach the observed overlap, the tail is that of a
    Pearson type III distribution with the mean, variance and skewness of all lags (Winkler et al.,
    NeuroImage 141:502, 2016), as the number of lags would limit the p-value. P-values are corrected
    by the false discovery rate over pairs (Benjamini and Hochberg 1995). The test is one-sided:
    only pairs that are active together *more* than chance are significant.

    Parameters
    ----------
    raster : ndarray of bool, shape (n_neurons, n_bins)
        Activity of each neuron.
    significance : float, default: 0.05
        False discovery rate.
    progress : callable, optional
        Called now and then with the number of neurons done.

    Returns
    -------
    PairCorrelations
        Correlations and their significance.
    """
    raster = np.asarray(raster, np.bool_)
    n_neurons, n_bins = raster.shape
    matrix = correlation_matrix(raster)
    p_value = np.ones((n_neurons, n_neurons), np.float32)
    q_value = np.ones((n_neurons, n_neurons), np.float32)
    counts = raster.sum(axis=1).astype(np.float64)
    usable = np.flatnonzero((counts > 0) & (counts < n_bins))
    if len(usable):
        spectra = spectrum(raster[usable])
        found: list[AnyArray] = []
        for i in range(len(usable) - 1):
            step = max(1, _BLOCK // n_bins)
            for start in range(i + 1, len(usable), step):
                others = slice(start, min(start + step, len(usable)))
                table = overlaps(spectra[i], spectra[others], n_bins)
                found.append(_tail(table))
            progress(Progress("correlating", i + 1, max(1, len(usable) - 1)))
        if found:
            rows, columns = (usable[k] for k in np.triu_indices(len(usable), 1))
            p = np.concatenate(found)
            q = discovery_rate(p)
            p_value[rows, columns] = p_value[columns, rows] = p
            q_value[rows, columns] = q_value[columns, rows] = q
    return PairCorrelations(matrix, p_value, q_value, q_value <= significance)


def correlation_matrix(raster: BoolArray) -> FloatArray:
    """Correlate the activity of all pairs of neurons, without a test.

    Parameters
    ----------
    raster : ndarray of bool, shape (n_neurons, n_bins)
        Activity of each neuron.

    Returns
    -------
    ndarray of float32, shape (n_neurons, n_neurons)
        Pearson's correlation, in [-1, 1]; NaN for a neuron that is always or never active.
    """
    raster = np.asarray(raster, np.bool_)
    n_neurons, n_bins = raster.shape
    matrix = np.full((n_neurons, n_neurons), np.nan, np.float32)
    counts = raster.sum(axis=1).astype(np.float64)
    usable = np.flatnonzero((counts > 0) & (counts < n_bins))
    if len(usable):
        mean = counts[usable] / n_bins
        spread = np.sqrt(mean * (1 - mean))
        active = raster[usable].astype(np.float32)  # counts below 2**24 are exact in it
        covariance = (active @ active.T).astype(np.float64) / n_bins - np.outer(mean, mean)
        matrix[np.ix_(usable, usable)] = covariance / np.outer(spread, spread)
        matrix[usable, usable] = 1
    return matrix


def _tail(table: AnyArray) -> TimeArray:
    """Share of the values of each row that reach its first one, small shares from a fitted tail."""
    observed = table[:, 0]
    reached = (table >= observed[:, None]).sum(axis=1)
    p = reached / table.shape[1]
    few = np.flatnonzero(reached < _FEW)
    few = few[(table[few] != table[few, :1]).any(axis=1)]
    if len(few):
        # Half a second to import, which every batch would wait for.
        from scipy import stats

        rows = table[few].astype(np.float64)
        mean, spread = rows.mean(axis=1), rows.std(axis=1)
        skew = ((rows - mean[:, None]) ** 3).mean(axis=1) / spread**3
        # Overlaps are whole numbers: half of one is the continuity correction.
        fitted = stats.pearson3.sf((observed[few] - 0.5 - mean) / spread, skew)
        p[few] = np.clip(np.nan_to_num(fitted, nan=1.0), 1e-12, None)
    return np.asarray(p, np.float64)
