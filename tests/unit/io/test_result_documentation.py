"""The documentation of the result folder tells the truth."""

import re
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from synthetic_result import make_experiment

from cocuyo.core import Quality
from cocuyo.io import save_result

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "result-folder.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    result = make_experiment()
    quality = Quality.unknown(len(result.rois))
    result = replace(result, rois=replace(result.rois, quality=quality))
    return save_result(result, tmp_path_factory.mktemp("doc") / "slice.cocuyo")


def rows():
    text = PAGE.read_text("utf-8")
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and cells[0].startswith("`/"):
            for path in re.findall(r"`(/[^`]+)`", cells[0]):
                yield path, cells[1], cells[2]


def test_every_data_set_is_documented_with_its_type_and_shape(folder):
    result = make_experiment()
    sizes = {
        "n": 6,
        "T": 120,
        "Y": 40,
        "X": 56,
        "2": 2,
        "p": result.rois.footprints.nnz,
        "e": len(result.events),
        "r": len(result.parts),
        "k": len(result.motion.deformation.frames),
        "a": len(result.motion.deformation.y_px),
        "b": len(result.motion.deformation.x_px),
    }
    documented = {path: (kind, shape) for path, kind, shape in rows()}
    projections = documented.pop("/images/projections/*")
    for name in result.projections:
        documented[f"/images/projections/{name}"] = projections
    found = {}
    with h5py.File(folder / "result.h5") as file:
        file.visititems(
            lambda name, item: (
                found.update({"/" + name: (item.dtype, item.shape)})
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    assert found.keys() == documented.keys()
    for path, (kind, shape) in documented.items():
        dtype, actual = found[path]
        assert actual == tuple(sizes[axis] for axis in shape.strip("()").split(", ")), path
        assert dtype == ("O" if kind == "UTF-8 text" else kind), path


def test_the_python_example_runs(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    example = re.search(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S).group(1)
    names = {}
    exec(example, names)
    result = make_experiment()
    assert names["traces"].shape == (5, 120)
    y, x, weights = result.rois.pixels(0)
    np.testing.assert_array_equal(names["first"][y, x], weights.astype(np.float64))
    assert np.count_nonzero(names["first"]) == len(y)


def test_every_file_is_documented(folder):
    text = PAGE.read_text("utf-8")
    for path in folder.iterdir():
        assert f"| `{path.name}` |" in text
