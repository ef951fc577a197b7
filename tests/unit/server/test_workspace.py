"""The start page sees its folder and nothing beside it; runs are started, followed, stopped."""

import shutil
import time

import numpy as np
import pytest
import tifffile

from cocuyo.io import is_result, load_result
from cocuyo.server import App


@pytest.fixture
def root(made, tmp_path):
    """A folder with a recording, a result, and something outside of it."""
    folder = tmp_path / "data"
    shutil.copytree(made, folder)
    (folder / "below").mkdir()
    (folder / "notes.txt").write_text("no recording")
    (folder / ".hidden.tif").write_bytes(b"II*\0")
    shutil.copy(folder / "slice.tif", tmp_path / "outside.tif")
    return folder


@pytest.fixture
def client(root, serve):
    return serve(App(root))


def listed(client, path=""):
    answer = client.get(f"api/browse?path={path}")
    assert answer.status == 200
    return {entry["name"]: entry["kind"] for entry in answer.json["entries"]}


def test_recordings_results_and_folders_are_listed(client):
    assert listed(client) == {"below": "folder", "slice.cocuyo": "result", "slice.tif": "recording"}
    assert listed(client, "below") == {}


def test_exports_of_a_result_are_not_offered_as_recordings(client, root):
    for name in ("slice.nwb", "slice.mat", "slice_labels.tif", "other.nwb"):
        (root / name).write_bytes(b"x")
    (root / "slice.suite2p").mkdir()
    assert listed(client) == {
        "below": "folder",
        "other.nwb": "recording",  # of no result that lies beside it
        "slice.cocuyo": "result",
        "slice.tif": "recording",
    }


@pytest.mark.parametrize(
    "path", ["..", "../outside.tif", "/etc", "below/../..", "~", "C:\\", "..\\x", "below/../../x"]
)
def test_nothing_outside_is_read(client, path):
    for answer in (
        client.get(f"api/browse?path={path}"),
        client.post("api/inspect", {"path": path}),
        client.post("api/run", {"path": path, "frame_rate_hz": 8}),
        client.post("api/open", {"path": path}),
    ):
        assert answer.status in (403, 404)
        assert "etc" not in answer.json["error"].replace(path, "")


def test_the_folder_itself_is_no_recording_as_its_result_would_lie_outside(client, root):
    for path in ("", ".", "below/.."):
        assert client.post("api/inspect", {"path": path}).status == 403
        assert client.post("api/run", {"path": path, "frame_rate_hz": 8}).status == 403
    assert [each.name for each in root.parent.iterdir() if "cocuyo" in each.name] == []


def test_a_link_that_leads_out_is_not_followed(client, root, tmp_path):
    try:
        (root / "way_out.tif").symlink_to(tmp_path / "outside.tif")
        (root / "up").symlink_to(tmp_path, target_is_directory=True)
        (root / "way_in.tif").symlink_to(root / "slice.tif")
    except OSError:
        pytest.skip("this system makes no links")
    assert set(listed(client)) == {"below", "slice.cocuyo", "slice.tif", "way_in.tif"}
    assert client.post("api/inspect", {"path": "way_out.tif"}).status == 403
    assert client.get("api/browse?path=up").status == 403
    assert client.post("api/inspect", {"path": "way_in.tif"}).status == 200


def test_inspection_says_what_is_there_and_what_is_missing(client):
    found = client.post("api/inspect", {"path": "slice.tif"}).json
    assert found["facts"]["n_frames"] == 160
    assert found["facts"]["frame_rate_hz"] is None
    assert found["exists"] is True
    known = client.post("api/inspect", {"path": "slice.tif", "frame_rate_hz": 8}).json
    assert known["facts"]["frame_rate_hz"] == 8
    assert client.post("api/inspect", {"path": "slice.tif", "plane": 3}).status == 422


@pytest.mark.parametrize(
    "wrong",
    [
        {"frame_rate_hz": "8"},
        {"frame_rate_hz": -1},
        {"frame_rate_hz": 10**400},
        {"pixel_size_um": float("inf")},
        {"plane": 1.5},
        {"plane": True},
        {"dataset": 3},
        {"preset": "other"},
        {"path": 5},
    ],
)
def test_values_that_make_no_sense_are_refused_before_a_run(client, wrong):
    answer = client.post("api/run", {"path": "slice.tif", "frame_rate_hz": 8, **wrong})
    assert answer.status == 400
    assert answer.json["error"]


def wait(client, job):
    for _ in range(600):
        now = client.get(f"api/runs/{job['key']}").json
        if now["state"] != "running":
            return now
        time.sleep(0.02)
    return pytest.fail("the run does not end")


def test_a_run_ends_in_a_result_that_can_be_opened(client, root):
    content = {"path": "slice.tif", "frame_rate_hz": 8, "preset": "srname"}
    refused = client.post("api/run", content)
    assert refused.status == 422
    assert "exists" in refused.json["error"] or "already" in refused.json["error"]
    started = client.post("api/run", {**content, "overwrite": True}).json
    assert wait(client, started)["state"] == "done"
    done = client.get(f"api/runs/{started['key']}").json
    assert done["result"] == "slice.cocuyo"
    assert "functional neuron" in done["message"]
    warnings = list(load_result(root / "slice.cocuyo").info.warnings)
    assert done["warnings"] == warnings
    assert any("pixel size is not known" in text for text in warnings)
    assert is_result(root / "slice.cocuyo")
    key = client.post("api/open", {"path": done["result"]}).json["result"]
    facts = client.get(f"api/results/{key}/facts").json
    assert facts["movie"] is not None
    assert client.post("api/open", {"path": done["result"]}).json["result"] == key


def test_a_run_without_a_rate_says_what_is_missing(client):
    answer = client.post("api/run", {"path": "slice.tif", "overwrite": True})
    assert answer.status == 422
    assert "frame rate" in answer.json["error"]


def test_a_run_can_be_stopped_and_leaves_nothing(client, root):
    frames = np.random.default_rng(0).integers(900, 1100, (4000, 64, 64)).astype(np.uint16)
    tifffile.imwrite(root / "below" / "long.tif", frames)
    content = {"path": "below/long.tif", "frame_rate_hz": 8, "preset": "srname"}
    started = client.post("api/run", content).json
    assert client.post("api/run", content).status == 409
    assert client.get("api/start").json["jobs"][0]["key"] == started["key"]
    client.post(f"api/runs/{started['key']}/stop", {})
    assert wait(client, started)["state"] == "stopped"
    assert [path.name for path in (root / "below").iterdir()] == ["long.tif"]


def test_a_run_that_fails_says_why(client, root):
    (root / "cut.tif").write_bytes((root / "slice.tif").read_bytes()[:200_000])
    answer = client.post("api/inspect", {"path": "cut.tif", "frame_rate_hz": 8})
    assert answer.status == 422
    assert "damaged or cut" in answer.json["error"]


def test_only_results_can_be_opened(client):
    assert client.post("api/open", {"path": "below"}).status == 422
    assert client.post("api/open", {"path": "slice.tif"}).status == 422
    assert client.get("api/results/r1/facts").status == 404
