"""A result in several windows: what each is told, what is kept, and traces of new shapes."""

import json
import threading
from dataclasses import replace

import numpy as np
import pytest

from cocuyo.core import Events, RecordingError, Result, RoiSet, Traces
from cocuyo.core.curation import curate
from cocuyo.io import read_edits, reopen_recording
from cocuyo.pipeline import curated_result, retrace_one
from cocuyo.server import App
from cocuyo.server.session import Session

API = "api/results/r1"


def changes(client, since=0):
    return client.get(f"{API}/changes?since={since}").json


def act(client, do, **action):
    answer = client.post(f"{API}/edits", {"do": do, **action})
    assert answer.status == 200, answer.body
    return answer.json


def rois(client):
    return {roi["id"]: roi for roi in changes(client)["rois"]}


def trace(client, name):
    """The trace of an ROI, when it has been read."""
    for _ in range(200):
        head, arrays = client.get(f"{API}/trace/{name}").arrays
        if not head["pending"]:
            return head, arrays
        threading.Event().wait(0.02)
    return pytest.fail(f"{name} stays pending")


@pytest.fixture
def result(folder):
    return Result.load(folder)


def test_a_window_is_told_everything_once_and_then_what_changed(client, result):
    first = changes(client)
    assert [roi["id"] for roi in first["rois"]] == list(result.rois.ids)
    assert changes(client, first["version"]) == {"version": first["version"]}
    name = result.rois.ids[0]
    act(client, "reject", rois=[name])
    later = changes(client, first["version"])
    assert [roi["id"] for roi in later["rois"]] == [name]
    assert later["rois"][0]["accepted"] is False
    assert later["rois"][0]["reason"] == "rejected by a person"
    assert later["history"]["undo"] == f"reject {name}"


def test_figures_and_outlines_are_those_of_the_result(client, result):
    for i, (name, roi) in enumerate(rois(client).items()):
        assert name == result.rois.ids[i]
        figures = roi["figures"]
        assert figures["area"] == result.rois.area_px[i]
        assert figures["snr"] == pytest.approx(result.rois.snr[i], rel=1e-4)
        assert figures["events"] == (result.events.roi == i).sum()
        assert figures["peak"] == pytest.approx(result.traces.delta_f_over_f[i].max(), rel=1e-3)
        assert (roi["y"], roi["x"]) == pytest.approx(tuple(result.rois.centroids[i]), rel=1e-3)
        assert enclosed_area(roi["rings"]) == result.rois.area_px[i]


def enclosed_area(rings):
    total = 0
    for ring in rings:
        x, y = np.array(ring[::2]), np.array(ring[1::2])
        total += (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2
    return abs(total)


def test_a_trace_is_that_of_the_result_to_the_last_digit(client, result):
    for i, name in enumerate(result.rois.ids):
        head, arrays = trace(client, name)
        np.testing.assert_array_equal(arrays["dff"], result.traces.delta_f_over_f[i])
        np.testing.assert_array_equal(arrays["dog"], result.traces.dog[i])
        assert head["threshold"] == result.traces.threshold[i]
        onsets = result.events.onset[result.events.roi == i]
        np.testing.assert_array_equal(arrays["events"][0], onsets)


def test_what_a_window_does_the_other_is_told(client, result):
    first = changes(client)["version"]
    act(client, "reject", rois=[result.rois.ids[0]], session="one")
    act(client, "reject", rois=[result.rois.ids[1]], session="two")
    told = changes(client, first)
    assert {roi["id"] for roi in told["rois"]} == set(result.rois.ids[:2])


def test_two_programs_that_serve_one_result_lose_no_edit(client, serve, folder, result):
    other = serve(App(folder, result=folder))
    names = result.rois.ids

    def reject_and_accept(one, name):
        for i in range(10):
            act(one, "reject" if i % 2 == 0 else "accept", rois=[name])

    threads = [
        threading.Thread(target=reject_and_accept, args=(one, name))
        for one, name in ((client, names[0]), (other, names[1]), (client, names[2]))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_edits(folder)) == 30
    state = {name: rois(one)[name]["accepted"] for one in (client, other) for name in names[:3]}
    assert state == dict.fromkeys(names[:3], True)
    assert changes(client)["history"]["n_edits"] == changes(other)["history"]["n_edits"] == 30


def test_an_action_that_is_sent_again_is_done_once(client, folder, result):
    name = result.rois.ids[0]
    first = act(client, "reject", rois=[name], id="abcdefgh12345678")
    again = act(client, "reject", rois=[name], id="abcdefgh12345678")
    assert first["edit"] == again["edit"] == "abcdefgh12345678"
    assert len(read_edits(folder)) == 1


def test_undo_and_redo_go_all_the_way_back_and_forth(client, folder, result):
    before = rois(client)
    name, other = result.rois.ids[:2]
    act(client, "reject", rois=[name])
    act(client, "merge", rois=[name, other])
    act(client, "threshold", roi=result.rois.ids[2], threshold_sd=2.5)
    act(client, "min_score", score=1.0)
    after = rois(client)
    assert after != before
    for _ in range(4):
        act(client, "undo")
    assert rois(client) == before
    assert client.post(f"{API}/edits", {"do": "undo"}).status == 422
    for _ in range(4):
        act(client, "redo")
    now = rois(client)
    assert now.keys() == after.keys()
    assert [roi["accepted"] for roi in now.values()] == [r["accepted"] for r in after.values()]
    assert len(read_edits(folder)) == 12


def test_a_merged_roi_takes_the_place_of_its_parts(client, result):
    one, other = result.rois.ids[:2]
    made = act(client, "merge", rois=[one, other])["made"][0]
    now = rois(client)
    assert one not in now
    assert other not in now
    assert now[made]["parents"] == [one, other]
    assert now[made]["figures"]["area"] == result.rois.area_px[:2].sum()
    assert client.get(f"{API}/trace/{one}").status == 422


def test_the_trace_of_a_new_shape_is_read_from_the_recording(client, folder, result):
    made = act(
        client, "draw", area={"kind": "polygon", "points": [[20, 20], [20, 28], [28, 28], [28, 20]]}
    )["made"][0]
    head, arrays = trace(client, made)
    recording = reopen_recording(result, folder)
    state = curate(result.rois, read_edits(folder), valid=result.valid)
    row = state.rois.ids.index(made)
    rows, columns, _ = state.rois.pixels(row)
    index = rows * result.rois.frame_shape[1] + columns
    expected = retrace_one(recording, result, index)
    np.testing.assert_array_equal(arrays["dff"], expected.traces.delta_f_over_f[0])
    assert rois(client)[made]["figures"]["events"] == len(expected.events)
    assert rois(client)[made]["shape"] == "new"
    assert head["judged"] is True


def test_what_the_page_shows_is_what_an_export_writes(client, folder, result):
    name = result.rois.ids[0]
    y, x = (float(v) for v in result.rois.centroids[0])
    stroke = {"kind": "stroke", "points": [[y, x + 3], [y, x + 6]], "radius_px": 1.5}
    act(client, "add", roi=name, area=stroke)
    shown = trace(client, name)[1]["dff"]
    exported = curated_result(
        result, read_edits(folder), recording=reopen_recording(result, folder)
    )
    row = exported.rois.ids.index(name)
    np.testing.assert_allclose(exported.traces.delta_f_over_f[row], shown, atol=1e-5)


def test_a_moved_threshold_moves_the_events_and_their_number(client, result):
    name = result.rois.ids[0]
    dog = trace(client, name)[1]["dog"]
    limit = float(np.sort(dog)[-1]) - 0.1
    act(client, "threshold", roi=name, threshold_sd=limit)
    head, arrays = trace(client, name)
    assert head["threshold"] == pytest.approx(limit, rel=1e-6)
    assert head["judged"] is False
    assert arrays["events"].shape[1] == 1
    assert rois(client)[name]["figures"]["events"] == 1
    act(client, "threshold", roi=name, threshold_sd=None)
    assert trace(client, name)[0]["judged"] is True


def test_the_slider_accepts_from_a_score_on_and_leaves_what_a_person_judged(client, result):
    name = result.rois.ids[int(np.argmax(result.rois.score))]
    act(client, "reject", rois=[name])
    act(client, "min_score", score=0.0)
    now = rois(client)
    assert now[name]["accepted"] is False
    act(client, "min_score", score=1.0)
    assert not any(roi["accepted"] for roi in rois(client).values() if roi["figures"]["score"] < 1)


def test_without_its_recording_a_result_is_shown_and_judged(folder, serve, result):
    def lost(_):
        msg = "The recording slice.tif is not found."
        raise RecordingError(msg)

    client = serve(App(folder, result=folder, recording=lost))
    facts = client.get(f"{API}/facts").json
    assert facts["movie"] is None
    assert "slice.tif" in facts["no_movie"]
    assert {image["name"] for image in facts["images"]} >= {"mean", "max", "probability"}
    assert client.get(f"{API}/frames/raw?start=0").status == 409
    assert client.get(f"{API}/image/std").status == 409
    act(client, "reject", rois=[result.rois.ids[0]])
    made = act(
        client, "draw", area={"kind": "polygon", "points": [[20, 20], [20, 28], [28, 28], [28, 20]]}
    )["made"][0]
    head, arrays = trace(client, made)
    assert not arrays
    assert "slice.tif" in head["reason"]
    assert rois(client)[made]["pending"] is False


def test_nothing_but_edits_and_kept_traces_is_written(folder, client, result):
    def files():
        return {
            path.relative_to(folder): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and not path.name.startswith("edits") and "edits." not in str(path)
        }

    before = files()
    act(client, "merge", rois=list(result.rois.ids[:2]))
    act(client, "split", roi=next(iter(rois(client))))
    after = {path: data for path, data in files().items() if path.name != ".edits.lock"}
    assert after == before
    lines = (folder / "edits.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["merge", "split"]


def test_a_result_without_rois_can_be_drawn_on(serve, result, folder):
    n = result.n_frames
    nothing = replace(
        result,
        rois=RoiSet.empty(result.rois.frame_shape),
        traces=Traces.empty(n),
        raster=np.zeros((0, n), np.bool_),
        events=Events.empty(),
    )
    empty = nothing.save(folder.parent / "empty.cocuyo")
    client = serve(App(empty, result=empty))
    assert changes(client)["rois"] == []
    area = {"kind": "stroke", "points": [[14, 14]], "radius_px": 4}
    made = act(client, "draw", area=area)["made"][0]
    assert made == "roi_0001"
    assert len(trace(client, made)[1]["dff"]) == n


def test_a_session_reads_traces_row_by_row(folder):
    session = Session(folder, lambda result: reopen_recording(result, folder))
    assert not isinstance(session.result.traces.dog, np.ndarray)
    assert not isinstance(session.result.raster, np.ndarray)


def test_a_result_of_another_version_is_shown_and_judged_but_no_events_are_found(
    folder, serve, result
):
    from cocuyo.core.curation import EventThreshold
    from cocuyo.io import EditLog

    record = json.loads((folder / "run.json").read_text("utf-8"))
    record["settings"] = {"stage_of_another_version": 1}
    (folder / "run.json").write_text(json.dumps(record), "utf-8")
    one, other = result.rois.ids[:2]
    EditLog(folder).append(EventThreshold(roi=other, threshold_sd=2.0))
    client = serve(App(folder, result=folder))
    act(client, "reject", rois=[one])
    answer = client.post(f"{API}/edits", {"do": "threshold", "roi": one, "threshold_sd": 2})
    assert answer.status == 422
    assert "another version" in answer.json["error"]
    head, arrays = trace(client, other)
    assert not arrays
    assert "another version" in head["reason"]
    assert len(read_edits(folder)) == 2
