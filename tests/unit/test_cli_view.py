"""What `cocuyo view` refuses before it serves anything."""

import shutil
import socket
from pathlib import Path

import pytest

from cocuyo.cli import run_command_line
from cocuyo.server import Server

DATA = Path(__file__).parents[1] / "data"


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["absent"], 1, "does not exist"),
        (["file.txt"], 1, "is a file. A recording is analysed first: cocuyo run file.txt"),
        ([".", "--pixel-size", "1,5"], 2, "decimals are written with a point, 1.5"),
        ([".", "--pixel-size", "abc,def"], 2, "'abc,def' is not a valid float"),
        ([".", "--recording", "x.tif"], 2, "--recording belongs to a result"),
        ([".", "--port", "70000"], 2, "70000"),
    ],
)
def test_unusable_input_is_refused_in_one_line(
    arguments, status, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").write_text("text")
    assert run_command_line(["view", "--no-browser", *arguments]) == status
    assert words in capsys.readouterr().err


def test_a_port_in_use_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert run_command_line(["view", "--no-browser", "--port", str(port)]) == 1
    error = capsys.readouterr().err
    assert f"Port {port} cannot be used" in error
    assert error.count("\n") == 1


def test_a_folder_of_recordings_stays_one_when_suite2p_has_saved_into_it(
    tmp_path, monkeypatch, capsys
):
    shutil.copytree(DATA / "suite2p_1.1", tmp_path / "suite2p")
    monkeypatch.setattr(Server, "serve_forever", lambda server: None)
    assert run_command_line(["view", "--no-browser", str(tmp_path)]) == 0
    assert "cocuyo is at http" in capsys.readouterr().out
    assert run_command_line(["view", "--no-browser", str(tmp_path / "suite2p")]) == 1
    assert "--recording REC" in capsys.readouterr().err
