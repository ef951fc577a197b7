"""From maps of the whole recording to ROIs with traces and events: two ways."""

from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
from scipy import sparse

from cocuyo.core import (
    MEMORY,
    BoolArray,
    Events,
    FloatArray,
    LabelArray,
    ModelError,
    Motion,
    ProgressCallback,
    Quality,
    Recording,
    RoiSet,
    Scratch,
    Traces,
    ignore_progress,
    release_pages,
    roi_blocks,
)
from cocuyo.pipeline.settings import PipelineConfig
from cocuyo.pipeline.stream import corrected_blocks
from cocuyo.postprocessing import (
    FEATURES,
    N_SECTORS,
    OPINION,
    CandidateImage,
    EventJudge,
    LightStep,
    Patches,
    Scene,
    Verifier,
    add_context,
    add_field,
    add_opinion,
    add_to_images,
    averaging_weights,
    correct_traces,
    cut_patches,
    describe_candidate,
    disc_pixels,
    event_weights,
    explain,
    find_duplicates,
    find_events,
    find_light_steps,
    find_seeds,
    finite_frames,
    footprint_agreement,
    interpolate_frames,
    level_light,
    outline,
    project,
    redraw,
    refine_mask,
    ring_sectors,
    ring_weights,
    sector_shares,
    shared_pixels,
    split_mask,
    typical_diameter,
    unmix_traces,
    view_candidates,
    weigh_sectors,
)
from cocuyo.segmentation import Engine

_N_STRETCHES = 8
"""Stretches of a long recording from which the weights of surrounds come."""
_MOST_FRAMES = 2048
_MOST_VALUES = 25_000_000
"""Frames of all stretches, and values of all sectors that are kept (100 MB of scratch)."""


@dataclass(frozen=True, eq=False)
class Maps:
    """Images of a whole recording.

    Attributes
    ----------
    probability : ndarray of float32, shape (n_rows, n_columns)
        Of a functional neuron.
    contrast : ndarray of float32, shape (n_rows, n_columns)
        Largest temporal contrast, in units of its noise.
    mean : ndarray of float32, shape (n_rows, n_columns)
        Mean of the motion-corrected frames, in camera counts.
    noise : ndarray of float32, shape (n_rows, n_columns)
        Standard deviation of a pixel from frame to frame, in camera counts.
    valid : ndarray of bool, shape (n_rows, n_columns)
        Pixels in view at all times and not excluded.
    soma_contrast : ndarray of float32, shape (n_rows, n_columns), or None
        Largest contrast of a soma's area, in units of its noise in the field.
    n_steps : int
        Steps that the maps hold.
    peaks : ndarray of float32, shape (n_rows, n_columns), or None
        Where somata flashed in single steps (`gather_peaks`).
    """

    probability: FloatArray
    contrast: FloatArray
    mean: FloatArray
    noise: FloatArray
    valid: BoolArray
    soma_contrast: FloatArray | None = None
    n_steps: int = 1
    peaks: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class Finished:
    """ROIs with everything that belongs to them.

    Attributes
    ----------
    rois : RoiSet
        All candidates.
    traces : Traces
        Their traces.
    raster : ndarray of bool, shape (n_rois, n_frames)
        Activity.
    events : Events
        The events.
    features : ndarray of float32, shape (n_rois, n_features)
        What the verifier judged; no columns after `finish_mask`.
    """

    rois: RoiSet
    traces: Traces
    raster: BoolArray
    events: Events
    features: FloatArray


def finish_candidates(
    recording: Recording,
    motion: Motion,
    maps: Maps,
    *,
    config: PipelineConfig,
    diameter_px: float,
    verifier: Verifier | None,
    judge: EventJudge | None = None,
    engine: Engine | None = None,
    scratch: Scratch = MEMORY,
    progress: ProgressCallback = ignore_progress,
) -> Finished:
    """Find candidates in the maps, draw each from its own activity, and verify it.

    Candidates are drawn at half of their image's maximum (`draw_candidates`), then by the outline
    network, where the settings name one; at last the traces of the ROIs are read.

    Parameters
    ----------
    recording : Recording
        The recording.
    motion : Motion
        Its shifts and flags.
    maps : Maps
        Probability, contrast, mean, noise.
    config : PipelineConfig
        Settings.
    diameter_px : float
        Typical soma diameter in pixels.
    verifier : Verifier or None
        Scores candidates; None gives every candidate its probability as score.
    judge : EventJudge, optional
        Judges events; a threshold does if None.
    engine : Engine, optional
        Runs the outline network; needed where `config.networks` names one.
    scratch : Scratch
        Where the traces are kept.
    progress : callable, optional
        Called after each block.

    Returns
    -------
    Finished
        All candidates, accepted or rejected with a reason.

    Raises
    ------
    ModelError
        If there is no engine for the outline network.
    """
    shape = recording.frame_shape
    drawn = draw_candidates(
        recording,
        motion,
        maps,
        config=config,
        diameter_px=diameter_px,
        scratch=scratch,
        progress=progress,
    )
    if not drawn.images:
        return _nothing(recording)
    scene = Scene(maps.mean, maps.probability, maps.contrast, diameter_px)
    images, opinion = drawn.images, np.zeros((len(drawn.images), len(OPINION)), np.float32)
    if config.networks.outline is not None:
        if engine is None:
            msg = "The settings name an outline network; give the engine that runs it."
            raise ModelError(msg)
        images, opinion = _redraw(drawn, scene, engine)
    points = np.array([_centre(image.pixels, shape[1]) for image in images], np.int32)
    footprints = _footprints(images, size=shape[0] * shape[1])
    extracted = extract_traces(
        recording,
        motion,
        footprints,
        valid=maps.valid,
        config=config,
        diameter_px=diameter_px,
        judge=judge,
        scratch=scratch,
        progress=progress,
    )
    traces, raster, events = extracted.traces, extracted.raster, extracted.events
    counts = events.count(len(images))
    described = []
    for j, image in enumerate(images):
        described.append(
            describe_candidate(
                image,
                scene=scene,
                index=drawn.index[j],
                inside=drawn.inside[j],
                trace=traces.corrected[j],
                neuropil=traces.neuropil[j],
                dog=traces.dog[j],
                n_events=int(extracted.n_clear[j]),
                shifts=motion.shifts,
            )
        )
        scratch.release()
    features = add_context(
        np.stack(described),
        centres=points,
        peaks=np.array([image.peak for image in images], np.float32),
        dog=traces.dog,
        diameter_px=diameter_px,
    )
    features = add_field(add_opinion(features, opinion))
    score = (
        verifier.score(features)
        if verifier is not None
        else features[:, FEATURES.index("probability_max")]
    )
    reasons = _judge(images, features, score, counts, config, diameter_px)
    agreement = [
        footprint_agreement(image.image, _as_square(image), inside, diameter_px=diameter_px)
        for image, inside in zip(images, drawn.inside, strict=True)
    ]
    quality = replace(
        Quality.unknown(len(images)), agreement=np.array(agreement, np.float32)
    )  # the rest follows when the ROIs of all recordings are known (`with_quality`)
    rois = replace(_roi_set(footprints, shape, score, reasons, traces), quality=quality)
    return Finished(rois, traces, raster, events, features)


def finish_mask(
    recording: Recording,
    motion: Motion,
    mask: BoolArray,
    *,
    valid: BoolArray,
    config: PipelineConfig,
    diameter_px: float,
    mean: FloatArray | None = None,
    score: FloatArray | None = None,
    judge: EventJudge | None = None,
    scratch: Scratch = MEMORY,
    progress: ProgressCallback = ignore_progress,
) -> Finished:
    """Refine a mask by morphology and validate each of its cells (paper, section 3).

    Small structures are removed, gaps closed, touching cells parted; a cell without an event
    in its trace is rejected.

    Parameters
    ----------
    recording : Recording
        The recording.
    motion : Motion
        Its shifts and flags.
    mask : ndarray of bool, shape (n_rows, n_columns)
        Pixels of neurons.
    valid : ndarray of bool, shape (n_rows, n_columns)
        Pixels in view at all times and not excluded.
    config : PipelineConfig
        Settings.
    diameter_px : float
        Typical soma diameter in pixels.
    mean : ndarray of float32, shape (n_rows, n_columns), optional
        Mean of the motion-corrected frames. With it the recording is read once more, to see how
        well footprints agree with what flashes.
    score : ndarray of float32, shape (n_rows, n_columns), optional
        Map whose mean over an ROI is its score.
    judge : EventJudge, optional
        Judges events; a threshold does if None.
    scratch : Scratch
        Where the traces are kept.
    progress : callable, optional
        Called after each block.

    Returns
    -------
    Finished
        All candidates, accepted or rejected with a reason.
    """
    shape = recording.frame_shape
    # Closing may step over a narrow excluded line: what is not valid leaves once more.
    refined = refine_mask(mask & valid, diameter_px=diameter_px) & valid
    labels = split_mask(refined, diameter_px=diameter_px)
    n_rois = int(labels.max())
    if n_rois == 0:
        return _nothing(recording, n_features=0)
    flat = labels.ravel()
    order = np.argsort(flat, kind="stable")
    bounds = np.searchsorted(flat[order], np.arange(1, n_rois + 2))
    pixels = [order[a:b] for a, b in pairwise(bounds)]
    lengths = np.array([len(p) for p in pixels])
    footprints = sparse.csr_array(
        (
            np.ones(lengths.sum(), np.float32),
            np.concatenate(pixels),
            np.concatenate([[0], np.cumsum(lengths)]),
        ),
        shape=(n_rois, flat.size),
    )
    extracted = extract_traces(
        recording,
        motion,
        footprints,
        valid=valid,
        config=config,
        diameter_px=diameter_px,
        judge=judge,
        scratch=scratch,
        progress=progress,
    )
    traces, raster, events = extracted.traces, extracted.raster, extracted.events
    counts = events.count(n_rois)
    smallest = config.verification.min_area_share * np.pi * (diameter_px / 2) ** 2
    reasons = []
    for area, count in zip(lengths, counts, strict=True):
        if area < smallest:
            reasons.append("too small for a soma")
        else:
            reasons.append("" if count else "no event in its trace")
    means = (
        np.ones(n_rois, np.float32)
        if score is None
        else np.array([score.ravel()[p].mean() for p in pixels], np.float32)
    )
    quality = Quality.unknown(n_rois)
    if mean is not None:
        quality.agreement[:] = measure_agreement(
            recording,
            motion,
            footprints,
            traces,
            mean=mean,
            valid=valid,
            config=config,
            diameter_px=diameter_px,
            scratch=scratch,
            progress=progress,
        )
    rois = replace(_roi_set(footprints, shape, means, reasons, traces), quality=quality)
    return Finished(rois, traces, raster, events, np.zeros((n_rois, 0), np.float32))


@dataclass(frozen=True, eq=False)
class Drawn:
    """Candidates that show a blob, and how they were looked at.

    Attributes
    ----------
    images : list of CandidateImage
        Image of each, and its outline at half maximum.
    index : ndarray of int32, shape (n, side * side)
        Flat frame index of each pixel of their squares.
    inside : ndarray of bool, shape (n, side, side)
        Pixels inside the frame and valid.
    weights : ndarray of float32, shape (n, n_frames)
        Weight of each frame in each image.
    """

    images: list[CandidateImage]
    index: LabelArray
    inside: BoolArray
    weights: FloatArray


def draw_candidates(
    recording: Recording,
    motion: Motion,
    maps: Maps,
    *,
    config: PipelineConfig,
    diameter_px: float,
    scratch: Scratch = MEMORY,
    progress: ProgressCallback = ignore_progress,
) -> Drawn:
    """Find candidates in the maps and draw each from its own activity.

    Each round reads the recording twice: traces of the candidates' centres (then: outlines);
    the image of each candidate (frames regressed on its events) and its outline at half maximum.

    Parameters
    ----------
    recording : Recording
        The recording.
    motion : Motion
        Its shifts and flags.
    maps : Maps
        Probability, contrast, mean, noise.
    config : PipelineConfig
        Settings.
    diameter_px : float
        Typical soma diameter in pixels.
    scratch : Scratch
        Where the traces are kept.
    progress : callable, optional
        Called after each block.

    Returns
    -------
    Drawn
        The candidates; none where the maps show nothing.
    """
    shape = recording.frame_shape
    seeds = find_seeds(
        maps.probability,
        maps.contrast,
        diameter_px=diameter_px,
        valid=maps.valid,
        soma_contrast=maps.soma_contrast,
        n_steps=maps.n_steps,
        peaks=maps.peaks,
        config=config.candidates,
    )
    points = seeds.points
    pixels = list(disc_pixels(points, radius_px=0.3 * diameter_px, frame_shape=shape))
    likely = maps.probability >= config.candidates.min_probability
    for _ in range(config.footprints.rounds):
        if len(points) == 0:
            break
        drawn = _draw(
            recording,
            motion,
            maps,
            points,
            pixels,
            avoid=likely | ~maps.valid,
            config=config,
            diameter_px=diameter_px,
            scratch=scratch,
            progress=progress,
        )
        pixels = [image.pixels for image in drawn.images]
        points = np.array([_centre(p, shape[1]) for p in pixels], np.int32).reshape(-1, 2)
    if len(points) == 0:
        none = np.zeros((0, 0), np.int32)
        return Drawn([], none, np.zeros((0, 0, 0), np.bool_), none.astype(np.float32))
    return drawn


def _redraw(drawn: Drawn, scene: Scene, engine: Engine) -> tuple[list[CandidateImage], FloatArray]:
    """Let the outline network draw the candidates, and say what it thinks of them."""
    size = typical_diameter(drawn.images, diameter_px=scene.diameter_px)
    views = view_candidates(
        drawn.images,
        scene=scene,
        index=drawn.index,
        inside=drawn.inside,
        weights=drawn.weights,
        diameter_px=size,
    )
    outlines, scores = engine.outline(views)
    images, opinion = [], []
    for i, image in enumerate(drawn.images):
        redrawn, certainty, agreement = redraw(
            image,
            outlines[i],
            index=drawn.index[i],
            inside=drawn.inside[i],
            diameter_px=size,
        )
        images.append(redrawn)
        opinion.append((scores[i], certainty, agreement))
    return images, np.array(opinion, np.float32)


def _draw(
    recording: Recording,
    motion: Motion,
    maps: Maps,
    points: LabelArray,
    pixels: list[LabelArray],
    *,
    avoid: BoolArray,
    config: PipelineConfig,
    diameter_px: float,
    scratch: Scratch,
    progress: ProgressCallback,
) -> Drawn:
    """Image and outline of each candidate, by the trace of given pixels around a given point."""
    shape = recording.frame_shape
    cells = averaging_weights(list(pixels), size=shape[0] * shape[1])
    raw, ring = _cells_and_surrounds(
        recording,
        motion,
        cells,
        avoid=avoid,
        config=config,
        diameter_px=diameter_px,
        scratch=scratch,
        progress=progress,
        stage="reading candidates",
    )
    weights, patches, sums = _pictures(
        recording,
        motion,
        points,
        raw,
        ring,
        mean=maps.mean,
        config=config,
        diameter_px=diameter_px,
        scratch=scratch,
        progress=progress,
        stage="drawing candidates",
    )
    side = patches.side
    inside = patches.inside & maps.valid.ravel()[patches.index].reshape(-1, side, side)
    # The weights have norm 1: the noise of an image is that of a frame.
    noise = maps.noise.ravel()
    images = [
        outline(
            sums[i].reshape(side, side),
            noise=float(np.median(noise[patches.index[i]])),
            index=patches.index[i],
            inside=inside[i],
            diameter_px=diameter_px,
            config=config.footprints,
        )
        for i in range(len(points))
    ]
    kept = [i for i, image in enumerate(images) if len(image.pixels)]
    left = scratch.array((len(kept), weights.shape[1]))
    for row, i in enumerate(kept):
        left[row] = weights[i]
        scratch.release()
    return Drawn([images[i] for i in kept], patches.index[kept], inside[kept], left)


def _pictures(
    recording: Recording,
    motion: Motion,
    points: LabelArray,
    raw: FloatArray,
    ring: FloatArray,
    *,
    mean: FloatArray,
    config: PipelineConfig,
    diameter_px: float,
    scratch: Scratch,
    progress: ProgressCallback,
    stage: str,
) -> tuple[FloatArray, Patches, FloatArray]:
    """Weights of the frames in the events of traces, squares around points, and what flashes there.

    Reads the recording once.
    """
    usable = np.asarray(motion.flags) == 0
    known = [finite_frames(traces, usable, scratch=scratch) for traces in (raw, ring)]
    weights = scratch.array(raw.shape)
    for rows in roi_blocks(raw.shape):
        weights[rows] = event_weights(
            interpolate_frames(raw[rows], known[0]) - interpolate_frames(ring[rows], known[1]),
            frame_rate_hz=recording.rate_hz,
            usable=usable,
            validation=config.validation,
            config=config.footprints,
        )
        scratch.release()
    patches = cut_patches(
        points,
        diameter_px=diameter_px,
        frame_shape=recording.frame_shape,
        config=config.footprints,
    )
    sums = np.zeros(patches.index.shape, np.float32)
    for start, frames in corrected_blocks(recording, motion, progress=progress, stage=stage):
        # The weights sum to 0: without its mean a frame adds the same and loses fewer digits.
        np.subtract(frames, mean, out=frames)
        add_to_images(sums, frames, weights[:, start : start + len(frames)], patches)
        scratch.release()
    return weights, patches, sums


def measure_agreement(
    recording: Recording,
    motion: Motion,
    footprints: sparse.csr_array,
    traces: Traces,
    *,
    mean: FloatArray,
    valid: BoolArray,
    config: PipelineConfig,
    diameter_px: float,
    scratch: Scratch = MEMORY,
    progress: ProgressCallback = ignore_progress,
) -> FloatArray:
    """Compare footprints with what flashes together with their traces; reads the recording once.

    For ROIs that were not drawn from their own activity (`finish_mask`, `extract`).

    Parameters
    ----------
    recording : Recording
        The recording.
    motion : Motion
        Its shifts and flags.
    footprints : csr_array, shape (n_rois, n_rows * n_columns)
        Pixels of each ROI; at least one each.
    traces : Traces
        Their traces.
    mean : ndarray of float32, shape (n_rows, n_columns)
        Mean of the motion-corrected frames.
    valid : ndarray of bool, shape (n_rows, n_columns)
        Pixels in view at all times and not excluded.
    config : PipelineConfig
        Settings.
    diameter_px : float
        Typical soma diameter in pixels.
    scratch : Scratch
        Where the traces are kept.
    progress : callable, optional
        Called after each block.

    Returns
    -------
    ndarray of float32, shape (n_rois,)
        As `footprint_agreement` says.
    """
    n_columns = recording.frame_shape[1]
    rows = [slice(a, b) for a, b in pairwise(footprints.indptr)]
    points = [_centre(footprints.indices[row], n_columns) for row in rows]
    _, patches, sums = _pictures(
        recording,
        motion,
        np.array(points, np.int32).reshape(-1, 2),
        traces.raw,
        traces.neuropil,
        mean=mean,
        config=config,
        diameter_px=diameter_px,
        scratch=scratch,
        progress=progress,
        stage="comparing footprints",
    )
    side, found = patches.side, np.zeros(len(rows), np.float32)
    own = np.zeros(mean.size, np.float32)
    for i, row in enumerate(rows):
        own[footprints.indices[row]] = footprints.data[row]
        index, inside = patches.index[i], patches.inside[i]
        found[i] = footprint_agreement(
            sums[i].reshape(side, side),
            np.where(inside, own[index].reshape(side, side), 0),
            inside & valid.ravel()[index].reshape(side, side),
            diameter_px=diameter_px,
        )
        own[footprints.indices[row]] = 0
    return found


def _as_square(image: CandidateImage) -> FloatArray:
    """Weights of a candidate's pixels in its square."""
    weights = np.zeros(image.mask.shape, np.float32)
    weights[image.mask] = image.weights
    return weights


def _centre(pixels: LabelArray, n_columns: int) -> tuple[int, int]:
    """Pixel nearest to the centroid."""
    return round(float((pixels // n_columns).mean())), round(float((pixels % n_columns).mean()))


@dataclass(frozen=True, eq=False)
class Extracted:
    """Traces of given ROIs and the activity in them.

    Attributes
    ----------
    traces : Traces
        Of each ROI.
    raster : ndarray of bool, shape (n_rois, n_frames)
        Activity.
    events : Events
        The events.
    n_clear : ndarray of int32, shape (n_rois,)
        Events of each that reach the threshold, whatever a judge says of them.
    light : tuple of LightStep
        Lasting changes of the light that were taken out of the traces.
    """

    traces: Traces
    raster: BoolArray
    events: Events
    n_clear: LabelArray
    light: tuple[LightStep, ...] = ()


def extract_traces(
    recording: Recording,
    motion: Motion,
    footprints: sparse.csr_array,
    *,
    valid: BoolArray,
    config: PipelineConfig,
    diameter_px: float,
    judge: EventJudge | None = None,
    scratch: Scratch = MEMORY,
    progress: ProgressCallback = ignore_progress,
    stage: str = "extracting traces",
) -> Extracted:
    """Read the traces of given ROIs and find their events; one pass over the recording.

    Parameters
    ----------
    recording : Recording
        The recording.
    motion : Motion
        Its shifts and flags.
    footprints : csr_array, shape (n_rois, n_rows * n_columns)
        Pixels of each ROI; at least one each.
    valid : ndarray of bool, shape (n_rows, n_columns)
        Pixels in view at all times and not excluded.
    config : PipelineConfig
        Settings of traces and validation.
    diameter_px : float
        Typical soma diameter in pixels.
    judge : EventJudge, optional
        Judges events; a threshold does if None.
    scratch : Scratch
        Where the traces are kept.
    progress : callable, optional
        Called after each block.
    stage : str, default: "extracting traces"
        Name for the progress.

    Returns
    -------
    Extracted
        Traces and their activity.
    """
    shape = recording.frame_shape
    bounds = footprints.indptr
    pixels = [footprints.indices[a:b] for a, b in pairwise(bounds)]
    masks = averaging_weights(pixels, size=shape[0] * shape[1])
    cells = np.zeros(shape[0] * shape[1], np.bool_)
    cells[footprints.indices] = True
    raw, ring = _cells_and_surrounds(
        recording,
        motion,
        masks,
        avoid=cells.reshape(shape) | ~valid,
        config=config,
        diameter_px=diameter_px,
        scratch=scratch,
        progress=progress,
        stage=stage,
    )
    return read_activity(
        raw,
        ring,
        usable=np.asarray(motion.flags) == 0,
        frame_rate_hz=recording.rate_hz,
        config=config,
        judge=judge,
        scratch=scratch,
        shared=shared_pixels(footprints),
    )


def read_activity(
    raw: FloatArray,
    neuropil: FloatArray,
    *,
    usable: BoolArray,
    frame_rate_hz: float,
    config: PipelineConfig,
    judge: EventJudge | None = None,
    shared: sparse.csr_array | None = None,
    scratch: Scratch = MEMORY,
) -> Extracted:
    """Correct traces, and find the events in them.

    Parameters
    ----------
    raw, neuropil : ndarray of float32, shape (n_rois, n_frames)
        ROIs and their surrounds, in camera counts.
    usable : ndarray of bool, shape (n_frames,)
        Frames that count; the others are interpolated.
    frame_rate_hz : float
        Frames per second.
    config : PipelineConfig
        Settings of traces and validation.
    judge : EventJudge, optional
        Judges events; a threshold does if None.
    shared : csr_array, shape (n_rois, n_rois), optional
        What the ROIs have in common (`shared_pixels`), to be parted.
    scratch : Scratch
        Where the traces are kept.

    Returns
    -------
    Extracted
        Traces and their activity.
    """
    steps = find_light_steps(raw, neuropil, frame_rate_hz=frame_rate_hz)
    own = level_light(raw, steps, scratch=scratch)
    if shared is not None and config.traces.unmix:
        own = unmix_traces(
            own,
            shared,
            frame_rate_hz=frame_rate_hz,
            usable=usable,
            config=config.traces,
            scratch=scratch,
        )
    corrected = correct_traces(
        own,
        level_light(neuropil, steps, scratch=scratch),
        frame_rate_hz=frame_rate_hz,
        usable=usable,
        config=config.traces,
        scratch=scratch,
    )
    find = partial(
        find_events,
        corrected.delta_f_over_f,
        frame_rate_hz=frame_rate_hz,
        usable=usable,
        config=config.validation,
        scratch=scratch,
    )
    activity = find(judge=judge)
    clear = activity if judge is None else find()
    traces = Traces(
        raw,
        neuropil,
        corrected.coefficient,
        corrected.corrected,
        corrected.delta_f_over_f,
        activity.dog,
        activity.threshold,
        corrected.noise,
    )
    n_clear = clear.events.count(len(raw)).astype(np.int32)
    return Extracted(traces, activity.raster, activity.events, n_clear, tuple(steps))


def _cells_and_surrounds(
    recording: Recording,
    motion: Motion,
    cells: sparse.csr_array,
    *,
    avoid: BoolArray,
    config: PipelineConfig,
    diameter_px: float,
    scratch: Scratch,
    progress: ProgressCallback,
    stage: str,
) -> tuple[FloatArray, FloatArray]:
    """Traces of cells and of what surrounds them, weighed as it shows in the cells themselves.

    The weights of a long recording come from stretches all over it. A very long one is read once
    more with them; else the traces of the parts are kept until their weights are known.
    """
    n, n_frames = cells.shape[0], recording.n_frames
    rings = ring_weights(
        cells,
        frame_shape=recording.frame_shape,
        diameter_px=diameter_px,
        avoid=avoid,
        config=config.traces,
    )

    def read(
        weights: list[sparse.csr_array], stage: str, stretches: list[tuple[int, int]] | None = None
    ) -> list[FloatArray]:
        every = sparse.vstack(weights, format="csr")
        total = n_frames if stretches is None else sum(stop - start for start, stop in stretches)
        values = [scratch.array((one.shape[0], total)) for one in weights]
        bounds = np.cumsum([one.shape[0] for one in weights])[:-1]
        done = 0
        for _, frames in corrected_blocks(
            recording, motion, progress=progress, stage=stage, stretches=stretches
        ):
            for one, some in zip(values, np.split(project(every, frames), bounds), strict=True):
                one[:, done : done + len(frames)] = some
            done += len(frames)
            scratch.release()
        return values

    if not config.traces.local:
        raw, ring = read([cells, rings], stage)
        return raw, ring
    sectors = ring_sectors(cells, rings, frame_shape=recording.frame_shape)
    usable = np.asarray(motion.flags) == 0
    most = int(np.clip(_MOST_VALUES // max(1, n * N_SECTORS), _N_STRETCHES * 32, _MOST_FRAMES))
    stretches = [(0, n_frames)]
    if n_frames > most:
        length = most // _N_STRETCHES
        starts = np.linspace(0, n_frames - length, _N_STRETCHES).astype(int).tolist()
        stretches = [(start, start + length) for start in starts]
    seen = np.concatenate([usable[start:stop] for start, stop in stretches])
    shares_of = partial(
        sector_shares,
        frame_rate_hz=recording.rate_hz,
        n_stretches=len(stretches),
        config=config.traces,
    )
    if n_frames > most and n * N_SECTORS * n_frames > _MOST_VALUES:
        some, parts = read([cells, sectors], "looking at surrounds", stretches)
        shares = shares_of(interpolate_frames(some, seen), interpolate_frames(parts, seen))
        raw, ring = read([cells, weigh_sectors(sectors, shares, rings)], stage)
        return raw, ring
    # A plain ring is the mean of its sectors, unless some of them are too small to be read.
    n_pixels = np.diff(sectors.indptr).reshape(n, N_SECTORS)
    others = np.flatnonzero(n_pixels.sum(axis=1) < np.diff(rings.indptr))
    raw, parts, plain = read([cells, sectors, rings[others]], stage)

    def of_stretches(traces: FloatArray) -> FloatArray:
        if len(stretches) == 1:
            return interpolate_frames(traces, seen)
        chosen = scratch.array((len(traces), len(seen)))
        for rows in roi_blocks(traces.shape):
            some = [traces[rows, start:stop] for start, stop in stretches]
            np.concatenate(some, axis=1, out=chosen[rows])
            scratch.release()
        return interpolate_frames(chosen, seen)

    shares = shares_of(of_stretches(raw), of_stretches(parts))
    alone = np.asarray(~shares.any(axis=1), np.bool_)
    shares[alone] = n_pixels[alone] / np.maximum(n_pixels[alone].sum(axis=1, keepdims=True), 1)
    ring = scratch.array(raw.shape)
    for i in range(n):
        ring[i] = shares[i] @ parts[i * N_SECTORS : (i + 1) * N_SECTORS]
        scratch.release()
    ring[others[alone[others]]] = plain[alone[others]]
    return raw, ring


def _judge(
    images: list[CandidateImage],
    features: FloatArray,
    score: FloatArray,
    counts: LabelArray,
    config: PipelineConfig,
    diameter_px: float,
) -> list[str]:
    """Reason for rejecting each candidate; empty where it is accepted."""
    smallest = config.verification.min_area_share * np.pi * (diameter_px / 2) ** 2
    reasons = []
    for image, described, value, count in zip(images, features, score, counts, strict=True):
        if len(image.pixels) < smallest:
            reasons.append("too small for a soma")
        elif count == 0:
            reasons.append("no event in its trace")
        elif value < config.verification.min_score:
            reasons.append(explain(described))
        else:
            reasons.append("")
    standing = [i for i, reason in enumerate(reasons) if not reason]
    twins = find_duplicates(
        [images[i].pixels for i in standing], score[standing], config=config.verification
    )
    for twin, original in twins.items():
        reasons[standing[twin]] = f"shows the same neuron as roi_{standing[original] + 1:04d}"
    return reasons


def _footprints(images: list[CandidateImage], *, size: int) -> sparse.csr_array:
    rows = []
    for image in images:
        order = np.argsort(image.pixels)
        rows.append((image.pixels[order], image.weights[order]))
    lengths = [len(pixels) for pixels, _ in rows]
    return sparse.csr_array(
        (
            np.concatenate([weights for _, weights in rows]),
            np.concatenate([pixels for pixels, _ in rows]),
            np.concatenate([[0], np.cumsum(lengths)]),
        ),
        shape=(len(rows), size),
    )


def _roi_set(
    footprints: sparse.csr_array,
    shape: tuple[int, int],
    score: FloatArray,
    reasons: list[str],
    traces: Traces,
) -> RoiSet:
    n = footprints.shape[0]
    return RoiSet(
        footprints,
        shape,
        tuple(f"roi_{i + 1:04d}" for i in range(n)),
        np.array([not reason for reason in reasons], np.bool_),
        tuple(reasons),
        np.asarray(score, np.float32),
        peak_snr(traces),
    )


def peak_snr(traces: Traces) -> FloatArray:
    """Compare the largest transient of each ROI with its noise.

    Parameters
    ----------
    traces : Traces
        Traces of ROIs.

    Returns
    -------
    ndarray of float32, shape (n_rois,)
        0 where there is no noise.
    """
    highest = np.zeros(len(traces.noise), np.float32)
    for rows in roi_blocks(traces.delta_f_over_f.shape):
        highest[rows] = traces.delta_f_over_f[rows].max(axis=1, initial=0.0)
        release_pages(traces.delta_f_over_f)
    return np.divide(highest, traces.noise, out=np.zeros_like(highest), where=traces.noise > 0)


def _nothing(recording: Recording, *, n_features: int = len(FEATURES)) -> Finished:
    return Finished(
        RoiSet.empty(recording.frame_shape),
        Traces.empty(recording.n_frames),
        np.zeros((0, recording.n_frames), np.bool_),
        Events.empty(),
        np.zeros((0, n_features), np.float32),
    )
