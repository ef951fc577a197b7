"""Slow deformation of the tissue: what is left of the motion once frames were shifted as a whole.

Single frames are too noisy to say how each part of them moved, and tissue deforms slowly: so means
of the landmarks of many frames are compared with a reference. Displacements of overlapping patches
are found together by robust least squares, twice: from the even and from the odd frames. How far
the two differ is the error; how well the displacements of one half fit the other says whether
anything was gained at all.
"""

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from cocuyo.core import FloatArray, LabelArray, median
from cocuyo.core.deformation import spread
from cocuyo.preprocessing.translation import translate, trust

Float64Array = np.ndarray[Any, np.dtype[np.float64]]

# Patches along one side at most: more would cost more time than the frames themselves.
_MOST_NODES = 13
# Steps of the least squares for each half; the one before is the start, so few are enough.
_ITERATIONS = 3
# How much neighbours are held together, and all of them at 0: shares of what a usual patch knows.
_STIFFNESS = 0.05
_RIDGE = 0.002
# Frames of a step that must be usable, as a share of them.
_LEAST_SHARE = 0.25
# Weight of the reference in frames: from then on it follows slowly rather than ever more slowly.
_REFERENCE_STEPS = 50
# What stands still on the sensor is averaged over about 1 / rate steps.
_STANDING_RATE = 0.15
_MAD_TO_SD = 1.4826
_SAMPLE = 4096
# A deformation is believed when it fits frames better that it was not made of: on average over the
# steps by this many standard errors, with at least so many steps, and when it is not too small to
# matter (px, root mean square over nodes and time).
_BELIEVED_SE = 3.0
_BELIEVED_STEPS = 4
_BELIEVED_PX = 0.05


@dataclass(frozen=True, eq=False)
class LocalState:
    """What measuring the next deformation needs to know of those before. Not changed in place.

    Lengths are in pixels of the landmarks, places in coordinates of the template.
    """

    y: FloatArray
    x: FloatArray
    window: int
    most: float
    frames_per_step: int
    support: FloatArray
    offset: tuple[float, float]
    reference: FloatArray
    n_reference: int
    standing: FloatArray
    way: tuple[float, float]
    even: FloatArray
    odd: FloatArray
    even_weight: FloatArray
    odd_weight: FloatArray
    n_even: int
    n_odd: int
    followed: FloatArray
    error: float
    step: float
    frames: LabelArray
    grids: FloatArray
    facts: FloatArray


def start_local(
    image: FloatArray,
    support: FloatArray,
    *,
    offset: tuple[float, float],
    y: FloatArray,
    x: FloatArray,
    patch: float,
    most: float,
    frames_per_step: int,
) -> LocalState:
    """Begin with the template as the reference.

    Parameters
    ----------
    image, support : ndarray of float32, shape (n_rows, n_columns)
        Landmarks of the template, and how far each pixel of the sensor counts.
    offset : tuple of float
        Where frame 0 lies on the template, (dy, dx).
    y, x : ndarray of float32
        Where the nodes lie.
    patch : float
        Side of a patch.
    most : float
        Longest displacement.
    frames_per_step : int
        Frames of which a deformation is measured.

    Returns
    -------
    LocalState
        The state before the first frame.
    """
    nodes = (len(y), len(x), 2)
    nothing = np.zeros(image.shape, np.float32)
    return LocalState(
        y=y,
        x=x,
        window=2 * round(0.5 * patch) + 1,
        most=most,
        frames_per_step=frames_per_step,
        support=support,
        offset=offset,
        reference=image,
        n_reference=1,
        standing=nothing,
        way=(0.0, 0.0),
        even=nothing,
        odd=nothing,
        even_weight=nothing,
        odd_weight=nothing,
        n_even=0,
        n_odd=0,
        followed=np.zeros(nodes, np.float32),
        error=0.0,
        step=0.0,
        frames=np.zeros(0, np.int32),
        grids=np.zeros((0, *nodes), np.float32),
        facts=np.zeros((0, 3), np.float32),
    )


def node_places(size: int, patch_px: float, overlap: float) -> FloatArray:
    """Places of the nodes along one side, from edge to edge.

    Parameters
    ----------
    size : int
        Length of the side, in pixels.
    patch_px : float
        Side of a patch.
    overlap : float
        Share of it that the next one covers too.

    Returns
    -------
    ndarray of float32
        Centres of the patches; a single one where the side is shorter than a patch.
    """
    n = round(size / (patch_px * (1.0 - overlap))) + 1 if size >= patch_px else 1
    n = min(n, _MOST_NODES)
    if n == 1:
        return np.array([0.5 * (size - 1)], np.float32)
    return np.linspace(0, size - 1, n, dtype=np.float32)


def add_frame(
    state: LocalState, moved: FloatArray, shift: tuple[float, float], index: int
) -> LocalState:
    """Take the landmarks of one frame into the half that it belongs to.

    Parameters
    ----------
    state : LocalState
        State before.
    moved : ndarray of float32, shape (n_rows, n_columns)
        Landmarks, shifted back.
    shift : tuple of float
        By how much, (dy, dx).
    index : int
        Number of the frame: even and odd ones are kept apart.

    Returns
    -------
    LocalState
        State after.
    """
    weight = translate(state.support, round(shift[0]), round(shift[1]))
    state = replace(state, way=(state.way[0] + shift[0], state.way[1] + shift[1]))
    if index % 2:
        odd, seen = state.odd + weight * moved, state.odd_weight + weight
        return replace(state, odd=odd, odd_weight=seen, n_odd=state.n_odd + 1)
    even, seen = state.even + weight * moved, state.even_weight + weight
    return replace(state, even=even, even_weight=seen, n_even=state.n_even + 1)


def end_step(state: LocalState, frame: int) -> LocalState:
    """Measure the deformation of the frames since the last step.

    Parameters
    ----------
    state : LocalState
        State after the last frame of the step.
    frame : int
        Number of the frame in the middle of the step.

    Returns
    -------
    LocalState
        State in which no frame waits.
    """
    nothing = np.zeros_like(state.even)
    empty = replace(
        state,
        even=nothing,
        odd=nothing,
        even_weight=nothing,
        odd_weight=nothing,
        n_even=0,
        n_odd=0,
        way=(0.0, 0.0),
    )
    if min(state.n_even, state.n_odd) < max(1.0, 0.5 * _LEAST_SHARE * state.frames_per_step):
        return empty
    n_frames = state.n_even + state.n_odd
    shift = (state.way[0] / n_frames, state.way[1] / n_frames)
    trusted = trust(state.standing) if state.standing.any() else np.ones_like(nothing)
    # The first frames left the image of the dirt in the reference as well.
    trusted_there = translate(trusted, *shift) * translate(trusted, *state.offset)
    halves: list[tuple[FloatArray, FloatArray]] = []
    for total, weight, n in (
        (state.even, state.even_weight, state.n_even),
        (state.odd, state.odd_weight, state.n_odd),
    ):
        image = np.asarray(total / np.maximum(weight, np.float32(1e-3 * n)), np.float32)
        halves.append((image, np.asarray(trusted_there * weight / np.float32(n), np.float32)))
    found = [_measure(image, weight, state) for image, weight in halves]
    grid = 0.5 * (found[0] + found[1])
    still = np.zeros_like(grid)
    before, after = 0.0, 0.0
    for (image, weight), other in zip(halves, reversed(found), strict=True):
        before += 0.5 * _fit(image, weight, still, state)
        after += 0.5 * _fit(image, weight, other, state)
    # The mean of two has a quarter of the variance of their difference.
    error = 0.25 * float(np.mean((found[0] - found[1]) ** 2))
    state = replace(empty, **_follow(state, grid, error))
    state = _renew(state, halves, shift)
    return replace(
        state,
        frames=np.append(state.frames, np.int32(frame)).astype(np.int32),
        grids=np.concatenate([state.grids, grid[None]]),
        facts=np.concatenate([state.facts, np.array([[error, before, after]], np.float32)]),
    )


def displacement_now(state: LocalState) -> FloatArray | None:
    """Displacement of the nodes as far as it is known by now, or None where none is believed.

    Parameters
    ----------
    state : LocalState
        State after a step.

    Returns
    -------
    ndarray of float32, shape (n_y, n_x, 2), or None
        In pixels of the landmarks.
    """
    if not _believed(state.facts) or np.sqrt(np.mean(state.followed**2)) < _BELIEVED_PX:
        return None
    return state.followed


@dataclass(frozen=True, eq=False)
class Settled:
    """What is made of all steps at the end.

    Attributes
    ----------
    frames : ndarray of int32, shape (n_knots,)
        Middle of each step.
    grid : ndarray of float32, shape (n_knots, n_y, n_x, 2)
        Displacements, smoothed in time, in pixels of the landmarks.
    before, after : float
        Mean correlation of half the frames of a step with the reference: as they lie, and moved
        by what the other half says.
    reach : float
        Root mean square of the displacements.
    believed : bool
        Whether they are to be undone.
    """

    frames: LabelArray
    grid: FloatArray
    before: float
    after: float
    reach: float
    believed: bool


def settle_local(state: LocalState) -> Settled:
    """Smooth the displacements of all steps in time and say whether they are believed.

    Parameters
    ----------
    state : LocalState
        State after the last step.

    Returns
    -------
    Settled
        With no knots where there was no step.
    """
    grids, facts = state.grids, state.facts
    if len(grids) == 0:
        return Settled(state.frames, grids, 0.0, 0.0, 0.0, believed=False)
    grid = _smooth(grids, float(facts[:, 0].mean()))
    reach = float(np.sqrt(np.mean(grid**2)))
    return Settled(
        state.frames,
        grid,
        float(facts[:, 1].mean()),
        float(facts[:, 2].mean()),
        reach,
        believed=_believed(facts) and reach >= _BELIEVED_PX,
    )


def _believed(facts: FloatArray) -> bool:
    gains = (facts[:, 2] - facts[:, 1]).astype(np.float64)
    n = len(gains)
    if n < _BELIEVED_STEPS:
        return False
    return bool(gains.mean() > _BELIEVED_SE * gains.std(ddof=1) / np.sqrt(n))


def _smooth(grids: FloatArray, error: float) -> FloatArray:
    """Smooth a random walk that was measured with a known error (Rauch, Tung and Striebel 1965)."""
    n = len(grids)
    if n < 3:
        return np.asarray(np.repeat(grids.mean(axis=0, keepdims=True), n, axis=0), np.float32)
    step = max(float(np.mean(np.diff(grids, axis=0) ** 2)) - 2.0 * error, 1e-3 * error, 1e-12)
    known, variance = [grids[0].astype(np.float64)], [max(error, 1e-12)]
    for grid in grids[1:]:
        ahead = variance[-1] + step
        gain = ahead / (ahead + error) if error > 0 else 1.0
        known.append(known[-1] + gain * (grid - known[-1]))
        variance.append((1.0 - gain) * ahead)
    smooth = [known[-1]]
    for own, own_variance in zip(known[-2::-1], variance[-2::-1], strict=True):
        smooth.append(own + own_variance / (own_variance + step) * (smooth[-1] - own))
    return np.asarray(smooth[::-1], np.float32)


def _follow(state: LocalState, grid: FloatArray, error: float) -> dict[str, Any]:
    """Take of the change since the last step only the share that is not measurement error."""
    n = len(state.frames)
    rate = max(1.0 / (n + 1), 0.1)
    usual_error = state.error + rate * (error - state.error)
    square = float(np.mean((grid - state.followed) ** 2))
    step = state.step + rate * (square - state.step)
    usual = max(square, step)
    share = max(0.0, 1.0 - usual_error / usual) if usual > 0 else 1.0
    followed = state.followed + np.float32(share) * (grid - state.followed)
    return {"followed": followed, "error": usual_error, "step": step}


def _renew(
    state: LocalState, halves: list[tuple[FloatArray, FloatArray]], shift: tuple[float, float]
) -> LocalState:
    """Take a step, moved back, into the reference, and what stands still out of it."""
    grid = state.followed
    image = np.asarray(0.5 * (halves[0][0] + halves[1][0]), np.float32)
    weight = np.asarray(0.5 * (halves[0][1] + halves[1][1]), np.float32)
    moved, seen = _warp(image, grid, state), _warp(weight, grid, state)
    # What the reference does not explain, where it lies on the sensor.
    gain = _gain(moved, state.reference, seen, state.window)
    rest = _warp(moved - gain * state.reference, -grid, state)
    rest = translate(rest, -shift[0], -shift[1])
    pace = np.float32(max(1.0 / (len(state.frames) + 1), _STANDING_RATE))
    rate = 1.0 / (state.n_reference + 1)
    share = np.float32(rate) * seen
    reference = state.reference + share * (moved - state.reference)
    return replace(
        state,
        reference=reference,
        standing=np.asarray(state.standing + pace * (rest - state.standing), np.float32),
        n_reference=min(state.n_reference + 1, _REFERENCE_STEPS),
    )


def _dense(grid: FloatArray, state: LocalState, shape: tuple[int, ...]) -> FloatArray:
    down = spread(state.y, np.arange(shape[0], dtype=np.float32))
    across = spread(state.x, np.arange(shape[1], dtype=np.float32))
    return np.asarray(down @ grid.transpose(2, 0, 1) @ across.T, np.float32)


def _warp(image: FloatArray, grid: FloatArray, state: LocalState) -> FloatArray:
    """Value of each point where its displacement brought it."""
    dy, dx = _dense(grid, state, image.shape)
    y = np.arange(image.shape[0], dtype=np.float32)[:, None] + dy
    x = np.arange(image.shape[1], dtype=np.float32)[None] + dx
    return np.asarray(remap(image, y, x), np.float32)


def remap(image: FloatArray, y: FloatArray, x: FloatArray, *, cubic: bool = True) -> FloatArray:
    """Read an image at places between its pixels, the border's value beyond it.

    OpenCV's cubic kernel (a = -3/4) lies up to 0.048 px from where it is asked for, between the
    pixels: its weights have their centre there. Places are moved by as much beforehand. They are
    rounded to 1/32 px.

    Parameters
    ----------
    image : ndarray of float32, shape (n_rows, n_columns)
        The image.
    y, x : ndarray of float32, shape (n, m)
        The places.
    cubic : bool, default: True
        Cubic or linear.

    Returns
    -------
    ndarray of float32, shape (n, m)
        The values.
    """
    places = [np.ascontiguousarray(np.broadcast_to(p, (y.shape[0], x.shape[1]))) for p in (y, x)]
    if cubic:
        places = [_centred(place) for place in places]
    found = cv2.remap(
        image,
        places[1],
        places[0],
        cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(found, np.float32)


def _centred(place: FloatArray) -> FloatArray:
    whole = np.floor(place)
    wanted = place - whole
    f = wanted
    for _ in range(2):  # the centre lies 0.5 f (1 - f) (1 - 2 f) beyond f
        f = wanted - np.float32(0.5) * f * (1 - f) * (1 - 2 * f)
    return np.asarray(whole + f, np.float32)


def _fit(image: FloatArray, weight: FloatArray, grid: FloatArray, state: LocalState) -> float:
    """Correlation of landmarks, moved back, with the reference."""
    moved = _warp(image, grid, state) if grid.any() else image
    shown = weight
    common = float(np.vdot(shown * moved, state.reference))
    norm = float(np.vdot(shown * moved, moved)) * float(
        np.vdot(shown * state.reference, state.reference)
    )
    return common / float(np.sqrt(norm)) if norm > 0 else 0.0


def _measure(image: FloatArray, weight: FloatArray, state: LocalState) -> FloatArray:
    """Find the displacements of the nodes that bring landmarks onto the reference."""
    reference = state.reference
    n_y, n_x = len(state.y), len(state.x)
    n = n_y * n_x
    down = spread(state.y, np.arange(image.shape[0], dtype=np.float32))
    across = spread(state.x, np.arange(image.shape[1], dtype=np.float32))
    pairs_y = (down[:, :, None] * down[:, None, :]).reshape(len(down), n_y * n_y)
    pairs_x = (across[:, :, None] * across[:, None, :]).reshape(len(across), n_x * n_x)
    slope_y = cv2.filter2D(reference, cv2.CV_32F, np.array([[-0.5], [0.0], [0.5]], np.float32))
    slope_x = cv2.filter2D(reference, cv2.CV_32F, np.array([[-0.5, 0.0, 0.5]], np.float32))
    stiff = _stiffness(n_y, n_x)
    shown = weight
    grid = state.followed.astype(np.float64)
    for _ in range(_ITERATIONS):
        moved = _warp(image, grid.astype(np.float32), state)
        gain = _gain(moved, reference, shown, state.window)
        rest = gain * reference - moved
        size = np.abs(rest[shown > 0])
        # As in the placing of frames: what fires or stands still does not pull.
        scale = 2.385 * _MAD_TO_SD * median(size[:: max(1, size.size // _SAMPLE)])
        believed = shown / (1 + (rest / np.float32(scale)) ** 2) if scale > 0 else shown
        along = (gain * slope_y, gain * slope_x)
        normal = np.zeros((2, n, 2, n))
        right = np.zeros((2, n))
        for i in range(2):
            right[i] = (down.T @ (believed * along[i] * rest) @ across).ravel()
            for j in range(i, 2):
                block = pairs_y.T @ (believed * along[i] * along[j]) @ pairs_x
                block = block.reshape(n_y, n_y, n_x, n_x).transpose(0, 2, 1, 3).reshape(n, n)
                normal[i, :, j] = block
                normal[j, :, i] = block.T
        matrix = normal.reshape(2 * n, 2 * n)
        usual = float(np.median(np.diag(matrix)))
        if not usual > 0:
            return np.zeros((n_y, n_x, 2), np.float32)
        held = usual * (_STIFFNESS * stiff + _RIDGE * np.eye(n))
        matrix = matrix + np.kron(np.eye(2), held)
        flat = grid.reshape(n, 2).T
        right -= flat @ held
        change = np.linalg.solve(matrix, right.ravel()).reshape(2, n).T.reshape(n_y, n_x, 2)
        grid = grid + np.clip(change, -1.0, 1.0)
        length = np.hypot(grid[..., :1], grid[..., 1:])
        grid *= np.minimum(1.0, state.most / np.maximum(length, 1e-9))
    return grid.astype(np.float32)


def _gain(moved: FloatArray, reference: FloatArray, shown: FloatArray, window: int) -> FloatArray:
    """How strongly the reference shows, around each pixel."""
    sides = [min(window, 2 * ((size - 1) // 2) + 1) for size in reference.shape]
    size = (sides[1], sides[0])
    weighted = shown * reference
    common = cv2.boxFilter(weighted * moved, cv2.CV_32F, size)
    own = cv2.boxFilter(weighted * reference, cv2.CV_32F, size)
    least = np.float32(1e-3 * max(float(own.mean()), 1e-12))
    return np.asarray(np.clip(common / np.maximum(own, least), 0.0, 2.0), np.float32)


def _stiffness(n_y: int, n_x: int) -> Float64Array:
    """Sum of squared differences between neighbours, as a quadratic form."""
    number = np.arange(n_y * n_x).reshape(n_y, n_x)
    form = np.zeros((n_y * n_x, n_y * n_x))
    for one, other in (
        (number[1:].ravel(), number[:-1].ravel()),
        (number[:, 1:].ravel(), number[:, :-1].ravel()),
    ):
        np.add.at(form, (one, one), 1.0)
        np.add.at(form, (other, other), 1.0)
        np.add.at(form, (one, other), -1.0)
        np.add.at(form, (other, one), -1.0)
    return form
