"""What is exactly true of a simulated recording."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import cv2
import numpy as np
from scipy import sparse

from cocuyo.core import (
    AnyArray,
    BoolArray,
    FloatArray,
    LabelArray,
    Periods,
    Recording,
    Regions,
    TimeArray,
)
from cocuyo.simulation.camera import BASELINE_PERCENTILE
from cocuyo.simulation.config import SimulationConfig
from cocuyo.simulation.motion import Deformation

Kind = Literal["functional", "silent", "faint", "defocused"]
KINDS: tuple[Kind, ...] = ("functional", "silent", "faint", "defocused")
"""Legend of `Truth.kinds`: 0 functional, 1 silent, 2 faint, 3 defocused."""
FUNCTIONAL_SNR = 3.0
"""A functional cell has a transient at least this many noise sd of its soma's mean."""
_AVERAGED_PIXELS = 9.0  # the networks' frames are blurred over about 3 x 3 pixels
_LEAST_CONTRAST = 0.03  # fainter cells drown in the unevenness of the tissue, noise or not


@dataclass(frozen=True, eq=False)
class Truth:
    """Cells, activity and motion of a simulated recording.

    Cells in focus come first: active ones, silent ones, then those out of focus.
    Coordinates are those of frame 0. A cell belongs here if a pixel of its mask lies in
    frame 0; one with less than half of its mask inside is `cut`, and finding or missing it
    counts neither way (`ignore_pixels`).

    Attributes
    ----------
    footprints : scipy.sparse.csr_array of float32, shape (n_cells, n_rows * n_columns)
        The blurred image of each cell; 1 where the whole cell is brightest.
    traces : ndarray of float32, shape (n_cells, n_frames)
        Noise-free ΔF/F of the cell's own fluorescence.
    spikes : ndarray of uint16, shape (n_cells, n_frames)
        Number of spikes in each frame.
    raster : ndarray of bool, shape (n_cells, n_frames)
        True from the first spike of an event until its fluorescence is below half its peak.
    events : ndarray of float64, shape (n_events, 3)
        Cell, first spike and last spike in seconds. Spikes with gaps of at most 0.5 s are
        one event.
    in_focus, active, cut : ndarray of bool, shape (n_cells,)
        In focus; fires; lies for the most part outside frame 0.
    snr : ndarray of float32, shape (n_cells,)
        Largest transient over the noise of the soma's mean: shot, read and rounding noise
        of the mean over the mask's pixels in one frame at rest, as the recording begins.
    rest_counts : ndarray of float32, shape (n_cells,)
        Brightness of the cell at rest in frame 0, mean over its mask, in camera counts over
        what is behind it.
    noise_counts : ndarray of float32, shape (n_cells,)
        Noise of a single pixel, mean over the cell's mask, in counts.
    background_counts : ndarray of float32, shape (n_cells,)
        What is behind the cell at rest in frame 0, mean over its mask, in counts.
    shifts : ndarray of float32, shape (n_frames, 2)
        How far the tissue moved since frame 0, (dy, dx) in pixels: each point, or where
        `deformation` moves places unevenly, the frame as a whole (`displacements`).
    light : ndarray of float32, shape (n_frames,)
        Factor of all light in each frame: bleaching, lamp and flashes.
    flashes : ndarray of bool, shape (n_frames,)
        Frames with a flash or the light of a stimulus.
    fps : float
        Frames per second.
    frame_shape : tuple of int
        Rows and columns.
    planted : scipy.sparse.csr_array of float32, shape (n_cells, n_rows * n_columns)
        Each cell as it is, before blur, haze and shadows of vessels; largest value 1.
    centres : ndarray of float32, shape (n_cells, 2)
        Where each cell was planted, (y, x) in pixels of frame 0.
    blur_um : ndarray of float32, shape (n_cells,)
        Sigma of the optical blur.
    depth_um : ndarray of float32, shape (n_cells,)
        Distance from the focal plane, down positive; 0 where no aperture is given.
    deformation : Deformation
        What moved beyond `shifts`, differently from place to place.
    dropped : ndarray of bool, shape (n_frames,)
        Frames that were lost; the file holds the frame before, or one without light.
    bursts_s : ndarray of float64
        Times of the network's bursts, s.
    stimuli_s : ndarray of float64
        Times of the stimuli, s.
    shows_rest : bool
        Whether what is saved shows cells at rest. ΔF/F does not: there a cell is visible by
        its change. Counts and noise in this truth are the camera's, before frames were
        smoothed, turned into ΔF/F or compressed.
    """

    footprints: sparse.csr_array
    traces: FloatArray
    spikes: np.ndarray[tuple[int, ...], np.dtype[np.uint16]]
    raster: BoolArray
    events: TimeArray
    in_focus: BoolArray
    active: BoolArray
    cut: BoolArray
    snr: FloatArray
    rest_counts: FloatArray
    noise_counts: FloatArray
    background_counts: FloatArray
    shifts: FloatArray
    light: FloatArray
    flashes: BoolArray
    fps: float
    frame_shape: tuple[int, int]
    planted: sparse.csr_array
    centres: FloatArray
    blur_um: FloatArray
    depth_um: FloatArray
    deformation: Deformation
    dropped: BoolArray
    bursts_s: TimeArray
    stimuli_s: TimeArray
    shows_rest: bool

    def __len__(self) -> int:
        return len(self.snr)

    @cached_property
    def kinds(self) -> LabelArray:
        """Index into `KINDS` of each cell, shape (n_cells,)."""
        faint = self.snr < FUNCTIONAL_SNR
        kinds = np.where(self.active, np.where(faint, 2, 0), 1)
        return np.where(self.in_focus, kinds, 3).astype(np.int32)

    @cached_property
    def kind(self) -> tuple[Kind, ...]:
        """Kind of each cell in words."""
        return tuple(KINDS[index] for index in self.kinds)

    @cached_property
    def functional(self) -> BoolArray:
        """Whether each cell is in focus and has a visible transient, shape (n_cells,)."""
        return np.asarray(self.kinds == 0)

    @cached_property
    def ignore(self) -> BoolArray:
        """Cells that a method need not find: silent, faint or defocused, (n_cells,)."""
        return np.asarray(~self.functional)

    @cached_property
    def _half(self) -> sparse.csr_array:
        """Masks of the cells as a sparse matrix of ones."""
        half = self.footprints.copy()
        half.data = (half.data >= 0.5).astype(np.float32)
        half.eliminate_zeros()
        return half

    def cell_masks(self) -> sparse.csr_array:
        """Mask of each cell: footprint at least half its maximum.

        Returns
        -------
        scipy.sparse.csr_array of bool, shape (n_cells, n_rows * n_columns)
            In coordinates of frame 0.
        """
        return self._half.astype(np.bool_)

    def union(self, cells: BoolArray) -> BoolArray:
        """Union of the masks of some cells.

        Parameters
        ----------
        cells : ndarray of bool, shape (n_cells,)
            Which ones.

        Returns
        -------
        ndarray of bool, shape (n_rows, n_columns)
            The union, in coordinates of frame 0.
        """
        flat = np.zeros(self.footprints.shape[1], np.bool_)
        flat[self._half[np.flatnonzero(cells)].indices] = True
        return flat.reshape(self.frame_shape)

    def mask(self) -> BoolArray:
        """Union of the masks of the functional cells, shape (n_rows, n_columns).

        Cells cut by the border count with the pixels that lie in the frame.
        """
        return self.union(self.functional)

    @cached_property
    def ignore_pixels(self) -> BoolArray:
        """Pixels of cells `cut` by the border and of no functional cell that is not.

        Finding or missing such a cell counts neither way, shape (n_rows, n_columns).
        """
        return self.union(self.cut & self.in_focus) & ~self.union(self.functional & ~self.cut)

    @cached_property
    def transient_snr(self) -> FloatArray:
        """Rise of each event of a functional cell over the noise of its soma's mean."""
        values = []
        for cell, first_s, last_s in self.events:
            index = int(cell)
            if not self.functional[index]:
                continue
            trace = self.traces[index]
            # 0.5 s: the rise and some frames after the last spike.
            start, stop = int(first_s * self.fps), int((last_s + 0.5) * self.fps) + 2
            rise = trace[start:stop].max() - trace[max(0, start - 1)]
            values.append(self.snr[index] * rise / trace.max())
        return np.asarray(values, np.float32)

    def regions(self, *, name: str = "truth") -> Regions:
        """Give the cells in focus in the form that evaluation scores.

        Parameters
        ----------
        name : str, default: "truth"
            Name for people.

        Returns
        -------
        Regions
            Footprints cut at half maximum, traces, raster, events; silent and faint cells
            ignored.
        """
        n = int(self.in_focus.sum())
        events = self.events[self.events[:, 0] < n]
        return Regions(
            frame_shape=self.frame_shape,
            footprints=sparse.csr_array(self._half[:n].multiply(self.footprints[:n])),
            mask=self.mask(),
            ignore=self.ignore[:n],
            ignore_pixels=self.ignore_pixels,
            traces=self.traces[:n],
            raster=self.raster[:n],
            events=Periods(events[:, 0].astype(np.int32), events[:, 1], events[:, 2]),
            frame_rate_hz=self.fps,
            name=name,
        )

    def planted_masks(self) -> sparse.csr_array:
        """Mask of each cell as it was planted: at least half its maximum, without blur.

        Returns
        -------
        scipy.sparse.csr_array of bool, shape (n_cells, n_rows * n_columns)
            In coordinates of frame 0.
        """
        half = self.planted.copy()
        half.data = half.data >= 0.5
        half.eliminate_zeros()
        return half

    def displacements(self, y: FloatArray, x: FloatArray) -> FloatArray:
        """How far points of the tissue moved since frame 0.

        Parameters
        ----------
        y, x : ndarray of float32, shape (n,)
            Where they are in frame 0.

        Returns
        -------
        ndarray of float32, shape (n, n_frames, 2)
            dy and dx in pixels: `shifts` and what `deformation` adds there.
        """
        y, x = np.asarray(y, np.float32), np.asarray(x, np.float32)
        moved = np.broadcast_to(self.shifts, (len(y), *self.shifts.shape)).copy()
        if not self.deformation.is_still:
            for t in range(len(self.shifts)):
                moved[:, t] += self.deformation.at(t, y, x).T
        return moved

    def visible(self, t: int, *, k: float = 1.5) -> BoolArray:
        """Tell which cells in focus can be seen in one frame.

        Parameters
        ----------
        t : int
            Index of the frame.
        k : float, default: 1.5
            Least brightness over the local background, in units of the noise of a mean over
            3 x 3 pixels (a third of a pixel's noise), which is what preprocessing leaves.

        Returns
        -------
        ndarray of bool, shape (n_cells,)
            Cells in focus, active or silent, whose mean brightness over their mask reaches
            both `k` noise sd and 3 % of the background.
        """
        shown = 1 + self.traces[:, t] if self.shows_rest else np.abs(self._changes[:, t])
        brightness = self.rest_counts * shown * self.light[t]
        # Shot noise grows with the root of the light.
        noise = self.noise_counts * np.sqrt(self.light[t] / self.light[0])
        enough = brightness >= k * noise / np.sqrt(_AVERAGED_PIXELS)
        contrast = brightness >= _LEAST_CONTRAST * self.background_counts * self.light[t]
        return np.asarray(self.in_focus & enough & contrast)

    @cached_property
    def _changes(self) -> FloatArray:
        """Traces against their baseline, which is what a recording of ΔF/F shows."""
        baseline = np.percentile(self.traces, BASELINE_PERCENTILE, axis=1, keepdims=True)
        return np.asarray(self.traces - baseline, np.float32)

    @cached_property
    def visible_at_rest(self) -> BoolArray:
        """Whether each cell in focus can be seen without activity, shape (n_cells,)."""
        enough = self.rest_counts >= 1.5 * self.noise_counts / np.sqrt(_AVERAGED_PIXELS)
        contrast = self.rest_counts >= _LEAST_CONTRAST * self.background_counts
        return np.asarray(self.in_focus & enough & contrast & self.shows_rest)

    def frame_labels(self, t: int, *, k: float = 1.5, moved: bool = False) -> BoolArray:
        """Label one frame: the masks of all cells that can be seen in it, firing or not.

        Parameters
        ----------
        t : int
            Index of the frame.
        k : float, default: 1.5
            As in `visible`.
        moved : bool, default: False
            Draw cells where they are in frame `t`; otherwise in coordinates of frame 0, as
            the network sees motion-corrected frames.

        Returns
        -------
        ndarray of bool, shape (n_rows, n_columns)
            The labels.
        """
        labels = self.union(self.visible(t, k=k))
        if not moved:
            return labels
        if not self.deformation.is_still:
            y, x = self.deformation.sources(t, self.shifts[t])
            bent = cv2.remap(labels.astype(np.float32), x, y, cv2.INTER_LINEAR)
            return np.asarray(bent >= 0.5)
        dy, dx = (float(value) for value in self.shifts[t])
        matrix = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
        size = (self.frame_shape[1], self.frame_shape[0])
        shifted = cv2.warpAffine(labels.astype(np.float32), matrix, size, flags=cv2.INTER_LINEAR)
        return np.asarray(shifted >= 0.5)

    def arrays(self) -> dict[str, AnyArray]:
        """Give the truth as plain arrays, as written to ``truth.npz``.

        Returns
        -------
        dict of ndarray
            For the n cells in focus: ``footprints`` float32 (n, Y, X), ``traces`` (n, T),
            ``raster`` bool (n, T), ``spikes`` uint16 (n, T), ``events`` float64 (m, 3) with
            columns cell, first and last spike in s, ``ignore`` bool (n,), ``kinds`` int32
            (n,) with 0 functional, 1 silent, 2 faint (3, defocused, does not occur),
            ``cut`` bool (n,), ``snr`` float32 (n,), ``visible_at_rest`` bool (n,). For the
            recording: ``mask`` and ``ignore_pixels`` bool (Y, X), ``shifts`` float32 (T, 2),
            ``flashes`` bool (T,), ``fps`` float64, ``n_defocused`` int32 (silent, active).
            Of the cells also ``planted`` bool (n, Y, X), their masks without blur, ``centres``
            float32 (n, 2), ``blur_um`` and ``depth_um`` float32 (n,); where motion is uneven
            ``cell_shifts`` float32 (n, T, 2). Of the recording ``light`` float32 (T,),
            ``dropped`` bool (T,), ``bursts_s`` and ``stimuli_s`` float64. Of the k cells out of
            focus ``defocused_centres``, ``defocused_blur_um``, ``defocused_active`` and
            ``defocused_traces``.
        """
        n = int(self.in_focus.sum())
        defocused = ~self.in_focus
        uneven = {}
        if not self.deformation.is_still:
            uneven["cell_shifts"] = self.displacements(*self.centres[:n].T)
        return uneven | {
            "footprints": self.footprints[:n].toarray().reshape(n, *self.frame_shape),
            "traces": self.traces[:n],
            "raster": self.raster[:n],
            "spikes": self.spikes[:n],
            "events": self.events[self.events[:, 0] < n],
            "ignore": self.ignore[:n],
            "kinds": self.kinds[:n],
            "cut": self.cut[:n],
            "snr": self.snr[:n],
            "visible_at_rest": self.visible_at_rest[:n],
            "mask": self.mask(),
            "ignore_pixels": self.ignore_pixels,
            "shifts": self.shifts,
            "flashes": self.flashes,
            "fps": np.asarray(self.fps, np.float64),
            "n_defocused": np.asarray(
                [np.sum(defocused & ~self.active), np.sum(defocused & self.active)], np.int32
            ),
            "planted": self.planted_masks()[:n].toarray().reshape(n, *self.frame_shape),
            "centres": self.centres[:n],
            "blur_um": self.blur_um[:n],
            "depth_um": self.depth_um[:n],
            "light": self.light,
            "dropped": self.dropped,
            "bursts_s": self.bursts_s,
            "stimuli_s": self.stimuli_s,
            "defocused_centres": self.centres[defocused],
            "defocused_blur_um": self.blur_um[defocused],
            "defocused_active": self.active[defocused],
            "defocused_traces": self.traces[defocused],
        }


@dataclass(frozen=True, eq=False)
class Simulation:
    """A simulated recording with its truth.

    Attributes
    ----------
    frames : ndarray of uint8 or uint16, shape (n_frames, n_rows, n_columns)
        Camera counts; uint8 for 8 bits.
    truth : Truth
        What is exactly true of it.
    config : SimulationConfig
        The settings.
    seed : int
        The seed.
    """

    frames: AnyArray
    truth: Truth
    config: SimulationConfig
    seed: int

    def recording(self, *, name: str = "simulation") -> Recording:
        """Give the movie as a recording with its frame rate and pixel size.

        Parameters
        ----------
        name : str, default: "simulation"
            Name for people.

        Returns
        -------
        Recording
            The frames are not copied.
        """
        return Recording.from_array(
            self.frames,
            frame_rate_hz=self.config.frame_rate_hz,
            pixel_size_um=self.config.pixel_size_um,
            name=name,
        )
