"""Ensembles: groups of neurons behind peaks of synchrony that resemble each other."""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from cocuyo.core import (
    AnyArray,
    BoolArray,
    Coactivity,
    Ensembles,
    FloatArray,
    LabelArray,
    Progress,
    ProgressCallback,
    SynchronyPeaks,
    TimeArray,
    ignore_progress,
    stream,
)
from cocuyo.population.statistics import discovery_rate, overlaps, spectrum

# One neuron is no group.
_MIN_CORE = 2
# What happened once does not recur.
_MIN_PEAKS = 2
# 1000 peaks in 100 shuffles take about a minute.
_MAX_PEAKS_SHUFFLED = 100_000


@dataclass(frozen=True, eq=False)
class PeakGroups:
    """Peaks of synchrony in groups of similar population vectors.

    Attributes
    ----------
    group : ndarray of int32, shape (n_peaks,)
        Number of the group of each peak, from 0.
    silhouette : float
        Mean silhouette, in [-1, 1]; NaN for one group.
    p_value : float
        Share of shuffled sets of peaks that fall into groups as clearly; NaN where only one
        group is possible.
    """

    group: LabelArray
    silhouette: float
    p_value: float


def group_peaks(
    vectors: FloatArray,
    *,
    max_groups: int = 10,
    n_shuffles: int = 1000,
    significance: float = 0.05,
    seed: int = 0,
    progress: ProgressCallback = ignore_progress,
) -> PeakGroups:
    """Group peaks whose population vectors are similar.

    Similarity is the cosine of two vectors, as in Carrillo-Reid et al. (J. Neurosci. 35:8813,
    2015); groups come from hierarchical clustering with average linkage, and their number, from 2
    to `max_groups`, is that of the largest mean silhouette (Rousseeuw, J. Comput. Appl. Math.
    20:53, 1987). As a silhouette cannot speak for one group, the largest one is compared with that
    of shuffled vectors, in which each neuron's values are permuted over the peaks: neurons take
    part as often, but independently. If more than a share `significance` of the shuffles have as
    large a silhouette, all peaks are one group.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n_peaks, n_neurons)
        Population vectors, not negative.
    max_groups : int, default: 10
        Largest number of groups that is tried.
    n_shuffles : int, default: 1000
        Number of shuffled sets; fewer where there are more than 100 peaks, to bound the time.
    significance : float, default: 0.05
        Probability of more than one group by chance.
    seed : int, default: 0
        Seed of the shuffles (stream ``population.groups``).
    progress : callable, optional
        Called now and then with the number of shuffles done.

    Returns
    -------
    PeakGroups
        The groups, in the order of their first peaks.
    """
    values = np.asarray(vectors, np.float64)
    n_peaks = len(values)
    one = PeakGroups(np.zeros(n_peaks, np.int32), float("nan"), float("nan"))
    if n_peaks < 3 or max_groups < 2:
        return one
    group, silhouette = _best_groups(values, max_groups)
    n_shuffles = min(n_shuffles, max(math.ceil(2 / significance), _MAX_PEAKS_SHUFFLED // n_peaks))
    rng = stream(seed, "population.groups")
    as_clear = 0
    for shuffle in range(n_shuffles):
        shuffled = rng.permuted(values, axis=0)
        as_clear += _best_groups(shuffled, max_groups)[1] >= silhouette
        if shuffle % 50 == 49 or shuffle == n_shuffles - 1:
            progress(Progress("grouping", shuffle + 1, n_shuffles))
    p_value = (1 + as_clear) / (1 + n_shuffles)
    if p_value > significance:
        return replace(one, p_value=p_value)
    _, first, number = np.unique(group, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    return PeakGroups(rank[number].astype(np.int32), silhouette, p_value)


def _best_groups(vectors: TimeArray, max_groups: int) -> tuple[AnyArray, float]:
    """Cluster by cosine and average linkage; keep the number of the largest silhouette."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(length > 0, length, 1)  # an empty vector resembles no other
    distance = np.clip(1 - unit @ unit.T, 0, 1)
    distance = np.minimum(distance, distance.T)
    np.fill_diagonal(distance, 0)
    tree = hierarchy.linkage(squareform(distance, checks=False), "average")
    best, score = np.zeros(len(vectors), np.int32), -np.inf
    for n_groups in range(2, min(max_groups, len(vectors) - 1) + 1):
        group = hierarchy.fcluster(tree, n_groups, "maxclust") - 1
        if group.any():  # equal distances can leave a single group
            found = mean_silhouette(distance, group)
            if found > score:
                best, score = group, found
    return best, score


def mean_silhouette(distance: AnyArray, group: AnyArray) -> float:
    """Say how well things lie in their groups: mean silhouette of Rousseeuw.

    Parameters
    ----------
    distance : ndarray of float64, shape (n, n)
        Distance of each pair.
    group : ndarray of int, shape (n,)
        Number of the group of each thing, from 0 without gaps; two groups at least.

    Returns
    -------
    float
        In [-1, 1]; a thing that is alone in its group counts 0.

    Examples
    --------
    >>> import numpy as np
    >>> place = np.array([0.0, 1.0, 10.0, 11.0])
    >>> far = np.abs(place[:, None] - place)
    >>> round(mean_silhouette(far, np.array([0, 0, 1, 1])), 3)
    0.9
    """
    belongs = np.eye(int(group.max()) + 1)[group]
    size = belongs.sum(axis=0)
    total = np.asarray(distance, np.float64) @ belongs
    own_size = size[group]
    own = total[np.arange(len(group)), group] / np.maximum(own_size - 1, 1)
    other = np.where(belongs > 0, np.inf, total / size).min(axis=1)
    largest = np.maximum(own, other)
    value = np.divide(other - own, largest, out=np.zeros(len(group)), where=largest > 0)
    return float(np.where(own_size > 1, value, 0.0).mean())


def find_ensembles(
    raster: BoolArray,
    coactivity: Coactivity,
    peaks: SynchronyPeaks,
    *,
    max_ensembles: int = 10,
    min_peaks: int = 3,
    n_shuffles: int = 1000,
    significance: float = 0.05,
    seed: int = 0,
    progress: ProgressCallback = ignore_progress,
) -> tuple[Ensembles, LabelArray]:
    """Find the ensembles behind the peaks of synchrony, and their core neurons.

    Peaks are grouped by `group_peaks`; a group of one peak does not recur and is no ensemble.
    A neuron is core of an ensemble if it is active in more of the ensemble's bins than when its
    row is shifted circularly, by all lags. As bins were chosen because many neurons are
    active in them, the choice is repeated for every lag: a bin that only this neuron would lift to
    the threshold counts only where the shifted row is active. The test is corrected by the false
    discovery rate over neurons and ensembles. A group with fewer than two core neurons is no
    ensemble either.

    Parameters
    ----------
    raster : ndarray of bool, shape (n_neurons, n_bins)
        Activity of each neuron.
    coactivity : Coactivity
        What `measure_coactivity` found in it.
    peaks : SynchronyPeaks
        What `find_peaks` found.
    max_ensembles : int, default: 10
        Largest number of groups that is tried.
    min_peaks : int, default: 3
        Fewest peaks in which ensembles are looked for.
    n_shuffles : int, default: 1000
        Number of shuffled sets of peaks.
    significance : float, default: 0.05
        Probability of more than one group by chance; false discovery rate of core neurons.
    seed : int, default: 0
        Seed of the shuffles.
    progress : callable, optional
        Called now and then.

    Returns
    -------
    ensembles : Ensembles
        Those with most peaks first; with a reason where there is none.
    membership : ndarray of int32, shape (n_peaks,)
        Number of the ensemble of each peak, from 1; 0 for none.
    """
    raster = np.asarray(raster, np.bool_)
    n_peaks = len(peaks)
    if n_peaks < min_peaks:
        return _none(raster, _too_few(raster, n_peaks, min_peaks)), np.zeros(n_peaks, np.int32)
    groups = group_peaks(
        peaks.vectors,
        max_groups=max_ensembles,
        n_shuffles=n_shuffles,
        significance=significance,
        seed=seed,
        progress=progress,
    )
    sizes = np.bincount(groups.group)
    kept = [int(k) for k in np.argsort(-sizes, kind="stable") if sizes[k] >= _MIN_PEAKS]
    if not kept:
        reason = f"None of the {n_peaks} peaks of synchrony resembles another one."
        return _none(raster, reason, groups), np.zeros(n_peaks, np.int32)
    participation, p = _participation(raster, coactivity, peaks, groups.group, kept)
    q = discovery_rate(p.ravel()).reshape(p.shape)
    core = q <= significance
    enough = core.sum(axis=1) >= _MIN_CORE
    if not enough.any():
        reason = (
            f"In the {n_peaks} peaks of synchrony no two neurons take part more often than chance."
        )
        return _none(raster, reason, groups), np.zeros(n_peaks, np.int32)
    core, chosen = core[enough], np.array(kept)[enough]
    membership = np.zeros(n_peaks, np.int32)
    for number, group in enumerate(chosen, start=1):
        membership[groups.group == group] = number
    active = (core.astype(np.float32) @ raster) / core.sum(axis=1, keepdims=True)
    ensembles = Ensembles(
        core=core,
        participation=participation[enough].astype(np.float32),
        q_value=q[enough].astype(np.float32),
        activity=active.astype(np.float32),
        n_peaks=sizes[chosen].astype(np.int32),
        silhouette=groups.silhouette,
        p_value=groups.p_value,
    )
    return ensembles, membership


def _too_few(raster: BoolArray, n_peaks: int, min_peaks: int) -> str:
    n_neurons = len(raster)
    if n_neurons < 2:
        there = "is 1 neuron" if n_neurons == 1 else "is no neuron"
        return f"There {there}; being active together takes two at least."
    if not raster.any():
        return f"None of the {n_neurons} neurons is ever active."
    if n_peaks == 0:
        return "The neurons are never active together more than chance allows."
    found = "is 1 significant peak" if n_peaks == 1 else f"are {n_peaks} significant peaks"
    return f"There {found} of synchrony; ensembles are looked for in {min_peaks} or more."


def _none(raster: BoolArray, reason: str, groups: PeakGroups | None = None) -> Ensembles:
    n_neurons, n_bins = raster.shape
    nothing = np.zeros((0, n_neurons), np.float32)
    return Ensembles(
        core=np.zeros((0, n_neurons), np.bool_),
        participation=nothing,
        q_value=nothing,
        activity=np.zeros((0, n_bins), np.float32),
        n_peaks=np.zeros(0, np.int32),
        silhouette=float("nan") if groups is None else groups.silhouette,
        p_value=float("nan") if groups is None else groups.p_value,
        reason=reason,
    )


def _participation(
    raster: BoolArray,
    coactivity: Coactivity,
    peaks: SynchronyPeaks,
    group: LabelArray,
    kept: list[int],
) -> tuple[TimeArray, TimeArray]:
    """Participation of each neuron in each group and its p-value, (n_groups, n_neurons)."""
    n_neurons, n_bins = raster.shape
    owner = _owners(raster, coactivity, peaks, group)
    participation = np.zeros((len(kept), n_neurons))
    p_value = np.ones((len(kept), n_neurons))
    for neuron in np.flatnonzero(raster.any(axis=1)):
        own = spectrum(raster[neuron])
        others = coactivity.n_active - raster[neuron]
        for row, number in enumerate(kept):
            always = (owner == number) & (others >= coactivity.threshold)
            lifted = (owner == number) & (others == coactivity.threshold - 1)
            in_always, in_lifted = overlaps(spectrum(np.stack([always, lifted])), own[None], n_bins)
            chosen = np.count_nonzero(always) + in_lifted
            share = np.divide(in_always + in_lifted, chosen, out=np.zeros(n_bins), where=chosen > 0)
            participation[row, neuron] = share[0]
            p_value[row, neuron] = np.mean(share >= share[0] - 1e-9)
    return participation, p_value


def _owners(
    raster: BoolArray, coactivity: Coactivity, peaks: SynchronyPeaks, group: LabelArray
) -> LabelArray:
    """Group of each bin: that of its peak; one active neuron short of it, the most similar one."""
    owner = np.full(raster.shape[1], -1, np.int32)
    near = np.flatnonzero(coactivity.n_active == coactivity.threshold - 1)
    templates = np.stack([peaks.vectors[group == k].mean(axis=0) for k in range(group.max() + 1)])
    templates /= np.linalg.norm(templates, axis=1, keepdims=True)
    owner[near] = (templates @ raster[:, near]).argmax(axis=0)
    for onset, offset, number in zip(peaks.onset, peaks.offset, group, strict=True):
        owner[onset : offset + 1] = number
    return owner
