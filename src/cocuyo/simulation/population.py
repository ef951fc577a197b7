"""The cells of a recording: where they lie, how bright they are, when they fire."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from cocuyo.core import BoolArray, FloatArray, TimeArray, stream
from cocuyo.simulation.activity import draw_activity
from cocuyo.simulation.anatomy import Canvas, Soma, draw_soma, place_cells, smooth_field
from cocuyo.simulation.config import SimulationConfig

_WATER = 1.33  # refractive index


def stream_of(config: SimulationConfig, seed: int, name: str) -> np.random.Generator:
    """Make the random generator of one step of a simulation."""
    prefix = "" if config.split == "none" else f"{config.split}."
    return stream(seed, f"simulation.{prefix}{name}")


def stream_of_take(config: SimulationConfig, seed: int, name: str) -> np.random.Generator:
    """Make the random generator of a step that differs between recordings of one tissue."""
    return stream_of(config, seed, f"{name}.take{config.take}" if config.take else name)


@dataclass(frozen=True, eq=False)
class Population:
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
    blur_um: FloatArray  # (n,) sigma of the optical blur
    depth_um: FloatArray  # (n,) from the focal plane, down is positive; 0 without an aperture


def populate(
    config: SimulationConfig, seed: int, *, canvas: Canvas, bursts_s: TimeArray
) -> list[Population]:
    """Make the four populations. Active cells are placed first and never move for others."""
    sigma = 30.0 / config.pixel_size_um
    field = smooth_field(stream_of(config, seed, "density"), canvas.shape, sigma_px=sigma)
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
            stream_of(config, seed, f"{name}.places"),
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
) -> Population:
    n_cells = len(cells)
    shapes = stream_of(config, seed, f"{name}.shapes")
    depths = _draw_depths(config, seed, name, n_cells=n_cells, in_focus=in_focus)
    somata, blurs = [], []
    for cell, depth_um in zip(cells, depths, strict=True):
        if in_focus or config.numerical_aperture > 0:
            blur_um = config.blur_um * shapes.uniform(0.8, 1.3)
            blur_um = float(np.hypot(blur_um, _defocus_um(depth_um, config)))
        else:
            low, high = np.log(config.defocus_min_um), np.log(config.defocus_max_um)
            blur_um = float(np.exp(shapes.uniform(low, high)))
        blurs.append(blur_um)
        somata.append(
            draw_soma(
                shapes,
                cell,
                config=config,
                sigma_px=blur_um / config.pixel_size_um,
                has_halo=in_focus,
            )
        )
    brightness = stream_of(config, seed, f"{name}.brightness")
    full = config.brightness * np.exp(
        np.clip(config.brightness_spread * brightness.standard_normal(n_cells), -1.5, 1.5)
    )
    if not in_focus:
        full *= config.defocus_light * np.array([soma.light for soma in somata])
    if config.numerical_aperture > 0 and config.scattering_length_um > 0:
        full *= np.exp(-depths / config.scattering_length_um)
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
        firing = stream_of_take(config, seed, f"{name}.activity")
        for cell_index in range(n_cells):
            activity = draw_activity(firing, config=config, bursts_s=bursts_s)
            traces[cell_index] = activity.delta_f_over_f / dim[cell_index]
            frame = np.floor(activity.spike_times_s * config.frame_rate_hz + 1e-6).astype(int)
            np.add.at(spikes[cell_index], frame, 1)
            raster[cell_index] = activity.raster
            events[cell_index] = activity.events_s
    return Population(
        somata,
        cells[:, :2],
        (full * dim).astype(np.float32),
        traces,
        spikes,
        raster,
        events,
        in_focus,
        active,
        np.asarray(blurs, np.float32),
        depths.astype(np.float32),
    )


def _draw_depths(
    config: SimulationConfig, seed: int, name: str, *, n_cells: int, in_focus: bool
) -> TimeArray:
    """Draw how far below the focal plane each cell lies, µm."""
    if config.numerical_aperture == 0:
        return np.zeros(n_cells)
    rng = stream_of(config, seed, f"{name}.depths")
    if in_focus:
        return rng.uniform(-config.focus_depth_um, config.focus_depth_um, n_cells)
    side = rng.choice([-1.0, 1.0], n_cells)
    return side * rng.uniform(config.defocus_depth_um, config.depth_range_um, n_cells)


def _defocus_um(depth_um: float, config: SimulationConfig) -> float:
    """Sigma of the blur of geometrical optics at some distance from the focal plane, µm.

    A point makes a disc of radius ``depth * tan(asin(NA / n))``; the standard deviation of a
    disc along an axis is half its radius.
    """
    sine = config.numerical_aperture / _WATER
    return float(abs(depth_um) * sine / np.sqrt(1 - sine**2) / 2)


def canvas_footprints(
    populations: list[Population], canvas: Canvas, *, planted: bool = False
) -> sparse.csr_array:
    """Stack the patches of all cells, (n_cells, canvas pixels); `planted`: before the blur."""
    rows, columns = canvas.shape
    data, indices, ends = [np.zeros(0, np.float32)], [np.zeros(0, np.int32)], [0]
    for population in populations:
        for soma in population.somata:
            patch = soma.planted if planted else soma.patch
            y, x = np.nonzero(patch)
            weights = patch[y, x]
            y, x = y + soma.top, x + soma.left
            keep = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
            data.append(weights[keep])
            indices.append((y[keep] * columns + x[keep]).astype(np.int32))
            ends.append(ends[-1] + int(keep.sum()))
    return sparse.csr_array(
        (np.concatenate(data), np.concatenate(indices), np.asarray(ends, np.int32)),
        shape=(len(ends) - 1, rows * columns),
    )


def under_vessels(
    patches: sparse.csr_array, rest: FloatArray, shadow: FloatArray
) -> tuple[sparse.csr_array, FloatArray]:
    """Dim cells where vessels lie above them; footprints keep a largest value of 1.

    Parameters
    ----------
    patches : scipy.sparse.csr_array of float32, shape (n_cells, n_pixels)
        Footprints on the canvas.
    rest : ndarray of float32, shape (n_cells,)
        Brightness at rest.
    shadow : ndarray of float32, shape (n_pixels,)
        Factor on the light of cells.

    Returns
    -------
    patches : scipy.sparse.csr_array of float32
        What the camera sees of each cell, largest value 1.
    rest : ndarray of float32
        Its brightness.
    """
    seen = patches.copy()
    seen.data = seen.data * shadow[seen.indices]
    before = patches.max(axis=1).toarray().ravel()
    after = seen.max(axis=1).toarray().ravel()
    dimmed = np.where(after > 0, after / np.maximum(before, 1e-9), 1.0).astype(np.float32)
    seen.data = seen.data / np.repeat(dimmed, np.diff(seen.indptr))
    return seen, np.asarray(rest * dimmed, np.float32)
