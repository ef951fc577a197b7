"""What `cocuyo view` refuses before it serves anything."""

import socket

import pytest

from cocuyo.cli import run_command_line


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["absent"], 1, "does not exist"),
        (["file.txt"], 1, "is a file"),
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
