"""Put tissue, activity, motion and camera together to a movie."""

import numpy as np
from scipy import sparse

from cocuyo.core import AnyArray, BoolArray, FloatArray, Progress, SettingsError, TimeArray
from cocuyo.core.progress import ProgressCallback, ignore_progress
from cocuyo.simulation.activity import network_bursts, neuropil_courses
from cocuyo.simulation.anatomy import Canvas, background_image, illumination_image, smooth_field
from cocuyo.simulation.camera import (
    Sensor,
    draw_dropped,
    draw_sensor,
    expected_variance,
    expose,
    save_frames,
)
from cocuyo.simulation.config import SimulationConfig
from cocuyo.simulation.light import Light, draw_light
from cocuyo.simulation.motion import (
    KERNEL_HALF,
    Deformation,
    draw_deformation,
    draw_jumps,
    draw_shifts,
    moved,
    warped,
)
from cocuyo.simulation.population import (
    Population,
    canvas_footprints,
    populate,
    stream_of,
    stream_of_take,
    under_vessels,
)
from cocuyo.simulation.truth import Simulation, Truth

_BLOCK = 32  # frames rendered together; changes memory only, never the movie
_N_MODES = 6  # independent patterns of neuropil


def simulate(
    config: SimulationConfig | None = None,
    *,
    seed: int,
    progress: ProgressCallback = ignore_progress,
) -> Simulation:
    """Simulate a one-photon recording of a slice, a culture or a miniscope, with exact truth.

    The expected image is ::

        L(y, x) l(t) B [b(y, x) + n(y, x, t) + sum of f(y, x) r (1 + d(t))] + B s(t)

    with the bracket moved as the tissue is in frame t: L illumination and dirt (fixed to the
    microscope, but for a slow tilt), l bleaching, lamp and flashes, B the baseline in counts, b
    the tissue's own fluorescence, n neuropil, s stray light of stimuli, and for each cell
    footprint f, brightness at rest r and ΔF/F d, cells out of focus included. The camera adds shot
    noise, read noise and offset, rounds and clips; then frames are lost, smoothed, turned into
    ΔF/F or compressed where that is asked. Tissue reaches beyond the frame, so motion brings
    in new tissue.

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
    every = [config.model_copy(update={"take": take}) for take in range(config.takes)]
    shifts_of_all = [_draw_motion(one, seed) for one in every]
    shifts = shifts_of_all[config.take]
    deformation = draw_deformation(stream_of_take(config, seed, "deformation"), config=config)
    largest_radius = config.soma_diameter_max_um / config.pixel_size_um / 2
    reach = max(np.abs(one).max() for one in shifts_of_all) + largest_radius
    margin = int(np.ceil(reach + config.nonrigid_px)) + KERNEL_HALF + 1
    canvas = Canvas(config.n_rows, config.n_columns, margin)
    bursts_s = network_bursts(stream_of_take(config, seed, "bursts"), config=config)
    populations = populate(config, seed, canvas=canvas, bursts_s=bursts_s)

    background, shadow = background_image(
        stream_of(config, seed, "background"), canvas=canvas, config=config
    )
    illumination = illumination_image(stream_of(config, seed, "illumination"), config=config)
    light = draw_light(
        stream_of_take(config, seed, "light"), stream_of_take(config, seed, "lamp"), config=config
    )
    sensor = draw_sensor(
        stream_of(config, seed, "sensor"), stream_of(config, seed, "sensor.pattern"), config=config
    )
    dropped = draw_dropped(stream_of_take(config, seed, "dropped"), config=config)
    patches = canvas_footprints(populations, canvas)
    rest = np.concatenate([population.rest for population in populations])
    if config.vessel_shadow > 0:
        patches, rest = under_vessels(patches, rest, shadow.ravel())
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
        sensor=sensor,
        shifts=shifts,
        deformation=deformation,
        dropped=dropped,
        bursts_s=bursts_s,
        progress=progress,
    )
    truth = _make_truth(
        config,
        populations,
        canvas=canvas,
        patches=patches,
        rest=rest,
        static=static,
        illumination=illumination,
        light=light,
        sensor=sensor,
        shifts=shifts,
        deformation=deformation,
        dropped=dropped,
        bursts_s=bursts_s,
    )
    return Simulation(save_frames(frames, config=config), truth, config, seed)


def _draw_motion(config: SimulationConfig, seed: int) -> FloatArray:
    """Draw the shifts of one take."""
    shifts = draw_shifts(stream_of_take(config, seed, "motion"), config=config)
    if config.n_jumps > 0:
        shifts = shifts + draw_jumps(stream_of_take(config, seed, "jumps"), config=config)
    return shifts


def _render(
    config: SimulationConfig,
    seed: int,
    *,
    canvas: Canvas,
    static: FloatArray,
    patches: sparse.csr_array,
    change: FloatArray,
    illumination: FloatArray,
    light: Light,
    sensor: Sensor,
    shifts: FloatArray,
    deformation: Deformation,
    dropped: BoolArray,
    bursts_s: TimeArray,
    progress: ProgressCallback,
) -> AnyArray:
    """Render all frames: dynamic tissue in blocks, then shift and camera one by one."""
    neuropil_rng = stream_of_take(config, seed, "neuropil")
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

    noise = stream_of_take(config, seed, "noise")
    scale = illumination * np.float32(config.baseline_counts)
    dtype = np.uint8 if config.bit_depth == 8 else np.uint16
    frames = np.empty((config.n_frames, config.n_rows, config.n_columns), dtype)
    active = np.flatnonzero(change.any(axis=1))
    lit = patches[active].T.tocsr()
    for start in range(0, config.n_frames, _BLOCK):
        stop = min(start + _BLOCK, config.n_frames)
        tissue = courses[:, start:stop].T @ patterns
        tissue += static.ravel()
        if len(active):
            tissue += np.ascontiguousarray((lit @ change[active, start:stop]).T)
        for t in range(start, stop):
            image = tissue[t - start].reshape(canvas.shape)
            if config.nonrigid_px > 0:
                image = warped(image, deformation.sources(t, shifts[t]), canvas)
            else:
                image = moved(image, shifts[t], canvas)
            if config.illumination_tilt > 0:
                image = image * light.slope(t, image.shape)
            expected = np.maximum(image * scale * light.factor[t], 0)
            if light.stray[t] > 0:
                expected += light.stray[t] * np.float32(config.baseline_counts)
            if dropped[t] and config.dropped_frames == "blank":
                expected = np.zeros_like(expected)
            counts = expose(expected, sensor, noise, config=config)
            frames[t] = np.clip(np.rint(counts), 0, config.max_count).astype(dtype)
            if dropped[t] and config.dropped_frames == "repeat":
                frames[t] = frames[t - 1]
        progress(Progress("simulate", stop, config.n_frames))
    return frames


def _make_truth(
    config: SimulationConfig,
    populations: list[Population],
    *,
    canvas: Canvas,
    patches: sparse.csr_array,
    rest: FloatArray,
    static: FloatArray,
    illumination: FloatArray,
    light: Light,
    sensor: Sensor,
    shifts: FloatArray,
    deformation: Deformation,
    dropped: BoolArray,
    bursts_s: TimeArray,
) -> Truth:
    """Cut the truth to frame 0 and compute what can be detected."""
    inner = slice(canvas.margin, -canvas.margin)
    window = np.zeros(canvas.shape, np.bool_)
    window[inner, inner] = True
    inside = np.flatnonzero(window.ravel())
    footprints = patches.tocsc()[:, inside].tocsr()
    footprints.sort_indices()
    planted = canvas_footprints(populations, canvas, planted=True).tocsc()[:, inside].tocsr()
    planted.sort_indices()

    def all_of(name: str) -> AnyArray:
        return np.concatenate([getattr(population, name) for population in populations])

    sizes = [len(population.rest) for population in populations]
    in_focus = np.repeat([population.in_focus for population in populations], sizes)
    active = np.repeat([population.active for population in populations], sizes)
    events = [events for population in populations for events in population.events]
    traces = all_of("traces")
    centres = all_of("centres") - canvas.margin

    half = footprints.copy()
    half.data = (half.data >= 0.5).astype(np.float32)
    half.eliminate_zeros()
    area = np.diff(half.indptr)
    whole_area = (patches >= 0.5).sum(axis=1)
    kept = np.flatnonzero(area > 0)
    cut = area < 0.5 * whole_area

    scale = illumination.ravel() * config.baseline_counts
    still = static[inner, inner].ravel() * scale * light.factor[0]
    variance = expected_variance(still, sensor, config=config)
    pixels = np.maximum(area, 1)
    rest_counts = rest * (half.multiply(footprints) @ (scale * light.factor[0])) / pixels
    soma_noise = np.sqrt(np.where(area > 0, half @ variance, 1.0)) / pixels
    largest = (traces * (light.factor / light.factor[0])[None]).max(axis=1)
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
        light=light.factor,
        flashes=light.flashes,
        fps=config.frame_rate_hz,
        frame_shape=(config.n_rows, config.n_columns),
        planted=sparse.csr_array(planted[kept]),
        centres=centres[kept].astype(np.float32),
        blur_um=all_of("blur_um")[kept],
        depth_um=all_of("depth_um")[kept],
        deformation=deformation,
        dropped=dropped,
        bursts_s=bursts_s,
        stimuli_s=light.stimuli_s,
        shows_rest=config.shows_rest,
    )
