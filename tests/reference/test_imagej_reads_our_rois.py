"""ImageJ itself reads ROI sets and labels; it is run where ``COCUYO_IMAGEJ`` names its ij.jar."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic_result import make_result

from cocuyo.core import RoiSet
from cocuyo.io import export_result

IMAGEJ = os.environ.get("COCUYO_IMAGEJ")
PROGRAM = Path(__file__).parents[1] / "helpers" / "ReadRois.java"

pytestmark = pytest.mark.skipif(IMAGEJ is None, reason="COCUYO_IMAGEJ names no ij.jar")


def _masks() -> dict[str, np.ndarray]:
    """Plain, with a hole, in two pieces, touching at a corner, one pixel, at the frame's edge."""
    masks = {name: np.zeros((40, 56), np.bool_) for name in ("plain µ", "hole", "two", "corner")}
    masks |= {name: np.zeros((40, 56), np.bool_) for name in ("pixel", "edge")}
    masks["plain µ"][3:9, 4:12] = True
    masks["plain µ"][3, 4] = False
    masks["hole"][12:19, 20:29] = True
    masks["hole"][14:16, 23:26] = False
    masks["two"][25:28, 5:9] = masks["two"][30:33, 11:14] = True
    masks["corner"][22:24, 40:42] = masks["corner"][24:26, 42:44] = True
    masks["pixel"][35, 30] = True
    masks["edge"][36:40, 50:56] = True
    return masks


def test_imagej_fills_every_roi_with_exactly_its_pixels(tmp_path: Path):
    masks = _masks()
    rois = RoiSet.given(np.stack(list(masks.values())), ids=list(masks))
    result = replace(make_result(n_rois=len(rois), n_frames=20), rois=rois)
    roi_set = export_result(result, tmp_path / "rois.zip", to="imagej")
    labels = export_result(result, tmp_path / "labels.tif", to="labels")
    command = ["java", "-Djava.awt.headless=true", "-Dfile.encoding=UTF-8", "-cp", str(IMAGEJ)]
    done = subprocess.run(
        [*command, str(PROGRAM), str(roi_set), str(labels)],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, *lines = done.stdout.splitlines()
    assert first.split()[:5] == ["labels", "56", "40", str(len(masks)), "1.5"]
    assert len(lines) == len(masks)
    for line, (name, mask) in zip(lines, masks.items(), strict=True):
        assert line.startswith(f"roi {name} "), line
        pixels = [pair.split(",") for pair in line.removeprefix(f"roi {name} ").split()]
        found = np.zeros_like(mask)
        for x, y in pixels:
            found[int(y), int(x)] = True
        np.testing.assert_array_equal(found, mask, err_msg=name)
