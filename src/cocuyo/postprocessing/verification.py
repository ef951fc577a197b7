"""A small learned verifier: is a candidate a functional neuron?

The paper's future work names a third network that knows "neuron size or closeness". Ours
judges each candidate by figures a person would look at: sharpness of its edge, size, peak
over noise, signs of motion, the networks' opinion and its trace.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import cv2
import numpy as np
from pydantic import Field
from scipy import ndimage
from scipy.spatial.distance import cdist

from cocuyo.core import AnyArray, BoolArray, FloatArray, FrozenConfig, ModelError, release_pages
from cocuyo.postprocessing.footprints import CandidateImage

OWN_FEATURES = (
    "peak_over_noise",
    "area",
    "elongation",
    "solidity",
    "profile_near",
    "profile_far",
    "edge_slope",
    "negative_lobe",
    "motion_share",
    "off_centre",
    "probability_mean",
    "probability_max",
    "contrast",
    "dog_peak",
    "n_events",
    "skewness",
    "shift_correlation",
    "neuropil_correlation",
    "rest_contrast",
    "rest_gradient",
    "image_contrast",
)
"""What a candidate shows by itself (`describe_candidate`)."""
_CONTEXT = (
    "reference_slope",
    "reference_profile",
    "reference_area",
    "rival_correlation",
    "rival_distance",
    "rival_height",
)
OPINION = ("outline_score", "outline_certainty", "outline_agreement")
"""What the outline network says: logit of "a functional neuron", mean probability in its outline,
overlap of its outline with the one at half maximum."""
CANDIDATE_FEATURES = (*OWN_FEATURES, *_CONTEXT, *OPINION)
"""What is said of each candidate: what it shows by itself, what the other candidates of the
recording say of it (`add_context`), and what the outline network says."""
_TYPICAL = (
    "edge_slope",
    "profile_near",
    "peak_over_noise",
    "outline_score",
    "neuropil_correlation",
    "probability_max",
    "rest_contrast",
    "negative_lobe",
    "dog_peak",
)
_PERCENTILES = (50, 90)
FEATURES = (
    *CANDIDATE_FEATURES,
    *(f"{name}_{percentile}" for percentile in _PERCENTILES for name in _TYPICAL),
    "n_candidates",
)
"""Names of the verifier's inputs, in order: `CANDIDATE_FEATURES`, and what the recording's
candidates are like altogether (`add_field`)."""
_LIMITS = {
    "peak_over_noise": (0.0, 3.2),
    "area": (-3.0, 1.5),
    "elongation": (0.0, 1.2),
    "solidity": (0.3, 1.2),
    "profile_near": (-0.5, 1.0),
    "profile_far": (-0.5, 1.0),
    "edge_slope": (0.0, 4.0),
    "negative_lobe": (0.0, 1.5),
    "motion_share": (0.0, 0.7),
    "off_centre": (0.0, 0.8),
    "contrast": (0.0, 2.9),
    "dog_peak": (0.0, 3.5),
    "n_events": (0.0, 2.5),
    "skewness": (-1.0, 4.0),
    "shift_correlation": (0.0, 0.6),
    "neuropil_correlation": (-0.5, 0.8),
    "rest_contrast": (-0.2, 0.4),
    "rest_gradient": (0.0, 0.8),
    "image_contrast": (0.0, 3.9),
    "reference_slope": (0.0, 4.0),
    "reference_profile": (-0.5, 1.0),
    "reference_area": (-3.0, 1.5),
    "rival_correlation": (-1.0, 1.0),
    "rival_distance": (0.0, 2.0),
    "rival_height": (-3.0, 3.0),
    "outline_score": (-8.0, 8.0),
}
"""Range of each figure; values beyond are cut. A ratio with a peak near nothing says no more than
its limit, and a cell clearer than any simulated one must not look strange: beyond the limits more
is not better. The upper ones of brightness and activity lie near the 95th percentile of simulated
functional neurons."""


_CLEAR = 2.5
"""`peak_over_noise` of a clear candidate: its image's peak is 11 times the noise."""
_CLEAR_NEEDED = 8
"""Clear candidates that it takes to speak of a recording's focus."""
_REFERENCES = {
    "reference_slope": ("edge_slope", 80, 2.0),
    "reference_profile": ("profile_near", 20, 0.1),
    "reference_area": ("area", 50, 0.0),
}
"""Figure, its percentile among clear candidates, and the value where there are too few."""


class VerificationConfig(FrozenConfig):
    """Acceptance of candidates."""

    min_score: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Candidates scored lower are rejected. Higher accepts fewer false ROIs.",
    )
    min_area_share: float = Field(
        default=0.2,
        ge=0,
        description="Smallest area of an ROI, as a share of a typical soma's.",
    )
    overlap: float = Field(
        default=0.45,
        gt=0,
        le=1,
        description="Two candidates that share more than this part of the smaller one are the "
        "same neuron, and the lower score is rejected.",
    )


@dataclass(frozen=True, eq=False)
class Verifier:
    """A perceptron that judges candidates by the figures of `FEATURES`.

    Attributes
    ----------
    mean, scale : ndarray of float32, shape (n_features,)
        Standardisation of the features.
    weights, biases : tuple of ndarray of float32
        Layers; ReLU between them, a sigmoid after the last.
    """

    mean: FloatArray
    scale: FloatArray
    weights: tuple[FloatArray, ...]
    biases: tuple[FloatArray, ...]

    def score(self, features: FloatArray) -> FloatArray:
        """Score described candidates.

        Parameters
        ----------
        features : ndarray of float32, shape (n, n_features)
            One row each, in the order of `FEATURES`.

        Returns
        -------
        ndarray of float32, shape (n,)
            In [0, 1].
        """
        hidden = np.clip((features - self.mean) / self.scale, -6, 6)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = hidden @ weight.T + bias
            if layer < len(self.weights) - 1:
                hidden = np.maximum(hidden, 0)
        return np.asarray(1 / (1 + np.exp(-np.clip(hidden[:, 0], -30, 30))), np.float32)

    def tensors(self) -> dict[str, FloatArray]:
        """Return everything as named arrays, for a weights file."""
        named = {"mean": self.mean, "scale": self.scale}
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            named |= {f"weight_{i}": weight, f"bias_{i}": bias}
        return named

    @classmethod
    def from_tensors(cls, tensors: dict[str, FloatArray]) -> Self:
        """Rebuild a verifier from the arrays of `tensors`.

        Parameters
        ----------
        tensors : dict of ndarray
            Named arrays.

        Returns
        -------
        Verifier
            The verifier.

        Raises
        ------
        ModelError
            If an array is missing, does not fit the others, or was made for other features.
        """
        n_layers = sum(name.startswith("weight_") for name in tensors)
        try:
            built = cls(
                tensors["mean"],
                tensors["scale"],
                tuple(tensors[f"weight_{i}"] for i in range(n_layers)),
                tuple(tensors[f"bias_{i}"] for i in range(n_layers)),
            )
        except KeyError as error:
            msg = f"The verifier lacks the array {error}; the model folder is incomplete."
            raise ModelError(msg) from error
        n_features = len(FEATURES)
        if built.mean.shape != (n_features,) or n_layers == 0:
            msg = (
                f"The verifier was made for {built.mean.size} features; this version has "
                f"{n_features}. Train it again."
            )
            raise ModelError(msg)
        widths = [n_features, *(bias.size for bias in built.biases)]
        shapes = [weight.shape for weight in built.weights]
        fits = built.scale.shape == built.mean.shape and widths[-1] == 1
        if not fits or shapes != [(b, a) for a, b in pairwise(widths)]:
            msg = (
                f"The verifier's layers {shapes} do not lead from {n_features} features to one "
                "score; the model folder is damaged. Train it again."
            )
            raise ModelError(msg)
        arrays = (built.mean, built.scale, *built.weights, *built.biases)
        if not all(np.isfinite(array).all() for array in arrays) or not (built.scale > 0).all():
            msg = (
                "The verifier holds numbers that are not finite, or a scale that is not above "
                "0; the model folder is damaged. Train it again."
            )
            raise ModelError(msg)
        return built


@dataclass(frozen=True, eq=False)
class Scene:
    """Images of the whole field that candidates are judged against.

    Attributes
    ----------
    mean, probability, contrast : ndarray of float32, shape (n_rows, n_columns)
        Mean frame in counts, probability, largest temporal contrast.
    diameter_px : float
        Typical soma diameter.
    """

    mean: FloatArray
    probability: FloatArray
    contrast: FloatArray
    diameter_px: float


def describe_candidate(
    candidate: CandidateImage,
    *,
    scene: Scene,
    index: AnyArray,
    inside: BoolArray,
    trace: FloatArray,
    neuropil: FloatArray,
    dog: FloatArray,
    n_events: int,
    shifts: FloatArray,
) -> FloatArray:
    """Measure what the verifier judges.

    Parameters
    ----------
    candidate : CandidateImage
        Image and outline; must have pixels.
    scene : Scene
        Images of the field.
    index : ndarray of int32, shape (side * side,)
        Flat frame index of each pixel of the candidate's square.
    inside : ndarray of bool, shape (side, side)
        Pixels inside the frame.
    trace, neuropil, dog : ndarray of float32, shape (n_frames,)
        Corrected trace, ring, DoG signal in units of its noise.
    n_events : int
        Number of events found.
    shifts : ndarray of float32, shape (n_frames, 2)
        Motion of the recording.

    Returns
    -------
    ndarray of float32, shape (n_own,)
        In the order of `OWN_FEATURES`; finite.
    """
    d = scene.diameter_px
    mask, image = candidate.mask, candidate.image
    side = len(mask)
    y, x = np.nonzero(mask)
    area = float(len(y))
    cy, cx = y.mean(), x.mean()
    spread = np.cov(np.stack([y, x])) if area > 2 else np.eye(2)
    axes = np.sqrt(np.maximum(np.linalg.eigvalsh(spread + 0.08 * np.eye(2)), 1e-6))
    outside = ndimage.distance_transform_edt(~mask)
    inner = ndimage.distance_transform_edt(mask)
    smooth = np.asarray(cv2.GaussianBlur(image, (0, 0), max(0.08 * d, 0.6)), np.float32)
    near = inside & (outside > 0.15 * d) & (outside <= 0.4 * d + 0.5)
    far = inside & (outside > 0.5 * d) & (outside <= 0.9 * d + 0.5)
    border = inside & ((inner == 1) | (outside == 1))
    gy, gx = np.gradient(smooth)
    slope = np.hypot(gy, gx)
    mean = scene.mean.ravel()[index].reshape(side, side)
    rest = cv2.GaussianBlur(mean, (0, 0), max(0.08 * d, 0.6))
    rest_gy, rest_gx = np.gradient(rest)
    window = inside & (outside <= 0.6 * d)
    motion_share = _explained(smooth[window], [rest_gy[window], rest_gx[window]])
    level = max(abs(float(np.median(mean[inside]))), 1e-6)
    around = near | far
    quiet_rest = float(np.median(mean[around])) if around.any() else level
    values = {
        "peak_over_noise": np.log1p(candidate.peak / max(candidate.noise, 1e-9)),
        "area": np.log(area / (np.pi * d**2 / 4)),
        "elongation": np.log(axes[1] / axes[0]),
        "solidity": area / max(np.pi * 4 * axes[0] * axes[1], 1e-6),
        "profile_near": _mean(smooth, near),
        "profile_far": _mean(smooth, far),
        "edge_slope": _mean(slope, border) * d,
        "negative_lobe": max(0.0, -float(smooth[window].min())),
        "motion_share": motion_share,
        "off_centre": np.hypot(cy - side // 2, cx - side // 2) / d,
        "probability_mean": _mean_at(scene.probability, candidate),
        "probability_max": float(scene.probability.ravel()[candidate.pixels].max()),
        "contrast": np.log1p(max(0.0, _mean_at(scene.contrast, candidate))),
        "dog_peak": np.log1p(max(0.0, float(dog.max()))),
        "n_events": np.log1p(n_events),
        "skewness": float(np.clip(_skewness(dog), -3, 10)),
        "shift_correlation": _explained(
            trace - trace.mean(), [s - s.mean() for s in np.abs(shifts).T]
        ),
        "neuropil_correlation": _correlation(trace, neuropil),
        "rest_contrast": (_mean(mean, mask) - quiet_rest) / level,
        "rest_gradient": _mean(np.hypot(rest_gy, rest_gx), border) * d / level,
        "image_contrast": np.log1p(max(0.0, candidate.peak / level) * 100),
    }
    described = np.nan_to_num([float(values[name]) for name in OWN_FEATURES], nan=0.0)
    return _limited(described, OWN_FEATURES)


def add_context(
    features: FloatArray,
    *,
    centres: AnyArray,
    peaks: FloatArray,
    dog: FloatArray,
    diameter_px: float,
) -> FloatArray:
    """Add what the other candidates of the recording say about each.

    Through a lens implanted in the brain the sharpest somata are as soft as cells out of focus
    are in a slice: what counts is how sharp a candidate is beside the sharpest of its recording.
    And what rises and falls with a candidate next to it that has a stronger image (it flashes
    higher, or more often) is that one's light.

    Parameters
    ----------
    features : ndarray of float32, shape (n, n_own)
        From `describe_candidate`, one row for each candidate of a recording.
    centres : ndarray, shape (n, 2)
        (y, x) of each, in pixels.
    peaks : ndarray of float32, shape (n,)
        Height of each candidate's image: flashes in camera counts, times the root of their number.
    dog : ndarray of float32, shape (n, n_frames)
        DoG signals.
    diameter_px : float
        Typical soma diameter in pixels.

    Returns
    -------
    ndarray of float32, shape (n, n_features - 3)
        In the order of `CANDIDATE_FEATURES`, without those of `OPINION`.
    """
    column = {name: OWN_FEATURES.index(name) for name in OWN_FEATURES}
    clear = features[features[:, column["peak_over_noise"]] >= _CLEAR]
    context = {}
    for name, (figure, percentile, usual) in _REFERENCES.items():
        enough = len(clear) >= _CLEAR_NEEDED
        context[name] = np.full(
            len(features),
            np.percentile(clear[:, column[figure]], percentile) if enough else usual,
        )
    correlation = np.zeros(len(features))
    distance, height = np.full(len(features), 2.0), np.full(len(features), -3.0)
    apart = cdist(centres, centres) / diameter_px
    log_peak = np.log(np.maximum(peaks, 1e-9))
    for i in range(len(features)):
        # Of the stronger ones close by, the one most alike.
        near = np.flatnonzero((apart[i] < 2.0) & (log_peak > log_peak[i]))
        if len(near) == 0:
            continue
        together = [_correlation(dog[i], dog[j]) for j in near]
        rival = int(np.argmax(together))
        correlation[i] = together[rival]
        distance[i] = apart[i, near[rival]]
        height[i] = log_peak[near[rival]] - log_peak[i]
        release_pages(dog)
    context |= {
        "rival_correlation": correlation,
        "rival_distance": distance,
        "rival_height": height,
    }
    added = np.column_stack([context[name] for name in _CONTEXT])
    return np.column_stack([features, _limited(added, _CONTEXT)])


def add_opinion(features: FloatArray, opinion: FloatArray) -> FloatArray:
    """Add what the outline network says about each candidate.

    Parameters
    ----------
    features : ndarray of float32, shape (n, n_features - 3)
        From `add_context`.
    opinion : ndarray of float32, shape (n, 3)
        In the order of `OPINION`; zeros where no network draws outlines.

    Returns
    -------
    ndarray of float32, shape (n, n_features)
        In the order of `CANDIDATE_FEATURES`.
    """
    return np.column_stack([features, _limited(opinion, OPINION)])


def add_field(features: FloatArray) -> FloatArray:
    """Add what all candidates of the recording are like.

    The same figures mean one thing where the recording is sharp and quiet, and another under a
    miniscope or in a movie that was compressed: typical figures of the recording tell which it is.

    Parameters
    ----------
    features : ndarray of float32, shape (n, n_candidate_features)
        From `add_opinion`, one row for each candidate of a recording.

    Returns
    -------
    ndarray of float32, shape (n, n_features)
        In the order of `FEATURES`: medians and 90th percentiles over the recording, and the
        logarithm of the number of candidates.
    """
    n = len(features)
    if n == 0:
        return np.zeros((0, len(FEATURES)), np.float32)
    columns = [CANDIDATE_FEATURES.index(name) for name in _TYPICAL]
    typical = np.percentile(features[:, columns], _PERCENTILES, axis=0).ravel()
    field = np.append(typical, np.log(n)).astype(np.float32)
    return np.column_stack([features, np.broadcast_to(field, (n, len(field)))])


def find_duplicates(
    pixels: list[AnyArray], score: FloatArray, *, config: VerificationConfig = VerificationConfig()
) -> dict[int, int]:
    """Find candidates that show the same neuron as a better one.

    Parameters
    ----------
    pixels : list of ndarray of int
        Flat pixel indices of each candidate.
    score : ndarray of float32, shape (n,)
        The higher score is kept; of equal ones the first.
    config : VerificationConfig
        Overlap.

    Returns
    -------
    dict of int to int
        Index of each duplicate, and of the candidate it repeats.
    """
    owners: dict[int, list[int]] = {}
    duplicates: dict[int, int] = {}
    for i in np.argsort(-score, kind="stable"):
        shared: dict[int, int] = {}
        for pixel in pixels[i]:
            for owner in owners.get(int(pixel), ()):
                shared[owner] = shared.get(owner, 0) + 1
        worst = max(
            shared,
            key=lambda o: shared[o] / min(len(pixels[o]), len(pixels[i])),
            default=None,
        )
        if worst is not None and (
            shared[worst] > config.overlap * min(len(pixels[worst]), len(pixels[i]))
        ):
            duplicates[int(i)] = worst
            continue
        for pixel in pixels[i]:
            owners.setdefault(int(pixel), []).append(int(i))
    return duplicates


def explain(features: FloatArray) -> str:
    """Say in words why a candidate looks doubtful.

    Parameters
    ----------
    features : ndarray of float32, shape (n_features,)
        In the order of `FEATURES`, or of `OWN_FEATURES`.

    Returns
    -------
    str
        A reason for `rois.csv`.
    """
    value = dict(zip(OWN_FEATURES, features.tolist(), strict=False))
    if value["motion_share"] > 0.45 or value["negative_lobe"] > 0.7:
        return "looks like residual motion of a still cell"
    if value["peak_over_noise"] < np.log1p(4.0) or value["dog_peak"] < np.log1p(5.0):
        return "activity too close to the noise"
    if value["edge_slope"] < 1.6 or value["profile_near"] > 0.4:
        return "blurred outline: probably out of focus"
    if value["area"] > np.log(2.5):
        return "too large for a soma"
    if value["elongation"] > np.log(2.2):
        return "too elongated for a soma"
    return "does not look like an active soma"


def _limited(values: AnyArray, names: tuple[str, ...]) -> FloatArray:
    limits = np.array([_LIMITS.get(name, (0.0, 1.0)) for name in names])
    return np.asarray(np.clip(values, limits[:, 0], limits[:, 1]), np.float32)


def _explained(target: AnyArray, sources: list[AnyArray]) -> float:
    """Share of the target's variance that a linear combination of the sources explains."""
    basis = np.column_stack([*sources, np.ones(len(target))]).astype(np.float64)
    total = float(np.var(target))
    if len(target) < 6 or total <= 0:
        return 0.0
    fit, *_ = np.linalg.lstsq(basis, target.astype(np.float64), rcond=None)
    return float(np.clip(1 - np.var(target - basis @ fit) / total, 0, 1))


def _correlation(a: FloatArray, b: FloatArray) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norm if norm > 0 else 0.0


def _skewness(values: FloatArray) -> float:
    centred = values - values.mean()
    spread = float(centred.std())
    return float((centred**3).mean()) / spread**3 if spread > 0 else 0.0


def _mean(image: FloatArray, where: BoolArray) -> float:
    return float(image[where].mean()) if where.any() else 0.0


def _mean_at(image: FloatArray, candidate: CandidateImage) -> float:
    return float(image.ravel()[candidate.pixels].mean())
