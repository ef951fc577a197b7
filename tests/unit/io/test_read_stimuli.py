"""Times of stimuli from CSV files as people write them."""

import pytest

from cocuyo.core import RecordingError
from cocuyo.io import read_stimuli


@pytest.mark.parametrize(
    ("text", "times", "labels"),
    [
        pytest.param("1.5\n3\n", [1.5, 3], ("", ""), id="times alone"),
        pytest.param("time_s,name\n1,light\n2,sham\n", [1, 2], ("light", "sham"), id="header"),
        pytest.param("1;light\n2;\n", [1, 2], ("light", ""), id="semicolons"),
        pytest.param("1\tlight on\n", [1], ("light on",), id="tabs"),
        pytest.param('\ufeff1,"a, b"\n', [1], ("a, b",), id="byte order mark and quotes"),
        pytest.param("# light\n\n2\n1\n", [2, 1], ("", ""), id="comment, empty row, any order"),
        pytest.param("-3\n1e2\r\n", [-3, 100], ("", ""), id="before the recording, powers"),
    ],
)
def test_times_and_names_are_read(tmp_path, text, times, labels):
    (tmp_path / "stimuli.csv").write_text(text, encoding="utf-8", newline="")
    found, names = read_stimuli(tmp_path / "stimuli.csv")
    assert found.tolist() == times
    assert names == labels


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no stimulus"),
        (b"time\n", "holds no stimulus"),
        (b"time\n1\ntwo\n", "Line 3"),
        (b"1\nnan\n", "Line 2"),
        (b"nan\n1\n", "Line 1"),
        (b"\xff\xfe\x00", "it is not text"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, content, message):
    (tmp_path / "stimuli.csv").write_bytes(content)
    with pytest.raises(RecordingError, match=message):
        read_stimuli(tmp_path / "stimuli.csv")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RecordingError, match="No such file"):
        read_stimuli(tmp_path / "none.csv")
