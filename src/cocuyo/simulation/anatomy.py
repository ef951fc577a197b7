"""Where cells lie, what shape they have, and the tissue around them."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from cocuyo.core import AnyArray, FloatArray
from cocuyo.simulation.config import SimulationConfig


@dataclass(frozen=True)
class Canvas:
    """The simulated tissue: the frame with a margin on each side, in pixels."""

    rows: int
    columns: int
    margin: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns, margins included."""
        return self.rows + 2 * self.margin, self.columns + 2 * self.margin


@dataclass(frozen=True, eq=False)
class Soma:
    """One cell as it appears on the canvas.

    Attributes
    ----------
    top, left : int
        Where the patch lies on the canvas; it may reach beyond it.
    patch : ndarray of float32
        Brightness with largest value 1.
    planted : ndarray of float32, shape as `patch`
        The same before blur and haze.
    light : float
        Factor by which the blur lowered the peak (1 for a cell in focus).
    """

    top: int
    left: int
    patch: FloatArray
    planted: FloatArray
    light: float


# Dome and texture put the half maximum inside the edge; measured, so that the mask at half
# maximum has the diameter that was asked.
_EDGE_OVER_HALF_MAXIMUM = 1.1


def as_float(values: AnyArray) -> FloatArray:
    """Give values as float32."""
    return np.asarray(values, dtype=np.float32)


def smooth_field(
    rng: np.random.Generator, shape: tuple[int, int], *, sigma_px: float
) -> FloatArray:
    """Draw a smooth random image of mean 0 and standard deviation 1.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    shape : tuple of int
        Rows and columns.
    sigma_px : float
        Sigma of the Gaussian that smooths white noise, in pixels.

    Returns
    -------
    ndarray of float32, shape `shape`
        The image. Where sigma is large it is drawn on a coarser grid and resized.
    """
    step = max(1, int(sigma_px / 3))
    pad = 4
    coarse = (shape[0] // step + 2 * pad, shape[1] // step + 2 * pad)
    noise = rng.standard_normal(coarse, dtype=np.float32)
    field = cv2.GaussianBlur(noise, (0, 0), sigma_px / step, borderType=cv2.BORDER_REFLECT)
    field = field[pad // 2 : -pad // 2, pad // 2 : -pad // 2]
    field = cv2.resize(field, shape[::-1], interpolation=cv2.INTER_CUBIC)
    spread = float(field.std())
    return as_float((field - field.mean()) / max(spread, 1e-6))


def place_cells(
    rng: np.random.Generator,
    n_inside: int,
    *,
    canvas: Canvas,
    config: SimulationConfig,
    taken: FloatArray,
    density: FloatArray,
    min_distance: float,
) -> FloatArray:
    """Throw cells on the canvas until enough are centred inside the first frame.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    n_inside : int
        Number of centres inside the frame; those that fall in the margin come on top, so
        that the density goes on beyond the border.
    canvas : Canvas
        The tissue.
    config : SimulationConfig
        Diameters and pixel size.
    taken : ndarray of float32, shape (n, 3)
        Cells that are there already: y, x, diameter, in pixels of the canvas.
    density : ndarray of float32, shape `canvas.shape`
        Relative probability of a cell, in [0, 1].
    min_distance : float
        Least distance of centres over the mean diameter.

    Returns
    -------
    ndarray of float32, shape (n_new, 3)
        y, x, diameter of the new cells, in pixels of the canvas.
    """
    rows, columns = canvas.shape
    cells = taken.copy()
    inside = 0
    while inside < n_inside:
        diameter = draw_diameter(rng, config) / config.pixel_size_um
        best, best_gap = (0.0, 0.0), -1.0
        for _ in range(60):
            y, x = rng.random() * (rows - 1), rng.random() * (columns - 1)
            if rng.random() > density[int(y), int(x)]:
                continue
            gap = np.inf
            if len(cells):
                distance = np.hypot(cells[:, 0] - y, cells[:, 1] - x)
                gap = float(np.min(distance / (0.5 * (cells[:, 2] + diameter))))
            if gap > best_gap:
                best, best_gap = (y, x), gap
            if gap >= min_distance:
                break
        cells = np.vstack([cells, np.array([[best[0], best[1], diameter]], np.float32)])
        y, x = best[0] - canvas.margin, best[1] - canvas.margin
        inside += -0.5 <= y < canvas.rows - 0.5 and -0.5 <= x < canvas.columns - 0.5
    return cells[len(taken) :]


def draw_diameter(rng: np.random.Generator, config: SimulationConfig) -> float:
    """Draw a soma diameter in µm, within its limits."""
    if config.soma_diameter_distribution == "log_uniform":
        limits = np.log([config.soma_diameter_min_um, config.soma_diameter_max_um])
        return float(np.exp(rng.uniform(*limits)))
    value = config.soma_diameter_um * np.exp(config.soma_diameter_spread * rng.standard_normal())
    return float(np.clip(value, config.soma_diameter_min_um, config.soma_diameter_max_um))


def draw_soma(
    rng: np.random.Generator,
    cell: Sequence[float] | FloatArray,
    *,
    config: SimulationConfig,
    sigma_px: float,
    has_halo: bool,
) -> Soma:
    """Draw one soma: an irregular blob, uneven inside, blurred by the optics.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    cell : sequence of float
        y, x and diameter, in pixels of the canvas.
    config : SimulationConfig
        Irregularity, nuclei, dendrites, haze.
    sigma_px : float
        Sigma of the blur, in pixels.
    has_halo : bool
        Add the haze of `config.halo`.

    Returns
    -------
    Soma
        The cell; the contour is star-shaped: an ellipse times a Fourier series of orders
        2 to 5, and the profile is nearly flat with a soft edge, as the projection of a
        flattened body is.
    """
    y, x, diameter = (float(value) for value in cell)
    radius = _EDGE_OVER_HALF_MAXIMUM * diameter / 2
    has_dendrites = rng.random() < config.dendrite_share
    stub_px = rng.uniform(0.8, 2.2) * radius * config.dendrite_length
    halo_px = config.halo_um / config.pixel_size_um if has_halo and config.halo > 0 else 0.0
    reach = round(
        1.7 * radius
        + max(stub_px if has_dendrites else 0.0, 2.5 * halo_px)
        + 3.2 * max(sigma_px, 0.5)
        + 2
    )
    top, left = round(y) - reach, round(x) - reach
    grid_y, grid_x = np.mgrid[top : top + 2 * reach + 1, left : left + 2 * reach + 1]
    dy, dx = (grid_y - y).astype(np.float32), (grid_x - x).astype(np.float32)
    angle = np.arctan2(dy, dx)
    distance = np.hypot(dy, dx)

    stretch = np.sqrt(rng.uniform(1.0, config.elongation))
    turn = rng.uniform(0, np.pi)
    contour = 1 / np.hypot(np.cos(angle - turn) / stretch, np.sin(angle - turn) * stretch)
    for order in range(2, 6):
        height = rng.standard_normal() * config.irregularity * np.sqrt(2.0) / order
        contour = contour + height * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    edge = radius * np.clip(contour, 0.45, 1.7)
    rho = distance / edge
    # The edge is one pixel soft, so that small somata are not staircases.
    body = np.clip(edge - distance + 0.5, 0, 1)
    body *= np.clip(1 - np.minimum(rho, 1) ** 2, 0, None) ** rng.uniform(0.15, 0.5) * 0.85 + 0.15
    body *= 1 + 0.12 * smooth_field(rng, body.shape, sigma_px=max(radius / 2.5, 0.8))
    if rng.random() < config.nucleus_share:
        offset = rng.uniform(-0.25, 0.25, 2) * radius
        nucleus = np.hypot(dy - offset[0], dx - offset[1]) / (radius * rng.uniform(0.4, 0.6))
        dimness = rng.uniform(config.nucleus_dimness_min, config.nucleus_dimness_max)
        body *= 1 - dimness / (1 + np.exp((nucleus - 1) * 6))
    if has_dendrites:
        for _ in range(int(rng.integers(1, 4))):
            heading = rng.uniform(0, 2 * np.pi)
            along = dy * np.sin(heading) + dx * np.cos(heading)
            across = np.abs(dy * np.cos(heading) - dx * np.sin(heading))
            width = max(0.6 / config.pixel_size_um, 0.4) + 0.15 * radius * np.exp(-along / radius)
            length = radius + stub_px
            taper = np.clip((length - along) / max(stub_px, 1e-3), 0, 1) * (along > 0)
            stub = rng.uniform(0.15, 0.45) * taper * np.exp(-((across / width) ** 2))
            body = np.maximum(body, stub)
    body = as_float(np.clip(body, 0, None))
    sharp_peak = float(body.max())
    planted = as_float(body / max(sharp_peak, 1e-6))
    if sigma_px > 0.05:
        body = cv2.GaussianBlur(body, (0, 0), sigma_px, borderType=cv2.BORDER_CONSTANT)
    peak = float(body.max())
    body = body / peak
    if halo_px > 0:
        haze = cv2.GaussianBlur(body, (0, 0), halo_px, borderType=cv2.BORDER_CONSTANT)
        body = body + config.halo * rng.uniform(0.5, 1.5) / float(haze.max()) * haze
        body = body / float(body.max())
    body[body < 0.01] = 0.0
    return Soma(top, left, as_float(body), planted, peak / max(sharp_peak, 1e-6))


def background_image(
    rng: np.random.Generator, *, canvas: Canvas, config: SimulationConfig
) -> tuple[FloatArray, FloatArray]:
    """Draw the static fluorescence of the tissue, about 1, and the shadow of vessels on cells.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    canvas : Canvas
        The tissue.
    config : SimulationConfig
        Texture, vessels and pixel size.

    Returns
    -------
    background : ndarray of float32, shape `canvas.shape`
        Unevenness over 60, 15 and 3 µm, the broad one strongest, and blood vessels.
    shadow : ndarray of float32, shape `canvas.shape`
        Factor on the light of cells under vessels, 1 where there are none.
    """
    image = np.zeros(canvas.shape, np.float32)
    for sigma_um, weight in ((60.0, 1.0), (15.0, 0.35), (3.0, 0.12)):
        sigma_px = sigma_um / config.pixel_size_um
        image += weight * smooth_field(rng, canvas.shape, sigma_px=sigma_px)
    image = as_float(np.clip(1 + config.background_texture * image, 0.2, None))
    shadow = np.ones(canvas.shape, np.float32)
    for _ in range(config.n_vessels):
        vessel = _vessel(rng, canvas=canvas, config=config)
        image *= 1 - vessel
        shadow *= 1 - np.float32(config.vessel_shadow) * vessel
    return image, shadow


def _vessel(rng: np.random.Generator, *, canvas: Canvas, config: SimulationConfig) -> FloatArray:
    """Draw one blood vessel, a winding line that absorbs light, values in [0, 1)."""
    rows, columns = canvas.shape
    n_steps = 60
    step_px = 1.5 * max(rows, columns) / n_steps
    headings = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.12, n_steps))
    points = np.cumsum(np.column_stack([np.cos(headings), np.sin(headings)]), axis=0) * step_px
    middle = np.array([rng.uniform(0.1, 0.9) * columns, rng.uniform(0.1, 0.9) * rows])
    points += middle - points[n_steps // 2]
    width_um = rng.uniform(config.vessel_width_min_um, config.vessel_width_max_um)
    width_px = max(1, round(width_um / config.pixel_size_um))
    line = np.zeros(canvas.shape, np.uint8)
    cv2.polylines(line, [np.rint(points).astype(np.int32)], False, 255, width_px, cv2.LINE_AA)
    sigma_px = rng.uniform(2.0, 5.0) / config.pixel_size_um
    soft = cv2.GaussianBlur(as_float(line), (0, 0), sigma_px)
    return as_float(soft / 255 * rng.uniform(config.vessel_depth_min, config.vessel_depth_max))


def illumination_image(rng: np.random.Generator, *, config: SimulationConfig) -> FloatArray:
    """Draw the light that reaches each pixel: vignetting and dirt, fixed to the microscope.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    config : SimulationConfig
        Vignetting, dirt, frame size.

    Returns
    -------
    ndarray of float32, shape (n_rows, n_columns)
        Factors in (0, 1].
    """
    rows, columns = config.n_rows, config.n_columns
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    centre_y, centre_x = rows * rng.uniform(0.35, 0.65), columns * rng.uniform(0.35, 0.65)
    distance = np.hypot((y - centre_y) / rows, (x - centre_x) / columns)
    image = 1 - config.vignetting * (distance / distance.max()) ** 2
    for _ in range(config.n_dirt):
        spot_y, spot_x = rng.uniform(0, rows), rng.uniform(0, columns)
        size = rng.uniform(1.0, config.dirt_sigma_max_px)
        depth = rng.uniform(0.04, config.dirt_depth_max)
        image *= 1 - depth * np.exp(-((y - spot_y) ** 2 + (x - spot_x) ** 2) / (2 * size**2))
    return as_float(image)
