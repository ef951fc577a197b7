"""Where a result goes: what is never replaced, what is, and what a failure leaves."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cocuyo import Result


@pytest.fixture
def recording(write_tiff, small):
    return write_tiff(small)


@pytest.fixture
def earlier(finished, tmp_path):
    """An earlier result in the place of the new one."""
    return Path(shutil.copytree(finished.path, tmp_path / "slice.cocuyo"))


# --- What is in the way ------------------------------------------------------------------------


def test_an_existing_result_is_kept_without_overwrite(run_refused, recording, earlier):
    line = run_refused(recording)
    assert f"{earlier} exists; choose another folder with --out" in line
    assert "--overwrite" in line


def test_overwrite_replaces_a_result_of_ours_and_leaves_nothing_of_it(
    run, look, recording, earlier, tmp_path
):
    (earlier / "stale.txt").write_text("x")
    assert run(recording, "--overwrite").status == 0
    look(earlier).expect_whole(60, (64, 72))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["slice.cocuyo", "slice.tif"]


@pytest.mark.parametrize("run_json", [None, "{}", '{"status": "complete"}', "no JSON"])
def test_a_folder_of_somebody_else_is_never_replaced(run_refused, recording, tmp_path, run_json):
    folder = tmp_path / "slice.cocuyo"
    folder.mkdir()
    (folder / "precious.txt").write_text("x")
    if run_json is not None:
        (folder / "run.json").write_text(run_json)
    line = run_refused(recording, "--overwrite")
    assert "holds no result of cocuyo, so it is not replaced; choose another folder" in line


def test_an_empty_folder_is_not_replaced_either(run_refused, recording, tmp_path):
    (tmp_path / "slice.cocuyo").mkdir()
    assert "not replaced" in run_refused(recording, "--overwrite")


def test_a_file_in_the_place_of_the_result_is_kept(run_refused, recording):
    assert "not replaced" in run_refused(recording, "--out", recording, "--overwrite")


def test_a_folder_of_somebody_else_where_work_happens_is_kept(run_refused, recording, tmp_path):
    (tmp_path / "slice.cocuyo.partial").mkdir()
    (tmp_path / "slice.cocuyo.partial" / "precious.txt").write_text("x")
    assert "is not cocuyo's; move it away" in run_refused(recording, "--overwrite")


@pytest.mark.parametrize("option", [None, "--exclude", "--config", "--timestamps", "--model"])
def test_a_result_in_which_an_input_lies_is_never_replaced(run_refused, recording, earlier, option):
    if option is None:
        words = [recording.rename(earlier / "slice.tif")]
    else:
        (earlier / "mine").write_text("")
        words = [recording, option, earlier / "mine"]
    line = run_refused(*words, "--out", earlier, "--overwrite")
    assert f"{words[-1]} lies in {earlier}, which the result would replace; move it out" in line


def test_an_input_that_a_link_leads_to_is_protected_too(run_refused, recording, earlier, tmp_path):
    there = recording.rename(earlier / "slice.tif")
    try:
        (tmp_path / "link.tif").symlink_to(there)
    except OSError:
        pytest.skip("Links need rights that this machine does not give.")
    line = run_refused(tmp_path / "link.tif", "--out", earlier, "--overwrite")
    assert "link.tif lies in" in line


def test_the_ending_of_unfinished_folders_is_refused(run_refused, recording, tmp_path):
    line = run_refused(recording, "--out", tmp_path / "mine.partial")
    assert "cannot be a result folder: .partial marks unfinished ones" in line


# --- Places that cannot be written -------------------------------------------------------------


def test_a_file_in_the_place_of_a_parent_folder_is_refused(run_refused, recording):
    line = run_refused(recording, "--out", recording / "below" / "result")
    assert f"{recording} is not a folder; choose another folder with --out" in line


def test_missing_parent_folders_are_made(run, look, recording, tmp_path):
    assert run(recording, "--out", tmp_path / "a" / "b" / "result").status == 0
    look(tmp_path / "a" / "b" / "result").expect_whole(60, (64, 72))


@pytest.fixture
def read_only(tmp_path):
    """A folder in which nothing can be made."""
    folder = tmp_path / "archive"
    folder.mkdir()

    def close():
        folder.chmod(0o555)
        if os.access(folder, os.W_OK):
            pytest.skip("This user (root, or Windows) writes wherever it likes.")
        return folder

    yield close
    folder.chmod(0o755)


def test_a_recording_in_a_folder_that_cannot_be_written_needs_out(
    run, run_refused, look, read_only, recording, tmp_path
):
    recording = recording.rename(tmp_path / "archive" / "slice.tif")
    folder = read_only()
    line = run_refused(recording)
    assert f"{folder} is not writable; choose another folder with --out" in line
    assert run(recording, "--out", tmp_path / "result").status == 0
    look(tmp_path / "result").expect_whole(60, (64, 72))


def test_an_output_folder_that_cannot_be_written_is_refused(run_refused, read_only, recording):
    folder = read_only()
    line = run_refused(recording, "--out", folder / "below" / "result")
    assert f"{folder} is not writable" in line


# --- A full disk -------------------------------------------------------------------------------

LIMITED = """
import resource, sys
from cocuyo.cli import main
n_bytes = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))
main()
"""


def expect_full_disk(outcome, reason):
    assert outcome.status == 1, outcome
    assert reason in outcome.error
    assert "Free some space or choose another folder with --out" in outcome.error


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not limit the size of files.")
def test_a_file_that_cannot_be_written_to_its_end_leaves_the_earlier_result(
    process, state_of, recording, earlier, tmp_path
):
    before = state_of(tmp_path)
    words = ("run", "--preset", "srname", recording, "--frame-rate", 10, "--overwrite")
    expect_full_disk(process(20_000, *words, code=LIMITED), "File too large")
    assert state_of(tmp_path) == before
    assert Result.load(earlier).n_frames == 100


ON_SMALL_DISKS = """
import contextlib, io, json, shutil, subprocess, sys
from pathlib import Path
from cocuyo import Result
from cocuyo.cli import run_command_line

recording, earlier, place, *sizes = sys.argv[1:]
found = []
for size in sizes:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=True)
    folder = Path(place) / "slice.cocuyo"
    if earlier != "none":
        shutil.copytree(earlier, folder)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run_command_line(["run", "--preset", "srname", recording, "--frame-rate", "10",
                                   "--out", str(folder), "--overwrite"])
    left = [path.name for path in Path(place).iterdir()]
    frames = Result.load(folder).n_frames if folder.exists() else None
    found.append([status, out.getvalue(), err.getvalue(), left, frames])
    subprocess.run(["umount", place], check=True)
print(json.dumps(found))
"""


@pytest.fixture
def on_small_disks(tmp_path):
    """Analyse a recording on disks of some kilobytes, which only that process sees."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    for own in (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"]):
        if (
            shutil.which("unshare")
            and not subprocess.run([*own, *mount], capture_output=True, check=False).returncode
        ):
            break
    else:
        pytest.skip("This machine does not let a test mount a small disk.")

    def call(recording, earlier, kilobytes):
        sizes = [f"{size}k" for size in kilobytes]
        program = [sys.executable, "-c", ON_SMALL_DISKS, recording, earlier or "none", place]
        done = subprocess.run(
            [*own, *program, *sizes], capture_output=True, text=True, timeout=120, check=True
        )
        assert done.stderr == ""
        return json.loads(done.stdout)

    return call


def kilobytes_of(folder):
    return sum(path.stat().st_size for path in folder.iterdir()) // 1024


def test_a_full_disk_leaves_nothing_of_a_new_result(
    on_small_disks, outcome_of, recording, run, tmp_path
):
    assert run(recording).status == 0
    whole = kilobytes_of(tmp_path / "slice.cocuyo")
    *full, enough = on_small_disks(recording, None, [4, whole // 2, whole - 12, 4 * whole])
    for status, out, err, left, _ in full:
        expect_full_disk(outcome_of(status, out, err), "No space left on device")
        assert left == []
    assert (enough[0], enough[3]) == (0, ["slice.cocuyo"])


def test_a_full_disk_leaves_the_earlier_result_as_it_was(
    on_small_disks, outcome_of, recording, earlier
):
    occupied = kilobytes_of(earlier)
    full = on_small_disks(recording, earlier, [occupied + 100, occupied + 200, 2 * occupied - 99])
    for status, out, err, left, n_frames in full:
        expect_full_disk(outcome_of(status, out, err), "No space left on device")
        assert (left, n_frames) == (["slice.cocuyo"], 100)


# --- What a killed run leaves ------------------------------------------------------------------


def test_a_run_starts_again_over_what_a_killed_one_left(run, look, recording, earlier, tmp_path):
    partial = tmp_path / "slice.cocuyo.partial"
    earlier.rename(partial)
    (partial / "run.json").write_text(
        json.dumps({"format": "cocuyo-result", "format_version": 1, "status": "partial"})
    )
    (partial / "result.h5").write_bytes(b"half")
    (partial / ".run-1a2b3c4d.json").write_text("half")
    (partial / "left over").mkdir()
    assert run(recording).status == 0
    look(tmp_path / "slice.cocuyo").expect_whole(60, (64, 72))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["slice.cocuyo", "slice.tif"]


def test_an_unfinished_folder_is_not_taken_for_a_result(refused, earlier, tmp_path):
    record = json.loads((earlier / "run.json").read_text("utf-8"))
    (earlier / "run.json").write_text(json.dumps({**record, "status": "partial"}))
    assert "is unfinished; run the recording again" in refused(
        "evaluate", earlier, "--truth", earlier
    )
