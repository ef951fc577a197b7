"""Real recordings open with the shapes they are known to have."""

import os
from pathlib import Path

import numpy as np
import pytest

from cocuyo.io import open_recording

FOLDER = os.environ.get("COCUYO_REAL_DATA")
pytestmark = pytest.mark.skipif(
    not FOLDER, reason="COCUYO_REAL_DATA does not name the folder of real recordings."
)


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "rate_hz"),
    [
        ("culture_neurons_1p/stack400_100x120.tif", (494, 100, 120), "uint8", None),
        ("lin_miniscope_dg13/dg13_7-12-17.avi", (605, 202, 201), "uint8", 5.0),
        ("lin_miniscope_dg13/dg13_8-11-17.avi", (643, 200, 194), "uint8", 5.0),
        ("minian_demo_1p/raw.tif", (500, 240, 376), "uint8", None),
        ("optinist_mouse_2p/sample_mouse2p_first1000.tif", (1000, 128, 128), "uint16", None),
    ],
)
def test_a_real_recording_opens_whole(name, shape, dtype, rate_hz):
    recording = open_recording(Path(str(FOLDER)) / name)
    assert recording.movie.shape == shape
    assert recording.movie.dtype == np.dtype(dtype)
    assert recording.frame_rate_hz == rate_hz
    assert recording.movie.read(shape[0] - 3, shape[0]).std() > 0
