"""What the analysis of a population finds: synchrony, correlations, ensembles, responses."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cocuyo.core.arrays import AnyArray, BoolArray, FloatArray, LabelArray, TimeArray


@dataclass(frozen=True, eq=False)
class Coactivity:
    """How many neurons are active together, and from where on that is more than chance.

    Attributes
    ----------
    n_active : ndarray of int32, shape (n_bins,)
        Neurons active in each bin.
    threshold : int
        Smallest number that is significant; at least 2. It may exceed the number of neurons:
        then no bin can be significant.
    chance_bin, chance_recording : ndarray of float64, shape (n_neurons + 2,)
        Probability by chance that at least 0, 1, 2, ... neurons are active: in one bin, and in
        any bin of the recording.
    """

    n_active: LabelArray
    threshold: int
    chance_bin: TimeArray
    chance_recording: TimeArray

    @property
    def significant(self) -> BoolArray:
        """Bins in which at least `threshold` neurons are active, shape (n_bins,)."""
        return np.asarray(self.n_active >= self.threshold, np.bool_)


@dataclass(frozen=True, eq=False)
class SynchronyPeaks:
    """Stretches of significant coactivity, in time.

    Attributes
    ----------
    onset, peak, offset : ndarray of int32, shape (n_peaks,)
        First significant bin, the (first) highest one, the last one.
    n_active : ndarray of int32, shape (n_peaks,)
        Neurons active in the highest bin.
    p_bin, p_recording : ndarray of float64, shape (n_peaks,)
        Probability of so many active neurons by chance, in one bin and in any bin.
    vectors : ndarray of float32, shape (n_peaks, n_neurons)
        Share of the peak's bins in which each neuron is active: its population vector.
    ensemble : ndarray of int32, shape (n_peaks,)
        Number of the ensemble, from 1; 0 where the peak belongs to none.
    """

    onset: LabelArray
    peak: LabelArray
    offset: LabelArray
    n_active: LabelArray
    p_bin: TimeArray
    p_recording: TimeArray
    vectors: FloatArray
    ensemble: LabelArray

    def __len__(self) -> int:
        return len(self.onset)


@dataclass(frozen=True, eq=False)
class PairCorrelations:
    """Correlation of each pair of neurons, with its significance.

    Attributes
    ----------
    matrix : ndarray of float32, shape (n_neurons, n_neurons)
        Pearson correlation of the rasters, in [-1, 1]; NaN where a neuron is never or
        always active.
    p_value, q_value : ndarray of float32, shape (n_neurons, n_neurons)
        Share of circular shifts that give as much overlap; the same corrected for the number of
        pairs (false discovery rate). 1 where there is no correlation, and on the diagonal.
    significant : ndarray of bool, shape (n_neurons, n_neurons)
        Pairs more often active together than chance.
    """

    matrix: FloatArray
    p_value: FloatArray
    q_value: FloatArray
    significant: BoolArray

    @property
    def n_significant(self) -> int:
        """Number of significant pairs."""
        return int(np.count_nonzero(np.triu(self.significant, 1)))


@dataclass(frozen=True, eq=False)
class Ensembles:
    """Groups of neurons that are active together again and again.

    Attributes
    ----------
    core : ndarray of bool, shape (n_ensembles, n_neurons)
        Neurons that take part more often than chance.
    participation : ndarray of float32, shape (n_ensembles, n_neurons)
        Share of the ensemble's bins in which each neuron is active.
    q_value : ndarray of float32, shape (n_ensembles, n_neurons)
        Significance of the participation, corrected (false discovery rate).
    activity : ndarray of float32, shape (n_ensembles, n_bins)
        Share of the ensemble's core neurons that are active in each bin.
    n_peaks : ndarray of int32, shape (n_ensembles,)
        Peaks of synchrony of each ensemble.
    silhouette : float
        Mean silhouette of the groups of peaks, in [-1, 1]; NaN for one group.
    p_value : float
        Share of shuffled sets of peaks that fall into groups as clearly; NaN where the number of
        peaks allows one group only.
    reason : str
        Why there is no ensemble; empty where there is one.
    """

    core: BoolArray
    participation: FloatArray
    q_value: FloatArray
    activity: FloatArray
    n_peaks: LabelArray
    silhouette: float
    p_value: float
    reason: str = ""

    def __len__(self) -> int:
        return len(self.core)


@dataclass(frozen=True, eq=False)
class StimulusResponse:
    """Activity around the stimuli of one label.

    Attributes
    ----------
    label : str
        Name of the stimulus.
    times_s : ndarray of float64, shape (n_stimuli,)
        Times of the stimuli that were used, in seconds of the recording.
    lags_s : ndarray of float64, shape (n_lags,)
        Time relative to the stimulus, one value for each frame of the window.
    active : ndarray of float32, shape (n_neurons, n_lags)
        Share of the stimuli at which each neuron is active.
    delta_f_over_f : ndarray of float32, shape (n_neurons, n_lags)
        Mean ΔF/F₀ over the stimuli; NaN without traces.
    n_active : ndarray of float32, shape (n_lags,)
        Mean number of active neurons.
    n_active_low, n_active_high : ndarray of float32, shape (n_lags,)
        2.5th and 97.5th percentile of that mean at shuffled stimulus times.
    response : ndarray of float32, shape (n_neurons,)
        Share of time active after the stimulus minus that in the whole recording.
    p_value, q_value : ndarray of float32, shape (n_neurons,)
        Share of shuffled stimulus times with such a response or a larger one; the same corrected
        for the number of neurons (false discovery rate).
    responders : ndarray of bool, shape (n_neurons,)
        Neurons with a significant response.
    population_p_value : float
        The same for the number of active neurons.
    """

    label: str
    times_s: TimeArray
    lags_s: TimeArray
    active: FloatArray
    delta_f_over_f: FloatArray
    n_active: FloatArray
    n_active_low: FloatArray
    n_active_high: FloatArray
    response: FloatArray
    p_value: FloatArray
    q_value: FloatArray
    responders: BoolArray
    population_p_value: float


@dataclass(frozen=True, eq=False)
class PopulationAnalysis:
    """What the neurons of one recording do together.

    Attributes
    ----------
    raster : ndarray of bool, shape (n_neurons, n_bins)
        Activity in bins: a neuron is active in a bin if it is in any of its frames.
    times_s : ndarray of float64, shape (n_bins,)
        Start of each bin, in seconds.
    bin_frames : int
        Frames in a bin; the last bin may have fewer.
    coactivity : Coactivity
        Number of active neurons and its threshold.
    peaks : SynchronyPeaks
        Where it is significant.
    correlations : PairCorrelations
        Of all pairs.
    ensembles : Ensembles
        Groups of neurons behind the peaks.
    order : ndarray of int32, shape (n_neurons,)
        Neurons sorted for display: by the ensemble in which they take part most, then by
        participation; those in none last.
    stimuli : tuple of StimulusResponse
        One for each label; empty where no stimuli were given.
    settings : dict
        Complete settings, plain JSON.
    seed : int
        Seed of all random steps.
    notes : tuple of str
        What the user should know, in sentences.
    """

    raster: BoolArray
    times_s: TimeArray
    bin_frames: int
    coactivity: Coactivity
    peaks: SynchronyPeaks
    correlations: PairCorrelations
    ensembles: Ensembles
    order: LabelArray
    stimuli: tuple[StimulusResponse, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    notes: tuple[str, ...] = ()

    @property
    def n_neurons(self) -> int:
        """Number of neurons."""
        return len(self.raster)

    def membership(self) -> AnyArray:
        """Give the ensemble in which each neuron takes part most.

        Returns
        -------
        ndarray of int32, shape (n_neurons,)
            Number of the ensemble, from 1; 0 for a neuron that is core of none.
        """
        if len(self.ensembles) == 0:
            return np.zeros(self.n_neurons, np.int32)
        taking_part = np.where(self.ensembles.core, self.ensembles.participation, -1.0)
        best = taking_part.argmax(axis=0) + 1
        return np.where(self.ensembles.core.any(axis=0), best, 0).astype(np.int32)
