"""Results of Suite2p, CaImAn and minian become regions; what is damaged is refused in one line."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy import sparse

from cocuyo.core import MissingExtraError, ResultError
from cocuyo.io import load_ground_truth, read_rois

DATA = Path(__file__).parents[2] / "data"
SUITE2P = DATA / "suite2p_1.1"
MINIAN = DATA / "minian_2.0"


# --- Suite2p -------------------------------------------------------------------------------------


def _stat() -> np.ndarray:
    return np.load(SUITE2P / "plane0" / "stat.npy", allow_pickle=True)


@pytest.mark.parametrize("path", [SUITE2P, SUITE2P / "plane0"])
def test_a_folder_of_suite2p_is_read_from_either_level(path: Path):
    regions = load_ground_truth(path)
    stat, iscell = _stat(), np.load(SUITE2P / "plane0" / "iscell.npy")
    assert regions.frame_shape == (64, 80)
    assert regions.frame_rate_hz == 10
    assert regions.n_rois == len(stat) > 10
    assert regions.footprints is not None
    for i, roi in enumerate(stat):
        mask = np.zeros((64, 80), np.bool_)
        mask[roi["ypix"], roi["xpix"]] = True
        np.testing.assert_array_equal(regions.footprints[[i]].toarray().reshape(64, 80) > 0, mask)
    np.testing.assert_array_equal(regions.ignored, iscell[:, 0] == 0)
    assert 0 < regions.ignored.sum() < len(stat)
    own, around = (np.load(SUITE2P / "plane0" / f"{name}.npy") for name in ("F", "Fneu"))
    np.testing.assert_allclose(regions.traces, own - 0.7 * around, rtol=1e-5)


def _copy(folder: Path) -> Path:
    shutil.copytree(SUITE2P / "plane0", folder / "plane0")
    return folder / "plane0"


def test_without_ops_its_parts_are_read(tmp_path: Path):
    plane = _copy(tmp_path)
    (plane / "ops.npy").unlink()
    parts, whole = load_ground_truth(plane), load_ground_truth(SUITE2P)
    assert (parts.frame_shape, parts.frame_rate_hz) == (whole.frame_shape, whole.frame_rate_hz)
    np.testing.assert_array_equal(parts.traces, whole.traces)


def test_what_suite2p_did_not_write_is_not_needed(tmp_path: Path):
    plane = _copy(tmp_path)
    for name in ("F", "iscell"):
        (plane / f"{name}.npy").unlink()
    regions = load_ground_truth(plane)
    assert regions.traces is None
    assert not regions.ignored.any()
    (plane / "ops.npy").unlink()
    (plane / "settings.npy").unlink()
    assert load_ground_truth(plane).frame_rate_hz is None


def test_the_neuropil_share_is_the_files(tmp_path: Path):
    plane = _copy(tmp_path)
    own, around = (np.load(plane / f"{name}.npy") for name in ("F", "Fneu"))
    for told, share in (({"neucoeff": 0.5}, 0.5), ({}, 0.7)):
        ops = np.array({"Ly": 64, "Lx": 80, **told}, object)
        np.save(plane / "ops.npy", ops, allow_pickle=True)
        regions = load_ground_truth(plane)
        np.testing.assert_allclose(regions.traces, own - share * around, rtol=1e-5)


def test_rois_of_suite2p_can_be_extracted(tmp_path: Path):
    rois = read_rois(SUITE2P, frame_shape=(64, 80))
    iscell = np.load(SUITE2P / "plane0" / "iscell.npy")
    np.testing.assert_array_equal(rois.accepted, iscell[:, 0] == 1)
    assert rois.reasons[int(np.argmin(rois.accepted))] == "was rejected there"
    with pytest.raises(ResultError, match="64 x 80"):
        read_rois(SUITE2P, frame_shape=(80, 64))


def test_several_planes_need_a_choice(tmp_path: Path):
    for name in ("plane0", "plane1"):
        shutil.copytree(SUITE2P / "plane0", tmp_path / "suite2p" / name)
    with pytest.raises(ResultError, match=r"several planes .*plane0, plane1"):
        load_ground_truth(tmp_path)
    assert load_ground_truth(tmp_path / "suite2p" / "plane1").n_rois == len(_stat())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("stat", np.array([{"ypix": [1]}], object), "no plane of Suite2p"),
        ("stat", np.array([3, 4], object), "no plane of Suite2p"),
        (
            "stat",
            np.array([{"ypix": np.array([99]), "xpix": np.array([0]), "lam": np.ones(1)}], object),
            "leaves the frame of 64 x 80",
        ),
        (
            "stat",
            np.array(
                [{"ypix": np.array([9]), "xpix": np.array([0, 1]), "lam": np.ones(1)}], object
            ),
            "of one length",
        ),
        ("ops", np.array({"Ly": 64}, object), "no plane of Suite2p"),
        ("iscell", np.ones((2, 2)), "has 2 rows for the"),
        ("F", np.array([{"a": 1}], object), "holds no table of numbers"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, name: str, content: np.ndarray, said: str
):
    plane = _copy(tmp_path)
    np.save(plane / f"{name}.npy", content, allow_pickle=True)
    with pytest.raises(ResultError, match=said) as caught:
        load_ground_truth(plane)
    assert "\n" not in str(caught.value)


class _Runs:
    def __reduce__(self) -> tuple[object, ...]:
        import os

        return os.system, ("exit 3",)


def test_a_hostile_stat_is_refused(tmp_path: Path):
    plane = _copy(tmp_path)
    np.save(plane / "stat.npy", np.array([{"ypix": _Runs()}], object), allow_pickle=True)
    with pytest.raises(ResultError, match=r"it names (posix|nt)\.system"):
        load_ground_truth(plane)


def test_a_cut_file_is_refused(tmp_path: Path):
    plane = _copy(tmp_path)
    content = (plane / "stat.npy").read_bytes()
    (plane / "stat.npy").write_bytes(content[: len(content) // 2])
    with pytest.raises(ResultError, match=r"stat.npy is not read: .*damaged"):
        load_ground_truth(plane)


# --- CaImAn --------------------------------------------------------------------------------------

SHAPE = (12, 17)


def _components() -> np.ndarray:
    """Three footprints (Y, X); the last is empty."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    blobs = [3 * np.exp(-((y - a) ** 2 + (x - b) ** 2) / 8) for a, b in ((4, 5), (8, 12))]
    return np.stack([*blobs, np.zeros(SHAPE)])


def _caiman(path: Path, **given: object) -> Path:
    """A file as ``CNMF.save`` lays it out: sparse A by columns, words for what is None."""
    flat = np.stack([image.ravel(order="F") for image in _components()], axis=1)
    matrix = sparse.csc_array(flat)
    content = {
        "estimates/A/data": matrix.data,
        "estimates/A/indices": matrix.indices,
        "estimates/A/indptr": matrix.indptr,
        "estimates/A/shape": np.array(matrix.shape),
        "estimates/C": np.arange(30.0).reshape(3, 10),
        "estimates/F_dff": "NoneType",
        "estimates/dims": np.array(SHAPE),
        "estimates/idx_components": "NoneType",
        "params/data/fr": 15,
    }
    with h5py.File(path, "w") as file:
        for name, value in (content | given).items():
            if value is not None:
                file[name] = value
    return path


def test_components_of_caiman_are_cut_at_half_of_their_maximum(tmp_path: Path):
    regions = load_ground_truth(_caiman(tmp_path / "a.hdf5"))
    assert regions.footprints is not None
    assert regions.frame_shape == SHAPE
    images = _components()
    for i in range(2):
        mask = regions.footprints[[i]].toarray().reshape(SHAPE)
        np.testing.assert_array_equal(mask > 0, images[i] >= images[i].max() / 2)
        assert mask.max() == 1
    assert regions.footprints[[2]].nnz == 0
    assert regions.frame_rate_hz == 15
    assert not regions.ignored.any()
    np.testing.assert_array_equal(regions.traces, np.arange(30.0).reshape(3, 10))


def test_choices_and_ratios_of_caiman_are_used_where_they_are_there(tmp_path: Path):
    path = _caiman(
        tmp_path / "a.h5",
        **{
            "estimates/idx_components": np.array([1]),
            "estimates/F_dff": np.ones((3, 10)),
            "estimates/dims": None,
            "params/data/dims": np.array(SHAPE),
        },
    )
    regions = load_ground_truth(path)
    assert regions.ignored.tolist() == [True, False, True]
    assert (np.asarray(regions.traces) == 1).all()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"estimates/dims": np.array([3, 3])}, "have 204 pixels in frames of"),
        ({"estimates/dims": None}, "in frames of None"),
        ({"estimates/A/shape": np.array([204])}, "single planes"),
        ({"estimates/idx_components": np.array([7])}, "cannot be read"),
        ({"estimates/A/indptr": np.array([0, 99999, 1, 2])}, "cannot be read"),
    ],
)
def test_what_is_no_caiman_file_is_refused(tmp_path: Path, given: dict[str, object], said: str):
    with pytest.raises(ResultError, match=said):
        load_ground_truth(_caiman(tmp_path / "a.hdf5", **given))


def test_other_hdf5_files_are_refused(tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["movie"] = np.zeros((2, 3, 4))
    with pytest.raises(ResultError, match="holds no estimates/A"):
        load_ground_truth(tmp_path / "a.h5")
    (tmp_path / "b.h5").write_bytes(b"no HDF5")
    with pytest.raises(ResultError, match="cannot be read"):
        load_ground_truth(tmp_path / "b.h5")


# --- minian --------------------------------------------------------------------------------------


def _units() -> tuple[np.ndarray, np.ndarray]:
    """What the files hold: four footprints, the last without any weight, and traces."""
    y, x = np.mgrid[:30, :44]
    centres = zip((8, 15, 22, 0), (10, 30, 20, 0), strict=True)
    images = np.stack([np.exp(-((y - a) ** 2 + (x - b) ** 2) / 18.0) for a, b in centres])
    images[images < 0.05] = 0
    images *= np.array([2.0, 1.0, 0.5, 0.0])[:, None, None]
    return images, np.random.default_rng(5).random((4, 60))


@pytest.mark.parametrize("name", ["minian", "minian.nc"])
def test_units_of_minian_are_cut_at_half_of_their_maximum(name: str):
    regions = load_ground_truth(MINIAN / name)
    images, traces = _units()
    assert regions.frame_shape == (30, 44)
    assert regions.footprints is not None
    for i in range(3):
        mask = regions.footprints[[i]].toarray().reshape(30, 44)
        np.testing.assert_array_equal(mask > 0, images[i] >= images[i].max() / 2)
        assert mask.max() == pytest.approx(1)
    assert regions.ignored.tolist() == [False, False, False, True]
    np.testing.assert_allclose(regions.traces, traces, rtol=1e-6)
    assert regions.frame_rate_hz is None


def test_zarr_3_is_read_as_well(tmp_path: Path):
    import zarr

    images, _ = _units()
    group = zarr.open_group(tmp_path / "A.zarr", mode="w", zarr_format=3)
    turned = np.transpose(images, (1, 2, 0))
    names = ["height", "width", "unit_id"]
    array = group.create_array("A", shape=turned.shape, dtype="f8", dimension_names=names)
    array[...] = turned
    regions = load_ground_truth(tmp_path)
    assert regions.frame_shape == (30, 44)
    assert regions.n_rois == 4
    assert regions.traces is None


def test_minian_without_zarr_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(MissingExtraError, match=r"cocuyo\[formats\]"):
        load_ground_truth(MINIAN / "minian")


def test_what_is_no_minian_file_is_refused(tmp_path: Path):
    (tmp_path / "a.nc").write_bytes(b"no netCDF")
    with pytest.raises(ResultError, match="cannot be read as a result of minian"):
        load_ground_truth(tmp_path / "a.nc")
    with h5py.File(tmp_path / "b.nc", "w") as file:
        file["C"] = np.zeros((2, 3))
    with pytest.raises(ResultError, match=r"has the axes|no footprints"):
        load_ground_truth(tmp_path / "b.nc")
    (tmp_path / "d" / "A.zarr").mkdir(parents=True)
    with pytest.raises(ResultError, match="cannot be read as a result of minian"):
        load_ground_truth(tmp_path / "d")


# --- What is none of these -----------------------------------------------------------------------


def test_a_folder_of_nobody_is_refused(tmp_path: Path):
    with pytest.raises(ResultError, match=r"run.json of cocuyo"):
        load_ground_truth(tmp_path)
    with pytest.raises(ResultError, match="does not exist"):
        load_ground_truth(tmp_path / "absent")
