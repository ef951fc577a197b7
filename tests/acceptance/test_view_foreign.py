"""ROIs of other programs on the curation page: extracted first, and only once."""

import json
import shutil
import threading
from urllib.request import urlopen

import numpy as np
import pytest
import tifffile

from cocuyo.server import Server

KNOWN = ("--frame-rate", "6.67", "--pixel-size", "1.5")


@pytest.fixture
def place(cocuyo, finished, tmp_path):
    """What other programs leave beside a recording; a result is not there."""
    shutil.copy(finished.path.parent / "slice.tif", tmp_path / "slice.tif")
    for to, name in (("suite2p", "suite2p"), ("imagej", "RoiSet.zip")):
        assert cocuyo("export", finished.path, "--to", to, "--out", tmp_path / name).status == 0
    return tmp_path


@pytest.fixture
def view(cocuyo, monkeypatch):
    """View until the page has told of the result and its movie; give what was said, and both."""
    answers = []
    serve_forever = Server.serve_forever

    def look_once(server):
        thread = threading.Thread(target=serve_forever, args=(server, 0.02))
        thread.start()
        try:
            for path in ("facts", "changes?since=0", "frames/corrected?start=3"):
                with urlopen(f"{server.url}api/results/r1/{path}", timeout=60) as answer:
                    answers.append(answer.read())
        finally:
            server.shutdown()
            thread.join()

    monkeypatch.setattr(Server, "serve_forever", look_once)

    def call(*words):
        answers.clear()
        outcome = cocuyo("view", *words, "--no-browser")
        facts, changes = (json.loads(answer) for answer in answers[:2])
        return outcome, facts, changes

    return call


@pytest.mark.parametrize("name", ["suite2p", "RoiSet.zip"])
def test_rois_of_another_program_are_extracted_and_shown(view, look, finished, place, name):
    outcome, facts, changes = view(place / name, "--recording", place / "slice.tif", *KNOWN)
    assert outcome.status == 0
    assert "extracting traces: 100 of 100" in outcome.err
    folder = look(place / "slice.cocuyo")
    folder.expect_whole(100, (80, 96))
    assert (facts["task"], facts["folder"]) == ("extract", str(folder.path))
    assert facts["movie"] is not None
    n = finished.record["n_accepted"]
    assert len(changes["rois"]) == n
    assert folder.record["n_accepted"] == n
    before, after = finished.result.rois.mask(), folder.result.rois.mask()
    assert not after[~before].any()
    assert after.sum() >= 0.95 * before.sum()  # cut to what is in view at all times


def test_what_was_extracted_is_opened_again_and_stays_as_it_is(view, cocuyo, place, state_of):
    words = ("--out", place / "drawn", "--recording", place / "slice.tif")
    rois = place / "RoiSet.zip"
    extracted = cocuyo("extract", place / "slice.tif", "--rois", rois, *words[:2], *KNOWN)
    assert extracted.status == 0
    before = state_of(place / "drawn")
    for more in (KNOWN, ()):
        outcome, facts, _ = view(rois, *words, *more)
        assert (outcome.status, outcome.err) == (0, "")
        assert "it is opened again" in outcome.out
        assert facts["folder"] == str(place / "drawn")
        assert state_of(place / "drawn") == before
    assert not (place / "slice.cocuyo").exists()


def test_another_result_in_the_way_is_not_replaced(refused, cocuyo, place):
    rois, movie = place / "suite2p", place / "slice.tif"
    assert cocuyo("extract", movie, "--rois", rois, *KNOWN).status == 0
    words = ("view", rois, "--no-browser", "--recording", movie)
    for more in (("--frames", "0:50"), ("--frame-rate", "7"), ("--pixel-size", "1")):
        assert "slice.cocuyo exists and was not made of" in refused(*words, *more)
    assert "choose another folder with --out" in refused(*words, "--diameter", "40", *KNOWN)
    other = ("view", place / "RoiSet.zip", *words[2:])
    assert "was not made of" in refused(*other)
    iscell = np.load(rois / "plane0" / "iscell.npy")
    iscell[:, 0] = 1 - iscell[:, 0]
    np.save(rois / "plane0" / "iscell.npy", iscell)
    assert "was not made of" in refused(*words)


@pytest.mark.parametrize("name", ["suite2p", "suite2p/plane0", "RoiSet.zip"])
def test_without_the_recording_it_is_asked_for(refused, place, name):
    line = refused("view", place / name, "--no-browser")
    assert "name the recording in which its ROIs lie: --recording REC" in line


def test_a_missing_frame_rate_can_be_given(refused, place):
    words = ("--recording", place / "slice.tif", "--no-browser")
    assert "--frame-rate" in refused("view", place / "suite2p", *words)


def test_files_without_rois_are_refused(refused, place):
    (place / "notes.txt").write_text("text")
    words = ("--recording", place / "slice.tif", "--no-browser", *KNOWN)
    assert "is of no kind that states cells" in refused("view", place / "notes.txt", *words)
    tifffile.imwrite(place / "other.tif", np.eye(40, dtype=np.uint16))
    assert "other.tif" in refused("view", place / "other.tif", *words)


def test_options_of_an_extraction_are_refused_for_a_result(cocuyo, finished):
    for words in (("--out", "elsewhere"), ("--frame-rate", "5")):
        outcome = cocuyo("view", finished.path, "--no-browser", *words)
        assert (outcome.status, outcome.out) == (2, "")
        assert "belong to ROIs of another program" in outcome.err
