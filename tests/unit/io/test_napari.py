"""A result folder as layers of napari, without napari."""

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
import tifffile
from synthetic_result import make_result

from cocuyo.core import ResultError
from cocuyo.core.curation import Accept, Draw, EventThreshold, Pixels, Reject
from cocuyo.io import EditLog
from cocuyo.io.napari import get_reader, read_layers


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    result = make_result(n_rois=9, name="slice 1")
    return result.save(tmp_path_factory.mktemp("napari") / "slice.cocuyo"), result


def layers_of(folder):
    return {properties["name"]: (data, properties, kind) for data, properties, kind in folder}


def test_layers_have_names_kinds_and_scale(folder):
    path, result = folder
    layers = layers_of(get_reader(str(path))(str(path)))
    assert {name: kind for name, (_, _, kind) in layers.items()} == {
        "mean projection": "image",
        "maximum projection": "image",
        "probability": "image",
        "rejected ROIs": "labels",
        "accepted ROIs": "labels",
    }
    for data, properties, _ in layers.values():
        assert data.shape == result.rois.frame_shape
        assert properties["scale"] == (1.5, 1.5)
        assert properties["units"] == ("um", "um")
    shown = [name for name, (_, p, _) in layers.items() if p["visible"]]
    assert shown == ["mean projection", "accepted ROIs"]
    np.testing.assert_array_equal(layers["mean projection"][0], result.projections["mean"])


def test_accepted_labels_are_those_of_the_folder(folder):
    path, _ = folder
    labels, _, _ = layers_of(read_layers(str(path)))["accepted ROIs"]
    np.testing.assert_array_equal(labels, tifffile.imread(path / "labels.tif"))


@pytest.mark.parametrize(("name", "accepted"), [("accepted ROIs", True), ("rejected ROIs", False)])
def test_the_table_has_a_row_for_each_label(name, accepted, folder):
    path, result = folder
    labels, properties, _ = layers_of(read_layers(str(path)))[name]
    table = properties["features"]
    rois = np.flatnonzero(result.rois.accepted == accepted)
    assert {len(column) for column in table.values()} == {len(rois) + 1}
    assert table["index"].tolist() == list(range(len(rois) + 1))
    assert table["id"][1:].tolist() == [result.rois.ids[roi] for roi in rois]
    np.testing.assert_array_equal(table["score"][1:], result.rois.score[rois])
    np.testing.assert_array_equal(
        table["n_events"][1:], result.events.count(len(result.rois))[rois]
    )
    assert ("reason" in table) != accepted
    for label, roi in enumerate(rois, start=1):
        mine = labels == label
        footprint = result.rois.footprints[[roi]].toarray().reshape(labels.shape) > 0
        assert mine.any()
        assert not (mine & ~footprint).any()


def test_what_a_person_decided_is_shown(tmp_path):
    result = make_result(n_rois=9)
    path = result.save(tmp_path / "slice.cocuyo")
    ids = result.rois.ids
    drawn = Pixels(y=(1, 1, 2), x=(5, 6, 5))
    log = EditLog(path)
    log.append(Reject(rois=ids[:1], reason="a vessel"))
    log.append(Accept(rois=ids[4:5]))
    log.append(EventThreshold(roi=ids[1], threshold_sd=9))
    log.append(Draw(roi="roi_0010", shape=drawn))
    layers = layers_of(read_layers(str(path)))
    labels, properties, _ = layers["accepted ROIs"]
    table = properties["features"]
    assert table["id"][1:].tolist() == [ids[1], ids[2], ids[3], *ids[4:9], "roi_0010"]
    assert (labels == len(table["id"]) - 1)[[1, 1, 2], [5, 6, 5]].all()
    events = dict(zip(table["id"].tolist(), table["n_events"].tolist(), strict=True))
    assert events[ids[2]] == result.events.count(9)[2]
    assert np.isnan(events[ids[1]])
    assert np.isnan(events["roi_0010"])
    rejected = layers["rejected ROIs"][1]["features"]
    assert rejected["id"][1:].tolist() == [ids[0]]
    assert rejected["reason"][1] == "a vessel"


def test_without_a_pixel_size_there_is_no_scale(tmp_path):
    path = make_result(pixel_size_um=None).save(tmp_path / "r")
    assert all("scale" not in properties for _, properties, _ in read_layers(str(path)))


def test_a_result_without_rois_has_empty_layers(tmp_path):
    path = make_result(n_rois=0).save(tmp_path / "r")
    for name in ("accepted ROIs", "rejected ROIs"):
        labels, properties, _ = layers_of(read_layers(str(path)))[name]
        assert not labels.any()
        assert len(properties["features"]["id"]) == 1


def test_a_neuron_drawn_in_an_empty_result_is_shown(tmp_path):
    path = make_result(n_rois=0).save(tmp_path / "slice.cocuyo")
    EditLog(path).append(Draw(roi="roi_0001", shape=Pixels(y=(3, 4), x=(5, 5))))
    labels, _, _ = layers_of(read_layers(str(path)))["accepted ROIs"]
    assert labels.sum() == 2


def test_several_folders_are_told_apart(folder, tmp_path):
    path, _ = folder
    other = make_result(name="slice 2").save(tmp_path / "other")
    names = [p["name"] for _, p, _ in get_reader([str(path), str(other)])([str(path), str(other)])]
    assert len(names) == 10
    assert "slice 1: accepted ROIs" in names
    assert "slice 2: accepted ROIs" in names


def test_other_folders_are_left_to_other_readers(tmp_path):
    assert get_reader(str(tmp_path)) is None
    assert get_reader(str(tmp_path / "absent.tif")) is None
    with pytest.raises(ResultError, match="not a result folder"):
        read_layers(str(tmp_path))


def test_a_damaged_result_is_one_clear_error(tmp_path):
    path = make_result().save(tmp_path / "r")
    (path / "result.h5").write_bytes((path / "result.h5").read_bytes()[:3000])
    with pytest.raises(ResultError, match="damaged or incomplete"):
        read_layers(str(path))


def test_reading_imports_neither_napari_nor_qt(folder):
    path, _ = folder
    code = (
        "import sys, json; from cocuyo.io.napari import get_reader; p = sys.argv[1];"
        "n = len(get_reader(p)(p));"
        "print(json.dumps([n, sorted(m for m in sys.modules if m.split('.')[0] in"
        " ('napari', 'qtpy', 'PySide6', 'torch', 'npe2'))]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [5, []]


def test_the_manifest_is_valid_and_npe2_reads_a_folder_by_it(folder):
    path, result = folder
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # npe2 uses what pydantic is about to drop
        import npe2

        npe2.PluginManifest.from_distribution("cocuyo").validate_imports()
        manager = npe2.PluginManager.instance()
        manager.discover()  # what is installed, as napari does
        found = list(manager.iter_compatible_readers([str(path)]))
        assert "cocuyo.read_result" in [reader.command for reader in found]
        layers, reader = npe2.io_utils.read_get_reader(
            [str(path)], plugin_name="cocuyo", stack=False
        )
        others = manager.iter_compatible_readers([str(path.parent / "movie.tif")])
        assert "cocuyo.read_result" not in [reader.command for reader in others]
    assert reader.plugin_name == "cocuyo"
    assert [kind for _, _, kind in layers] == ["image", "image", "image", "labels", "labels"]
    np.testing.assert_array_equal(layers[0][0], result.projections["mean"])
