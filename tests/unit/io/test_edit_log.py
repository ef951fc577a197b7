"""The log of edits: what was confirmed stays, whatever happens."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cocuyo.core import ResultError, SettingsError
from cocuyo.core.curation import Accept, Draw, Pixels, Reject, dump_edit
from cocuyo.io.edits import EditLog, read_edits


def test_edits_are_lines_in_the_order_in_which_they_were_made(tmp_path: Path):
    log = EditLog(tmp_path)
    assert log.read() == ()
    assert not (tmp_path / "edits.jsonl").exists()
    edits = [
        log.append(Accept(rois=("roi_0001",))),
        log.append(Draw(roi="roi_0002", shape=Pixels(y=(1,), x=(2,)))),
    ]
    assert list(read_edits(tmp_path)) == edits == list(log.read())
    lines = (tmp_path / "edits.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["accept", "draw"]
    assert json.loads(lines[0])["version"] == 1


@pytest.mark.parametrize("cut", [1, 5, 40])
@pytest.mark.parametrize("name", ["röi", "a long name" * 16])
def test_a_line_cut_by_a_crash_is_left_out_and_replaced(tmp_path: Path, cut: int, name: str):
    first = EditLog(tmp_path).append(Accept(rois=("roi_0001",)))
    line = json.dumps(dump_edit(Accept(rois=(name,))), ensure_ascii=False).encode()
    with (tmp_path / "edits.jsonl").open("ab") as file:
        file.write(line[:-cut])
    assert read_edits(tmp_path) == (first,)
    second = EditLog(tmp_path).append(Reject(rois=("roi_0003",)))
    assert read_edits(tmp_path) == (first, second)
    content = (tmp_path / "edits.jsonl").read_bytes()
    assert content.count(b"\n") == 2
    assert content.endswith(b"\n")  # nothing of the cut line is left behind


def test_a_whole_last_line_without_its_end_counts(tmp_path: Path):
    edit = Accept(rois=("roi_0001",))
    (tmp_path / "edits.jsonl").write_text(json.dumps(dump_edit(edit)), encoding="utf-8")
    assert read_edits(tmp_path) == (edit,)
    log = EditLog(tmp_path)
    second = log.append(Accept(rois=("roi_0002",)))
    assert read_edits(tmp_path) == (edit, second) == log.read()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"version": 2, "kind": "paint"}\n', "version 2.*update cocuyo"),
        ('{"version": 1, "kind": "paint"}\n', "Edit 2 .*cannot be used"),
        ('{"version": 1, "kind\n', "Edit 2 .*is damaged"),
        ("[1, 2]\n", "is no edit"),
    ],
)
def test_what_cannot_be_understood_is_named_and_never_passed_over(
    tmp_path: Path, line: str, said: str
):
    EditLog(tmp_path).append(Accept(rois=("roi_0001",)))
    with (tmp_path / "edits.jsonl").open("a") as file:
        file.write(line)
    content = (tmp_path / "edits.jsonl").read_bytes()
    with pytest.raises(ResultError, match=said):
        read_edits(tmp_path)
    with pytest.raises(ResultError, match=said):
        EditLog(tmp_path).append(Accept(rois=("roi_0002",)))
    assert (tmp_path / "edits.jsonl").read_bytes() == content


def test_each_log_sees_what_another_appended_before_its_own_edit(tmp_path: Path):
    one, two = EditLog(tmp_path), EditLog(tmp_path)
    first = one.append(Accept(rois=("roi_0001",)))
    seen = []

    def make(before: tuple[object, ...]) -> Accept:
        seen.extend(before)
        return Accept(rois=("roi_0002",))

    second = two.append(make)
    assert seen == [first]
    assert one.read() == (first, second)


def test_an_edit_that_is_refused_leaves_the_log_as_it_was(tmp_path: Path):
    log = EditLog(tmp_path)
    log.append(Accept(rois=("roi_0001",)))
    content = log.path.read_bytes()

    def refuse(before: tuple[object, ...]) -> Accept:
        msg = "no"
        raise SettingsError(msg)

    with pytest.raises(SettingsError):
        log.append(refuse)
    assert log.path.read_bytes() == content


def test_many_windows_at_once_lose_no_edit(tmp_path: Path):
    def work(number: int) -> None:
        log = EditLog(tmp_path)
        for i in range(10):
            log.append(lambda before, i=i: Accept(rois=(f"w{number}-{i}-{len(before)}",)))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = [edit.rois[0] for edit in read_edits(tmp_path)]
    assert len(set(names)) == 40
    # Each was made with all earlier ones in view.
    assert [int(name.rpartition("-")[2]) for name in names] == list(range(40))


def test_a_log_that_was_replaced_is_not_written_to(tmp_path: Path):
    log = EditLog(tmp_path)
    log.append(Accept(rois=("roi_0001",)))
    log.path.unlink()
    with pytest.raises(ResultError, match="replaced"):
        log.append(Accept(rois=("roi_0002",)))


def test_edits_belong_to_a_folder(tmp_path: Path):
    with pytest.raises(ResultError, match="is not a folder"):
        EditLog(tmp_path / "absent").append(Accept(rois=("a",)))
    assert read_edits(tmp_path / "absent") == ()


def test_a_full_disk_loses_this_edit_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    log = EditLog(tmp_path)
    first = log.append(Accept(rois=("roi_0001",)))

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResultError, match=r"No space left.*not kept"):
        log.append(Accept(rois=("roi_0002",)))
    monkeypatch.undo()
    assert read_edits(tmp_path) == (first,)
    second = log.append(Accept(rois=("roi_0003",)))
    assert read_edits(tmp_path) == (first, second)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is a signal of POSIX systems")
def test_a_killed_program_loses_no_edit_that_was_confirmed(tmp_path: Path):
    writer = (
        "import sys\n"
        "from cocuyo.core.curation import Draw, Pixels\n"
        "from cocuyo.io.edits import EditLog\n"
        "log = EditLog(sys.argv[1])\n"
        "shape = Pixels(y=tuple(range(300)), x=tuple(range(300)))\n"
        "n = 0\n"
        "while True:\n"
        "    edit = log.append(Draw(roi=f'r{n}', shape=shape))\n"
        "    print(edit.id, flush=True)\n"
        "    n += 1\n"
    )
    confirmed: list[str] = []
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", writer, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        confirmed += [process.stdout.readline().strip() for _ in range(12)]
        process.send_signal(signal.SIGKILL)
        confirmed += [line.strip() for line in process.stdout if line.endswith("\n")]
        process.wait()
        process.stdout.close()
        kept = [edit.id for edit in read_edits(tmp_path)]
        assert [name for name in kept if name in set(confirmed)] == confirmed
