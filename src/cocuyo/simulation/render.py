"""Put tissue, activity, motion and camera together to a movie."""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage, sparse

from cocuyo.core import AnyArray, BoolArray, FloatArray, Progress, SettingsError, TimeArray, stream
from cocuyo.core.progress import ProgressCallback, ignore_progress
from cocuyo.simulation.activity import draw_activity, network_bursts, neuropil_courses
from cocuyo.simulation.anatomy import (
    Canvas,
    Soma,
    as_float,
    background_image,
    draw_soma,
    illumination_image,
    place_cells,
    smooth_field,
)
from cocuyo.simulation.config import SimulationConfig
from cocuyo.simulation.truth import Simulation, Truth

_BLOCK = 32  # frames rendered together; changes memory only, never the movie
_POISSON_BELOW = 20.0  # photoelectrons; above, a Gaussian is as good and five times faster
_N_MODES = 6  # independent patterns of neuropil
_KERNEL_HALF = 2  # taps on each side of the cubic interpolation


@dataclass(frozen=True, eq=False)
class _Population:
    """Cells of one kind on the canvas, with brightness and activity."""

    somata: list[Soma]
    centres: FloatArray  # (n, 2) on the canvas
    rest: FloatArray  # (n,) brightness at rest relative to background
    traces: FloatArray  # (n, T)
    spikes: np.ndarray[tuple[int, ...], np.dtype[np.uint16]]
    raster: BoolArray
    events: list[TimeArray]
    in_focus: bool
    active: bool


def simulate(
    config: SimulationConfig | None = None,
    *,
    seed: int,
    progress: ProgressCallback = ignore_progress,
) -> Simulation:
    r"""Simulate a one-photon recording of a brain slice, with exact truth.

    The expected image is

    .. math:: L(y, x)\, l(t)\, B\, [b(y, x) + n(y, x, t)
              + \sum_i f_i(y, x)\, r_i\, (1 + d_i(t))]

    with the bracket moved by the shift of frame :math:`t`: :math:`L` illumination and dirt
    (fixed to the microscope), :math:`l` bleaching and flashes, :math:`B` the baseline in
    counts, :math:`b` the tissue's own fluorescence, :math:`n` neuropil, and for each cell
    footprint :math:`f`, brightness at rest :math:`r` and ΔF/F :math:`d`, cells out of focus
    included. The camera adds shot noise, read noise and offset, rounds and clips. Tissue
    reaches beyond the frame, so motion brings in new tissue.

    Parameters
    ----------
    config : SimulationConfig, optional
        All settings; an ordinary slice recording by default.
    seed : int
        Seed of all random numbers, at least 0. Each step has its own stream: more silent
        cells leave the active ones as they are.
    progress : callable, optional
        Called with `Progress` as frames are rendered; may raise to stop.

    Returns
    -------
    Simulation
        Frames and truth.

    Raises
    ------
    SettingsError
        If the seed is negative.

    Examples
    --------
    >>> config = SimulationConfig(n_frames=4, n_rows=32, n_columns=40, n_active=2)
    >>> simulate(config, seed=1).frames.shape
    (4, 32, 40)
    """
    if seed < 0:
        msg = f"The seed is {seed}; it must be 0 or more."
        raise SettingsError(msg)
    config = config or SimulationConfig()
    shifts = _draw_shifts(_stream(config, seed, "motion"), config=config)
    largest_radius = config.soma_diameter_max_um / config.pixel_size_um / 2
    margin = int(np.ceil(np.abs(shifts).max() + largest_radius)) + _KERNEL_HALF + 1
    canvas = Canvas(config.n_rows, config.n_columns, margin)
    bursts_s = network_bursts(_stream(config, seed, "bursts"), config=config)
    populations = _populate(config, seed, canvas=canvas, bursts_s=bursts_s)

    background = background_image(_stream(config, seed, "background"), canvas=canvas, config=config)
    illumination = illumination_image(_stream(config, seed, "illumination"), config=config)
    light, flashes = _draw_light(_stream(config, seed, "light"), config=config)
    patches = _canvas_footprints(populations, canvas)
    rest = np.concatenate([population.rest for population in populations])
    traces = np.concatenate([population.traces for population in populations])
    static = background + (patches.T @ rest).reshape(canvas.shape)
    frames = _render(
        config,
        seed,
        canvas=canvas,
        static=static,
        patches=patches,
        change=rest[:, None] * traces,
        illumination=illumination,
        light=light,
        shifts=shifts,
        bursts_s=bursts_s,
        progress=progress,
    )
    truth = _make_truth(
        config,
        populations,
        canvas=canvas,
        patches=patches,
        static=static,
        illumination=illumination,
        light=light,
        flashes=flashes,
        shifts=shifts,
    )
    return Simulation(frames, truth, config, seed)


def _stream(config: SimulationConfig, seed: int, name: str) -> np.random.Generator:
    prefix = "" if config.split == "none" else f"{config.split}."
    return stream(seed, f"simulation.{prefix}{name}")


def _draw_shifts(rng: np.random.Generator, *, config: SimulationConfig) -> FloatArray:
    """Draw displacements: a smooth walk that reaches `drift_px`, and jitter; 0 in frame 0."""
    walk = np.cumsum(rng.standard_normal((config.n_frames, 2)), axis=0)
    walk = ndimage.gaussian_filter1d(walk, max(config.n_frames / 60, 1.0), axis=0)
    walk -= walk[0]
    reach = float(np.hypot(walk[:, 0], walk[:, 1]).max())
    jitter = config.jitter_px * rng.standard_normal((config.n_frames, 2))
    shifts = walk * (config.drift_px / max(reach, 1e-9)) + jitter - jitter[0]
    return as_float(shifts)


def _draw_light(
    rng: np.random.Generator, *, config: SimulationConfig
) -> tuple[FloatArray, BoolArray]:
    """Draw the light of each frame: exponential bleaching with a few flashes."""
    time = np.linspace(0, 1, config.n_frames)
    steepness = rng.uniform(0.5, 4.0)
    decay = (1 - np.exp(-steepness * time)) / (1 - np.exp(-steepness))
    light = 1 - config.bleaching * decay
    flashes = np.zeros(config.n_frames, np.bool_)
    for _ in range(config.n_flashes):
        start = int(rng.integers(1, config.n_frames))
        length = int(rng.integers(1, 3))
        share = rng.uniform(0.4, 1.0)
        if not flashes[start : start + length].any():
            light[start : start + length] *= 1 + (config.flash_factor - 1) * share
            flashes[start : start + length] = True
    return light.astype(np.float32), flashes


def _populate(
    config: SimulationConfig, seed: int, *, canvas: Canvas, bursts_s: TimeArray
) -> list[_Population]:
    """Make the four populations. Active cells are placed first and never move for others."""
    sigma = 30.0 / config.pixel_size_um
    field = smooth_field(_stream(config, seed, "density"), canvas.shape, sigma_px=sigma)
    density = np.exp(1.2 * config.clustering * field)
    density = np.clip(density / np.percentile(density, 98), 0.02, 1).astype(np.float32)
    nobody = np.zeros((0, 3), np.float32)
    taken = nobody
    populations = []
    for name, number, in_focus, active in (
        ("active", config.n_active, True, True),
        ("silent", config.n_silent, True, False),
        ("defocused_active", config.n_defocused_active, False, True),
        ("defocused_silent", config.n_defocused_silent, False, False),
    ):
        cells = place_cells(
            _stream(config, seed, f"{name}.places"),
            number,
            canvas=canvas,
            config=config,
            taken=taken if in_focus else nobody,
            density=density,
            min_distance=config.min_distance if in_focus else 0.0,
        )
        if in_focus:
            taken = np.vstack([taken, cells])
        populations.append(
            _draw_population(
                config,
                seed,
                name,
                cells=cells,
                in_focus=in_focus,
                active=active,
                bursts_s=bursts_s,
            )
        )
    return populations


def _draw_population(
    config: SimulationConfig,
    seed: int,
    name: str,
    *,
    cells: FloatArray,
    in_focus: bool,
    active: bool,
    bursts_s: TimeArray,
) -> _Population:
    n_cells = len(cells)
    shapes = _stream(config, seed, f"{name}.shapes")
    somata = []
    for cell in cells:
        if in_focus:
            blur_um = config.blur_um * shapes.uniform(0.8, 1.3)
        else:
            low, high = np.log(config.defocus_min_um), np.log(config.defocus_max_um)
            blur_um = float(np.exp(shapes.uniform(low, high)))
        somata.append(
            draw_soma(
                shapes,
                cell,
                config=config,
                sigma_px=blur_um / config.pixel_size_um,
                has_halo=in_focus,
            )
        )
    brightness = _stream(config, seed, f"{name}.brightness")
    full = config.brightness * np.exp(
        np.clip(config.brightness_spread * brightness.standard_normal(n_cells), -1.5, 1.5)
    )
    if not in_focus:
        full *= config.defocus_light * np.array([soma.light for soma in somata])
    # Cells that are dim at rest have as bright transients as the others.
    dim = np.ones(n_cells)
    if active:
        is_dim = brightness.random(n_cells) < config.dim_at_rest_share
        dim[is_dim] = brightness.uniform(0.02, 0.2, int(is_dim.sum()))
    traces = np.zeros((n_cells, config.n_frames), np.float32)
    spikes = np.zeros((n_cells, config.n_frames), np.uint16)
    raster = np.zeros((n_cells, config.n_frames), np.bool_)
    events: list[TimeArray] = [np.zeros((0, 2))] * n_cells
    if active:
        firing = _stream(config, seed, f"{name}.activity")
        for cell_index in range(n_cells):
            activity = draw_activity(firing, config=config, bursts_s=bursts_s)
            traces[cell_index] = activity.delta_f_over_f / dim[cell_index]
            frame = np.floor(activity.spike_times_s * config.frame_rate_hz + 1e-6).astype(int)
            np.add.at(spikes[cell_index], frame, 1)
            raster[cell_index] = activity.raster
            events[cell_index] = activity.events_s
    return _Population(
        somata,
        cells[:, :2],
        (full * dim).astype(np.float32),
        traces,
        spikes,
        raster,
        events,
        in_focus,
        active,
    )


def _canvas_footprints(populations: list[_Population], canvas: Canvas) -> sparse.csr_array:
    """Stack the patches of all cells, (n_cells, canvas pixels)."""
    rows, columns = canvas.shape
    data, indices, ends = [np.zeros(0, np.float32)], [np.zeros(0, np.int32)], [0]
    for population in populations:
        for soma in population.somata:
            y, x = np.nonzero(soma.patch)
            weights = soma.patch[y, x]
            y, x = y + soma.top, x + soma.left
            keep = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
            data.append(weights[keep])
            indices.append((y[keep] * columns + x[keep]).astype(np.int32))
            ends.append(ends[-1] + int(keep.sum()))
    return sparse.csr_array(
        (np.concatenate(data), np.concatenate(indices), np.asarray(ends, np.int32)),
        shape=(len(ends) - 1, rows * columns),
    )


def _render(
    config: SimulationConfig,
    seed: int,
    *,
    canvas: Canvas,
    static: FloatArray,
    patches: sparse.csr_array,
    change: FloatArray,
    illumination: FloatArray,
    light: FloatArray,
    shifts: FloatArray,
    bursts_s: TimeArray,
    progress: ProgressCallback,
) -> AnyArray:
    """Render all frames: dynamic tissue in blocks, then shift and camera one by one."""
    neuropil_rng = _stream(config, seed, "neuropil")
    modes, burst = neuropil_courses(neuropil_rng, _N_MODES, config=config, bursts_s=bursts_s)
    sigma_px = config.neuropil_scale_um / config.pixel_size_um
    maps = [
        smooth_field(neuropil_rng, canvas.shape, sigma_px=sigma_px).ravel() for _ in range(_N_MODES)
    ]
    burst_map = 1 + 0.3 * smooth_field(neuropil_rng, canvas.shape, sigma_px=sigma_px).ravel()
    patterns = np.stack([*maps, np.clip(burst_map, 0.1, None)]).astype(np.float32)
    courses = np.vstack(
        [
            config.neuropil_amplitude / np.sqrt(_N_MODES) * modes,
            config.network_burst_amplitude * burst[None],
        ]
    ).astype(np.float32)

    sensor = _stream(config, seed, "sensor")
    offset = np.full((config.n_rows, config.n_columns), config.offset_counts, np.float32)
    for _ in range(config.n_hot_pixels):
        pixel = int(sensor.integers(config.n_rows)), int(sensor.integers(config.n_columns))
        offset[pixel] += config.baseline_counts * sensor.uniform(0.3, 2.0)
    noise = _stream(config, seed, "noise")
    gain = config.gain_counts_per_photon
    is_poisson = gain > 0 and config.baseline_counts < _POISSON_BELOW * gain * 2.0
    scale = illumination * np.float32(config.baseline_counts)
    dtype = np.uint8 if config.bit_depth == 8 else np.uint16
    frames = np.empty((config.n_frames, config.n_rows, config.n_columns), dtype)
    active = np.flatnonzero(change.any(axis=1))
    lit = patches[active].T.tocsr()
    read_variance = np.float32(config.read_noise_counts**2)
    for start in range(0, config.n_frames, _BLOCK):
        stop = min(start + _BLOCK, config.n_frames)
        tissue = courses[:, start:stop].T @ patterns
        tissue += static.ravel()
        if len(active):
            tissue += np.ascontiguousarray((lit @ change[active, start:stop]).T)
        for t in range(start, stop):
            image = _moved(tissue[t - start].reshape(canvas.shape), shifts[t], canvas)
            expected = np.maximum(image * scale * light[t], 0)
            if is_poisson:
                counts = gain * noise.poisson(expected / gain).astype(np.float32)
                spread = np.sqrt(read_variance)
            else:
                counts = expected
                spread = np.sqrt(gain * expected + read_variance)
            counts = counts + spread * noise.standard_normal(expected.shape, dtype=np.float32)
            counts += offset
            frames[t] = np.clip(np.rint(counts), 0, config.max_count).astype(dtype)
        progress(Progress("simulate", stop, config.n_frames))
    return frames


def _moved(tissue: FloatArray, shift: FloatArray, canvas: Canvas) -> FloatArray:
    """Cut the frame out of tissue that moved by `shift`, with cubic interpolation.

    OpenCV's warps round displacements to 1/32 pixel; two passes of a 4-tap filter do not.
    """
    kernels, starts = [], []
    for axis, size in ((0, canvas.rows), (1, canvas.columns)):
        source = canvas.margin - float(shift[axis])  # where the frame's first pixel comes from
        whole = int(np.floor(source))
        kernels.append(_cubic_taps(source - whole))
        starts.append((whole - 1, size + 3))
    rows, columns = (slice(start, start + length) for start, length in starts)
    window = np.ascontiguousarray(tissue[rows, columns])
    filtered = cv2.sepFilter2D(window, cv2.CV_32F, kernels[1], kernels[0], anchor=(1, 1))
    return as_float(filtered[1 : 1 + canvas.rows, 1 : 1 + canvas.columns])


def _cubic_taps(fraction: float) -> FloatArray:
    """Weights of Keys' cubic convolution (a = -1/2) for the pixels -1, 0, 1, 2."""
    f = fraction
    return np.array(
        [
            -0.5 * f**3 + f**2 - 0.5 * f,
            1.5 * f**3 - 2.5 * f**2 + 1,
            -1.5 * f**3 + 2 * f**2 + 0.5 * f,
            0.5 * f**3 - 0.5 * f**2,
        ],
        np.float32,
    )


def _make_truth(
    config: SimulationConfig,
    populations: list[_Population],
    *,
    canvas: Canvas,
    patches: sparse.csr_array,
    static: FloatArray,
    illumination: FloatArray,
    light: FloatArray,
    flashes: BoolArray,
    shifts: FloatArray,
) -> Truth:
    """Cut the truth to frame 0 and compute what can be detected."""
    inner = slice(canvas.margin, -canvas.margin)
    window = np.zeros(canvas.shape, np.bool_)
    window[inner, inner] = True
    inside = np.flatnonzero(window.ravel())
    footprints = patches.tocsc()[:, inside].tocsr()
    footprints.sort_indices()

    def all_of(name: str) -> AnyArray:
        return np.concatenate([getattr(population, name) for population in populations])

    sizes = [len(population.rest) for population in populations]
    in_focus = np.repeat([population.in_focus for population in populations], sizes)
    active = np.repeat([population.active for population in populations], sizes)
    events = [events for population in populations for events in population.events]
    rest, traces = all_of("rest"), all_of("traces")

    half = footprints.copy()
    half.data = (half.data >= 0.5).astype(np.float32)
    half.eliminate_zeros()
    area = np.diff(half.indptr)
    whole_area = (patches >= 0.5).sum(axis=1)
    kept = np.flatnonzero(area > 0)
    cut = area < 0.5 * whole_area

    scale = illumination.ravel() * config.baseline_counts
    still = static[inner, inner].ravel() * scale * light[0]
    variance = (
        config.gain_counts_per_photon * still + config.read_noise_counts**2 + 1 / 12
    )  # rounding to whole counts adds 1/12
    pixels = np.maximum(area, 1)
    rest_counts = rest * (half.multiply(footprints) @ (scale * light[0])) / pixels
    soma_noise = np.sqrt(np.where(area > 0, half @ variance, 1.0)) / pixels
    largest = (traces * (light / light[0])[None]).max(axis=1)
    new_index = np.full(len(rest), -1)
    new_index[kept] = np.arange(len(kept))
    rows = [(new_index[cell], first_s, last_s) for cell in kept for first_s, last_s in events[cell]]
    return Truth(
        footprints=sparse.csr_array(footprints[kept]),
        traces=traces[kept],
        spikes=all_of("spikes")[kept],
        raster=all_of("raster")[kept],
        events=np.asarray(rows, np.float64).reshape(-1, 3),
        in_focus=in_focus[kept],
        active=active[kept],
        cut=np.asarray(cut)[kept],
        snr=(rest_counts * largest / soma_noise)[kept].astype(np.float32),
        rest_counts=rest_counts[kept].astype(np.float32),
        noise_counts=(np.sqrt(half @ variance / pixels))[kept].astype(np.float32),
        background_counts=(half @ still / pixels - rest_counts)[kept].astype(np.float32),
        shifts=shifts,
        light=light,
        flashes=flashes,
        fps=config.frame_rate_hz,
        frame_shape=(config.n_rows, config.n_columns),
    )
