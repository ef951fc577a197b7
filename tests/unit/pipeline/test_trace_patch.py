"""The trace of one shape from a window is the trace from whole frames."""

import numpy as np
import pytest
from flashing_movie import ACTIVE, DIAMETER_PX, disc, make_movie
from scipy import sparse

from cocuyo.core import FLAG_UNPLACED, Motion, Recording, read_rows
from cocuyo.pipeline import PRESETS, extract_traces, trace_patch
from cocuyo.postprocessing import TraceConfig

N = 200


class RowsOnly:
    """A movie that tells which rows were read, and refuses whole frames."""

    def __init__(self, frames):
        self._frames = frames
        self.shape, self.dtype = frames.shape, frames.dtype
        self.rows = set()

    def read(self, start, stop):
        pytest.fail("whole frames were read")

    def read_rows(self, start, stop, top, bottom):
        self.rows.add((top, bottom))
        return self._frames[start:stop, top:bottom]


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("cell", [0, 2, 4])
def test_a_window_gives_what_whole_frames_give(cell, local):
    drift = np.cumsum(np.tile([0.02, -0.03], (N, 1)), axis=0).astype(np.float32)
    drift[50] = (-9.0, 7.5)  # a jump
    movie = make_movie(n_frames=N, shifts=drift)
    flags = np.zeros(N, np.uint8)
    flags[70] = FLAG_UNPLACED
    motion = Motion(drift, np.ones(N, np.float32), flags)
    masks = np.array([disc(centre, DIAMETER_PX / 2) >= 0.5 for centre in ACTIVE])
    index = np.flatnonzero(masks[cell]).astype(np.int32)
    cells = np.delete(masks, cell, axis=0).any(axis=0)
    valid = np.ones(cells.shape, np.bool_)
    valid[:3] = False
    config = PRESETS["default"].model_copy(update={"traces": TraceConfig(local=local)})
    footprint = sparse.csr_array(masks[cell].reshape(1, -1).astype(np.float32))
    whole = extract_traces(
        movie.recording(),
        motion,
        footprint,
        valid=valid & ~cells,
        config=config,
        diameter_px=DIAMETER_PX,
    )
    rows = RowsOnly(movie.frames)
    patch = trace_patch(
        movie.recording() if cell == 2 else Recording(rows, frame_rate_hz=8.0),
        motion,
        index,
        cells=cells | masks[cell],
        valid=valid,
        config=config,
        diameter_px=DIAMETER_PX,
    )
    for name in ("raw", "neuropil", "corrected", "delta_f_over_f", "dog"):
        np.testing.assert_allclose(
            getattr(patch.traces, name), getattr(whole.traces, name), rtol=1e-5, atol=2e-5
        )
    assert len(patch.events) == len(whole.events) > 0
    np.testing.assert_array_equal(patch.raster, whole.raster)
    if cell != 2:
        assert all(bottom - top < cells.shape[0] for top, bottom in rows.rows)


def test_rows_of_a_movie_without_a_shortcut_are_cut_from_its_frames():
    frames = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    movie = Recording.from_array(frames).movie
    np.testing.assert_array_equal(read_rows(movie, 1, 3, 2, 4), frames[1:3, 2:4])
