"""``cocuyo live``: at the end its folder is that of ``run``, whatever happened on the way."""

import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

RATE_HZ = 6.67
KNOWN = ("--frame-rate", str(RATE_HZ), "--pixel-size", "1.5", "--diameter", "12")
TABLES = ("rois.csv", "traces.csv", "traces_raw.csv", "raster.csv", "events.csv")
PICTURES = ("mask.tif", "labels.tif", "probability.tif")
EXAMPLES = Path(__file__).parents[2] / "examples"

posix = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows ends a process without asking it."
)


@pytest.fixture(scope="session")
def frames(simulated):
    return simulated.frames[:100, :64, :72]


@pytest.fixture(scope="session", params=["default", pytest.param("srname", marks=pytest.mark.slow)])
def preset(request):
    return request.param


@pytest.fixture(scope="session")
def expected(frames, preset, tmp_path_factory):
    """What ``run`` gives for the frames."""
    return made_by_run(frames, preset, tmp_path_factory.mktemp("expected"))


@pytest.fixture(scope="session")
def expected_srname(frames, tmp_path_factory):
    return made_by_run(frames, "srname", tmp_path_factory.mktemp("expected"))


def made_by_run(frames, preset, place):
    from cocuyo.cli import run_command_line

    tifffile.imwrite(place / "slice.tif", frames, photometric="minisblack")
    words = ["run", str(place / "slice.tif"), "--preset", preset, *KNOWN]
    assert run_command_line(words) == 0
    return place / "slice.cocuyo"


def expect_equal(folder, expected):
    for name in (*TABLES, *PICTURES):
        assert (folder / name).read_bytes() == (expected / name).read_bytes(), name
    assert len((expected / "events.csv").read_text("utf-8").splitlines()) > 3


def record_of(folder):
    return json.loads((folder / "live.json").read_text("utf-8"))


def notes_of(folder):
    return json.loads((folder / "run.json").read_text("utf-8"))["notes"]


def append(path, frames):
    for frame in frames:
        tifffile.imwrite(path, frame, append=path.exists(), photometric="minisblack")


@pytest.fixture
def start():
    """Start a program; end it if the test does not."""
    started = []

    def popen(*words):
        program = subprocess.Popen(
            [sys.executable, *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        started.append(program)
        return program

    yield popen
    for program in started:
        if program.poll() is None:
            program.kill()
        program.communicate()


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_replay_ends_with_the_folder_that_run_makes(
    cocuyo, look, write_tiff, frames, expected, preset, tmp_path
):
    recording = write_tiff(frames)
    words = ("live", recording, "--replay", "--replay-rate", 100, "--preset", preset)
    outcome = cocuyo(*words, *KNOWN)
    assert outcome.status == 0, outcome
    folder = tmp_path / "slice.cocuyo"
    look(folder).expect_whole(100, (64, 72))
    expect_equal(folder, expected)
    assert "The maps are those made while the recording ran." in notes_of(folder)
    record = record_of(tmp_path / "slice.cocuyo.live")
    assert (record["status"], record["n_frames"], record["n_dropped"]) == ("complete", 100, 0)
    # The frames lie in a file of their own: they are not kept twice.
    assert not (tmp_path / "slice.cocuyo.live" / "frames.npy").exists()
    assert "100 frames received, 0 dropped" in outcome.out
    assert "Algorithmic delay: events 0.25 s" in outcome.out


def test_provisional_tables_hold_together(cocuyo, write_tiff, frames, tmp_path, monkeypatch):
    monkeypatch.setattr("cocuyo.pipeline.live._START_S", 0.0)
    more = np.concatenate([frames, frames[::-1], frames])
    recording = write_tiff(more)
    words = ("live", recording, "--replay", "--replay-rate", 60, "--preset", "srname")
    outcome = cocuyo(*words, *KNOWN)
    assert outcome.status == 0, outcome
    folder = tmp_path / "slice.cocuyo.live"
    header, *rows = [line.split(",") for line in (folder / "rois.csv").read_text().splitlines()]
    assert header == ["id", "label", "y_px", "x_px", "area_px", "score", "found_s"]
    assert [row[0] for row in rows] == [f"roi_{i + 1:04d}" for i in range(len(rows))]
    labels = tifffile.imread(folder / "labels.tif")
    mask = tifffile.imread(folder / "mask.tif")
    np.testing.assert_array_equal(mask, np.where(labels > 0, 255, 0))
    accepted = [row for row in rows if row[1] != "0"]
    assert [row[1] for row in accepted] == [str(i + 1) for i in range(len(accepted))]
    for row in accepted:
        assert labels[round(float(row[2])), round(float(row[3]))] > 0
    times = []
    for path in sorted(folder.glob("traces_*.csv")):
        first, *values = [line.split(",") for line in path.read_text().splitlines()]
        assert first[0] == "time_s"
        assert set(first[1:]) <= {row[0] for row in rows}
        assert all(len(line) == len(first) for line in values)
        assert float(values[0][0]) == pytest.approx(int(path.stem[7:]) / RATE_HZ, abs=1e-4)
        times += [float(line[0]) for line in values]
    np.testing.assert_allclose(np.diff(times), 1 / RATE_HZ, atol=1e-5)
    record = record_of(folder)
    latency = record["latency"]
    assert 0 < latency["p50_ms"] <= latency["p99_ms"] <= latency["max_ms"]
    assert 0 < latency["n_frames"] < 300
    assert any("latency p50" in note for note in notes_of(tmp_path / "slice.cocuyo"))
    if (folder / "events.csv").exists():
        first, *events = [
            line.split(",") for line in (folder / "events.csv").read_text().splitlines()
        ]
        assert first[:3] == ["id", "onset_s", "detected_s"]
        assert len(events) == record["n_events"]


def test_a_tiff_that_grows_is_followed_to_its_end(cocuyo, frames, expected_srname, tmp_path):
    path = tmp_path / "slice.tif"
    writer = threading.Thread(target=append, args=(path, frames))
    writer.start()
    outcome = cocuyo("live", path, "--idle", 2, "--preset", "srname", *KNOWN)
    writer.join()
    assert outcome.status == 0, outcome
    expect_equal(tmp_path / "slice.cocuyo", expected_srname)


def test_a_folder_that_grows_is_followed_to_its_end(cocuyo, frames, expected_srname, tmp_path):
    folder = tmp_path / "frames"

    def write():
        folder.mkdir()
        for i, frame in enumerate(frames):
            cv2.imwrite(str(folder / f"f{i}.png"), frame)
            time.sleep(0.005)

    writer = threading.Thread(target=write)
    writer.start()
    outcome = cocuyo("live", folder, "--idle", 2, "--preset", "srname", *KNOWN)
    writer.join()
    assert outcome.status == 0, outcome
    expect_equal(tmp_path / "frames.cocuyo", expected_srname)


def port_of(program, said=None):
    line = program.stderr.readline()
    while "Waiting for frames" not in line:
        assert program.poll() is None, program.communicate()
        if said is not None:
            said.append(line)
        line = program.stderr.readline()
    return int(line.strip().rpartition(":")[2])


@pytest.mark.parametrize("kind", ["tcp", pytest.param("zmq", marks=pytest.mark.slow)])
def test_the_example_client_sends_a_recording_and_hears_of_its_events(
    start, frames, expected_srname, tmp_path, kind
):
    if kind == "zmq":
        pytest.importorskip("zmq")
    np.save(tmp_path / "m.npy", frames)
    address = ("zmq+" if kind == "zmq" else "") + "tcp://127.0.0.1:0"
    program = start(
        "-m", "cocuyo", "live", address, "--publish", "--out", tmp_path / "s", *KNOWN[2:],
        "--preset", "srname",
    )  # fmt: skip
    client = start(
        EXAMPLES / f"send_frames_{kind}.py", port_of(program), tmp_path / "m.npy", RATE_HZ * 15
    )
    heard, told = client.communicate(timeout=120)
    assert client.returncode == 0, told
    out, err = program.communicate(timeout=120)
    assert program.returncode == 0, err
    # The client said another rate: it sends faster than the frames were taken.
    kept = np.load(tmp_path / "s.live" / "frames.npy")
    np.testing.assert_array_equal(kept, frames)
    assert "100 frames received, 0 dropped" in out
    assert len(heard.splitlines()) <= record_of(tmp_path / "s.live")["n_events"]


class Client:
    """A sender in this process."""

    def __init__(self, port, frames):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.frames = frames
        start = {"type": "start", "version": 1, "rows": 64, "columns": 72, "name": "slice"}
        self.send(start | {"dtype": frames.dtype.name, "frame_rate_hz": RATE_HZ})
        prefix = self.socket.recv(8, socket.MSG_WAITALL)
        length = int.from_bytes(prefix[4:], "little")
        self.first = json.loads(self.socket.recv(length, socket.MSG_WAITALL))["next_index"]

    def send(self, header, payload=b""):
        text = json.dumps(header).encode()
        self.socket.sendall(b"coc1" + len(text).to_bytes(4, "little") + text + payload)

    def send_frames(self, numbers):
        for index in numbers:
            self.send({"type": "frame", "index": index}, self.frames[index].tobytes())


@pytest.fixture
def connect(frames):
    """Connect senders; end them."""
    clients = []

    def client(port):
        clients.append(Client(port, frames))
        return clients[-1]

    yield client
    for each in clients:
        each.socket.close()


def live_stream(start, tmp_path, *options):
    return start(
        "-m", "cocuyo", "live", "tcp://127.0.0.1:0", "--preset", "srname", "--out", tmp_path / "s",
        *KNOWN[2:], *options,
    )  # fmt: skip


@pytest.mark.slow
def test_lost_frames_are_counted_and_leave_gaps_in_time(start, connect, tmp_path):
    program = live_stream(start, tmp_path)
    client = connect(port_of(program))
    client.send_frames([*range(60), *range(67, 100)])
    client.send({"type": "end"})
    out, err = program.communicate(timeout=120)
    assert program.returncode == 0, err
    assert "93 frames received, 7 dropped" in out
    times = [
        line.split(",")[0] for line in (tmp_path / "s" / "traces.csv").read_text().splitlines()
    ]
    np.testing.assert_allclose(float(times[61]), 67 / RATE_HZ, atol=1e-3)
    assert any("7 frames never arrived" in note for note in notes_of(tmp_path / "s"))


def begin_recording(start, connect, tmp_path, *, n_first):
    """Send some frames; give the program when all are on disk."""
    program = live_stream(start, tmp_path)
    client = connect(port_of(program))
    client.send_frames(range(n_first))
    spool = tmp_path / "s.live" / "frames.times"
    wait_until(lambda: spool.exists() and spool.stat().st_size == 24 * n_first)
    return program


@pytest.mark.slow
@posix
def test_ctrl_c_ends_a_recording_with_a_result_of_what_came(
    start, connect, cocuyo, frames, tmp_path
):
    program = begin_recording(start, connect, tmp_path, n_first=80)
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=120)
    assert program.returncode == 0, err
    assert "80 frames received" in out
    tifffile.imwrite(tmp_path / "first.tif", frames[:80], photometric="minisblack")
    words = ("run", tmp_path / "first.tif", "--preset", "srname")
    assert cocuyo(*words, *KNOWN).status == 0
    expect_equal(tmp_path / "s", tmp_path / "first.cocuyo")


@posix
def test_a_killed_recording_goes_on_and_loses_nothing(start, connect, expected_srname, tmp_path):
    program = begin_recording(start, connect, tmp_path, n_first=70)
    program.kill()
    program.communicate()
    assert not (tmp_path / "s").exists()
    program = live_stream(start, tmp_path)
    said = []
    client = connect(port_of(program, said))
    assert client.first == 70
    client.send_frames(range(70, 100))
    client.send({"type": "end"})
    out, err = program.communicate(timeout=120)
    assert program.returncode == 0, err
    assert "100 frames received, 0 dropped" in out
    assert "it goes on" in said[0]
    expect_equal(tmp_path / "s", expected_srname)


@posix
def test_a_second_recording_into_the_same_folder_is_refused(start, connect, cocuyo, tmp_path):
    program = begin_recording(start, connect, tmp_path, n_first=10)
    spool = tmp_path / "s.live" / "frames.times"
    words = ("live", "tcp://127.0.0.1:0", "--preset", "srname", "--out", tmp_path / "s")
    outcome = cocuyo(*words, *KNOWN[2:])
    assert outcome.status == 1
    assert f"Another cocuyo (process {program.pid} on " in outcome.error
    assert spool.stat().st_size == 24 * 10
    assert program.poll() is None


@pytest.mark.slow
@posix
def test_a_killed_recording_can_be_completed_as_it_is(start, connect, cocuyo, tmp_path):
    program = begin_recording(start, connect, tmp_path, n_first=80)
    program.kill()
    program.communicate()
    words = ("live", "tcp://127.0.0.1:0", "--preset", "srname", "--out", tmp_path / "s")
    outcome = cocuyo(*words, *KNOWN[2:], "--finish")
    assert outcome.status == 0, outcome
    assert "80 frames received" in outcome.out
    assert record_of(tmp_path / "s.live")["status"] == "complete"


@posix
def test_a_recording_killed_in_its_last_pass_needs_its_source_no_more(
    start, frames, cocuyo, expected_srname, tmp_path
):
    code = (
        "import os, sys, cocuyo.cli.live_session as live\n"
        "from cocuyo.cli import main\n"
        "live.complete = lambda *a, **k: os.kill(os.getpid(), 9)\n"
        "main()\n"
    )
    tifffile.imwrite(tmp_path / "slice.tif", frames, photometric="minisblack")
    words = ("live", tmp_path / "slice.tif", "--replay", "--replay-rate", 0, "--preset", "srname")
    words = (*words, "--out", tmp_path / "s", *KNOWN)
    program = start("-c", code, *words)
    program.communicate(timeout=120)
    assert program.returncode == -signal.SIGKILL
    assert record_of(tmp_path / "s.live")["status"] == "recorded"
    (tmp_path / "slice.tif").rename(tmp_path / "moved.tif")
    outcome = cocuyo(*words)
    assert outcome.status == 0, outcome
    expect_equal(tmp_path / "s", expected_srname)
    # The frames are nowhere else: they stay.
    assert (tmp_path / "s.live" / "frames.npy").exists()


def test_a_recording_that_was_saved_but_not_tidied_is_said_to_be_complete(
    cocuyo, write_tiff, frames, state_of, tmp_path
):
    recording = write_tiff(frames)
    words = ("live", recording, "--replay", "--replay-rate", 0, "--preset", "srname", *KNOWN)
    assert cocuyo(*words).status == 0
    path = tmp_path / "slice.cocuyo.live" / "live.json"
    path.write_text(json.dumps(record_of(path.parent) | {"status": "recorded"}))
    before = state_of(tmp_path / "slice.cocuyo")
    outcome = cocuyo(*words)
    assert (outcome.status, "is complete" in outcome.out) == (0, True)
    assert state_of(tmp_path / "slice.cocuyo") == before
    assert record_of(path.parent)["status"] == "complete"


def test_without_spool_the_result_stays_provisional_and_it_is_said(
    cocuyo, write_tiff, frames, tmp_path
):
    recording = write_tiff(frames)
    words = ("live", recording, "--replay", "--replay-rate", 100, "--preset", "srname", *KNOWN)
    outcome = cocuyo(*words, "--no-spool")
    assert outcome.status == 0, outcome
    assert "is provisional" in outcome.out
    assert not (tmp_path / "slice.cocuyo").exists()
    folder = tmp_path / "slice.cocuyo.live"
    assert record_of(folder)["status"] == "provisional"
    assert not (folder / "frames.npy").exists()
    assert (folder / "mask.tif").exists()
    assert "--overwrite" in cocuyo(*words, "--no-spool").error
    assert cocuyo(*words, "--no-spool", "--overwrite").status == 0


def test_other_options_do_not_go_on_with_a_recording(cocuyo, write_tiff, frames, tmp_path):
    recording = write_tiff(frames)
    words = ("live", recording, "--replay", "--replay-rate", 0, "--preset", "srname", *KNOWN)
    assert cocuyo(*words).status == 0
    folder = tmp_path / "slice.cocuyo.live"
    (tmp_path / "slice.cocuyo").rename(tmp_path / "elsewhere")
    record = record_of(folder) | {"status": "recording"}
    (folder / "live.json").write_text(json.dumps(record))
    outcome = cocuyo(*words[:-1], "13")
    assert outcome.status == 1
    assert "made with another reading" in outcome.error


REFUSED = {
    "a stream from afar": (["tcp://0.0.0.0:5555"], "same machine only"),
    "no frame rate": (["{tiff}", "--idle", "1"], "--frame-rate"),
    "a movie of another kind": (["{npy}", "--frame-rate", "5"], "--replay"),
    "a negative rate": (["{tiff}", "--replay", "--replay-rate", "-1"], "--replay-rate is -1"),
    "a negative silence": (["{tiff}", "--idle", "-1"], "--idle is -1"),
    "a negative frame rate": (["{tiff}", "--frame-rate", "-3"], "is given as -3"),
    "nothing to complete": (["{tiff}", "--finish"], "no interrupted recording"),
    "a replay of nothing": (["{tiff}.not", "--replay"], "does not exist"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_followed_is_refused_in_one_line(cocuyo, write_tiff, frames, tmp_path, case):
    words, said = REFUSED[case]
    tiff = write_tiff(frames)
    np.save(tmp_path / "m.npy", frames)
    words = [word.format(tiff=tiff, npy=tmp_path / "m.npy") for word in words]
    out = ("--out", tmp_path / "r")
    outcome = cocuyo("live", *words, "--preset", "srname", *out)
    assert outcome.status == 1
    assert said in outcome.err.splitlines()[-1]
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["tcp://127.0.0.1:0", "--replay"],
        ["m.tif", "--replay-rate", "5"],
        ["m.tif", "--publish"],
        ["m.tif", "--timestamps", "t.csv"],
        ["m.tif", "--frames", "0:5"],
        ["tcp://127.0.0.1:0", "--channel", "1"],
        ["m.tif", "--no-spool", "--finish"],
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(cocuyo, words):
    assert cocuyo("live", *words).status == 2


def test_no_frame_at_all_is_an_error_and_leaves_nothing(cocuyo, tmp_path):
    (tmp_path / "frames").mkdir()

    class Stopped:
        n = 0

        def __call__(self):
            self.n += 1
            return self.n > 20

    from contextlib import contextmanager

    import cocuyo.cli.live_session as live

    @contextmanager
    def stops():
        yield Stopped()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live, "_ctrl_c_stops", stops)
        outcome = cocuyo("live", tmp_path / "frames", *KNOWN)
    assert outcome.status == 1
    assert "No frame came" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["frames"]


@posix
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("command", ["run", "live"])
def test_kills_at_random_moments_never_change_the_result(
    start, frames, expected_srname, tmp_path, command
):
    """20 kills: each time the folder is absent or complete, and the end is that of no kill."""
    moments = random.Random(20)
    recording = tmp_path / "slice.tif"
    tifffile.imwrite(recording, frames, photometric="minisblack")
    folder = tmp_path / "s"
    words = ["-m", "cocuyo", command, recording, "--out", folder, "--preset", "srname", *KNOWN]
    words += ["--replay", "--replay-rate", "40"] if command == "live" else []
    began = time.monotonic()
    start(*words).communicate(timeout=600)
    took = time.monotonic() - began
    expect_equal(folder, expected_srname)
    n_kills = n_whole = 0
    while n_kills < 20:
        for path in (folder, folder.with_name("s.live")):
            if path.exists():
                path.rename(tmp_path / f"{path.name}_{n_kills}_{n_whole}")
        # Two kills in a row before each undisturbed end: what was taken up is taken up again.
        for _ in range(2):
            program = start(*words)
            time.sleep(moments.uniform(0.3, 1.0) * took)
            program.kill()
            program.communicate()
            n_kills += program.returncode == -signal.SIGKILL
            if folder.exists():
                assert json.loads((folder / "run.json").read_text())["status"] == "complete"
                expect_equal(folder, expected_srname)
        program = start(*words)
        _, err = program.communicate(timeout=600)
        said = (
            "exists" in err if folder.exists() and program.returncode else program.returncode == 0
        )
        assert said, err
        expect_equal(folder, expected_srname)
        n_whole += 1
