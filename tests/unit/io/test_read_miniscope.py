"""Reading folders of UCLA Miniscopes: movies by OpenCV, texts as their programs write them."""

import json

import cv2
import numpy as np
import pytest

from cocuyo.core import RecordingError
from cocuyo.io import file_identity, inspect_recording, open_recording

N, Y, X = 8, 34, 46  # frames of one movie


def write_avi(path, first, n_frames=N):
    """Frames whose brightness is their number in the recording, times 4 (of 50)."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 60.0, (X, Y))
    assert writer.isOpened()
    for at in range(first, first + n_frames):
        writer.write(np.full((Y, X, 3), 20 + 4 * (at % 50), np.uint8))
    writer.release()


def numbers(recording):
    """Numbers of the frames, from their brightness."""
    means = recording.movie.read(0, recording.n_frames).mean(axis=(1, 2))
    return np.rint((means - 20) / 4).astype(int).tolist()


def version4(folder, movies=(0, 1, 2), *, rate="20FPS", device="Miniscope_V4_BNO", times=None):
    folder.mkdir(parents=True)
    for place, movie in enumerate(movies):
        write_avi(folder / f"{movie}.avi", place * N)
    about = {"deviceName": "My", "deviceType": device, "frameRate": rate, "framesPerFile": N}
    (folder / "metaData.json").write_text(json.dumps(about), encoding="utf-8")
    n_frames = len(movies) * N
    times = [-31, *range(51, 51 + 50 * (n_frames - 1), 50)] if times is None else times
    lines = [f"{at},{time},0" for at, time in enumerate(times)]
    text = "\n".join(["Frame Number,Time Stamp (ms),Buffer Index", *lines, ""])
    (folder / "timeStamps.csv").write_text(text, encoding="utf-8")
    return folder


def version3(folder, n_movies=11, *, first_ms=4294967280):
    folder.mkdir(parents=True)
    for movie in range(n_movies):
        write_avi(folder / f"msCam{movie + 1}.avi", 4 * movie, 4)
        write_avi(folder / f"behavCam{movie + 1}.avi", 0, 4)
    lines = ["camNum\tframeNum\tsysClock\tbuffer"]
    for at in range(4 * n_movies):
        lines.append(f"1\t{at + 1}\t{first_ms if at == 0 else 33 * at}\t1")
        if at % 2:
            lines.append(f"0\t{at // 2 + 1}\t{33 * at + 3}\t1")
    (folder / "timestamp.dat").write_text("\n".join([*lines, ""]), encoding="utf-8")
    (folder / "settings_and_notes.dat").write_text("animal\texcitation\n\t22\n", encoding="utf-8")
    return folder


def test_version_4_has_its_order_rate_and_times(tmp_path):
    folder = version4(tmp_path / "Miniscope", tuple(range(11)))  # 10.avi comes after 9.avi
    facts = inspect_recording(folder)
    assert facts.format.startswith("UCLA Miniscope (Miniscope_V4_BNO), 11 movie(s)")
    assert facts.frame_rate_hz == pytest.approx(20.0)
    assert facts.frame_rate_origin == "timeStamps.csv of the Miniscope"
    recording = open_recording(folder)
    assert numbers(recording) == [at % 50 for at in range(11 * N)]
    np.testing.assert_allclose(np.diff(recording.times_s)[1:], 0.05)
    assert np.diff(recording.times_s)[0] == pytest.approx(0.082)


def test_version_3_leaves_the_behaviour_camera_aside_and_mends_the_first_time(tmp_path):
    folder = version3(tmp_path / "H12_M3_S4")
    recording = open_recording(folder)
    assert recording.n_frames == 44
    assert numbers(recording) == list(range(44))
    assert any("first frame was wrong" in note for note in recording.notes)
    np.testing.assert_allclose(np.diff(recording.times_s), 0.033)


def two_cameras(folder, *, apart_ms, own=1, other=1):
    """One movie of each camera, with as many frames."""
    folder.mkdir()
    write_avi(folder / f"msCam{own}.avi", 0)
    write_avi(folder / f"behavCam{other}.avi", 0)
    lines = ["camNum\tframeNum\tsysClock\tbuffer"]
    for at in range(N):
        lines += [f"1\t{at + 1}\t{50 * at}\t1", f"0\t{at + 1}\t{50 * at + apart_ms}\t1"]
    (folder / "timestamp.dat").write_text("\n".join([*lines, ""]), encoding="utf-8")
    return folder


def test_of_two_cameras_with_equal_times_either_will_do(tmp_path):
    recording = open_recording(two_cameras(tmp_path / "H12", apart_ms=7))
    np.testing.assert_allclose(np.diff(recording.times_s), 0.05)


def test_of_two_cameras_with_as_many_frames_the_names_choose_where_they_can(tmp_path):
    recording = open_recording(two_cameras(tmp_path / "H12", apart_ms=4000, own=0, other=1))
    assert recording.timestamps_s[0] == 4.0
    recording = open_recording(two_cameras(tmp_path / "H13", apart_ms=4000, own=1, other=0))
    assert recording.timestamps_s[0] == 0.0


def test_two_cameras_that_nothing_tells_apart_are_said_and_frames_are_regular(tmp_path):
    recording = open_recording(two_cameras(tmp_path / "H12", apart_ms=4000))
    assert recording.timestamps_s is None
    (note,) = (note for note in recording.notes if "times of the frames are not used" in note)
    assert "times of the cameras 0, 1 with 8 frames each, and nothing says which" in note
    assert "--timestamps" in note


@pytest.mark.parametrize("rate", ["20FPS", "20", 20, 20.0])
def test_without_usable_times_the_rate_is_that_of_the_metadata(rate, tmp_path):
    folder = version4(tmp_path / "Miniscope", rate=rate, times=range(0, 50 * 30, 50))
    facts = inspect_recording(folder)
    assert (facts.frame_rate_hz, facts.frame_rate_origin) == (
        20.0,
        "metaData.json of the Miniscope",
    )
    assert any("30 times for 24 frames" in note for note in facts.notes)


def test_a_rate_that_differs_from_the_times_is_told(tmp_path):
    folder = version4(tmp_path / "Miniscope", rate="30FPS")
    recording = open_recording(folder)
    assert recording.rate_hz == pytest.approx(20.0)
    assert any("set to 30 frames per second" in note for note in recording.notes)


def test_times_that_do_not_rise_are_left_aside(tmp_path):
    times = [50 * at for at in range(3 * N)]
    times[7] = times[6]
    recording = open_recording(version4(tmp_path / "Miniscope", times=times))
    assert recording.timestamps_s is None
    assert any("do not rise" in note for note in recording.notes)


def test_without_metadata_the_rate_of_the_header_is_doubted(tmp_path):
    folder = version4(tmp_path / "Miniscope", times=[])
    (folder / "metaData.json").write_text("{", encoding="utf-8")
    recording = open_recording(folder)
    assert recording.frame_rate_hz == pytest.approx(60.0)
    assert any("playback speed" in note for note in recording.notes)
    assert any("metaData.json cannot be read" in note for note in recording.notes)


def test_a_movie_missing_between_the_others_is_told(tmp_path):
    recording = open_recording(version4(tmp_path / "Miniscope", (0, 1, 3), times=[]))
    assert any("number 2" in note for note in recording.notes)


def test_of_a_session_the_miniscope_is_read_and_not_the_camera(tmp_path):
    session = tmp_path / "12_01_30"
    version4(session / "My_V4_Miniscope")
    version4(session / "My_WebCam", device="WebCam-1080p")
    (session / "metaData.json").write_text("{}", encoding="utf-8")
    recording = open_recording(session)
    assert recording.n_frames == 3 * N
    assert any("My_V4_Miniscope is read" in note for note in recording.notes)
    (identity,) = file_identity(session)
    assert identity["files"] == 5
    version4(session / "Other_V4_Miniscope")
    with pytest.raises(RecordingError, match=r"2 miniscopes.*--dataset: My_V4_Miniscope, Other"):
        open_recording(session)
    assert open_recording(session, dataset="Other_V4_Miniscope").n_frames == 3 * N
