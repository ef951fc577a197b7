"""`cocuyo batch` as a user drives it, on this machine; on clusters: test_batch_on_clusters.py."""

import csv

import pytest

KNOWN = ("--preset", "srname", "--frame-rate", 6.67, "--pixel-size", 1.5)


@pytest.fixture
def folder(tmp_path, write_tiff, small):
    """A folder with two recordings, the first of which is empty."""
    (tmp_path / "in" / "drug").mkdir(parents=True)
    write_tiff(small[:40], "in/drug/a.tif")
    (tmp_path / "in" / "empty.tif").touch()
    return tmp_path / "in"


def test_a_folder_becomes_results_with_an_index_and_a_second_start_does_nothing_again(
    cocuyo, look, folder, tmp_path
):
    out = tmp_path / "out"
    words = ("batch", folder, "--out", out, "--group", "folder", *KNOWN)
    first = cocuyo(*words)
    assert first.status == 1
    assert "1 of 2 recordings to do, by 1 process of" in first.out
    assert "1 of 2 recordings done (2 looked at now), 1 failed." in first.out
    assert f"Index: {out / 'index.html'}" in first.out
    lines = first.err.splitlines()
    assert "empty.tif is empty (0 bytes)" in next(x for x in lines if x.startswith("empty failed"))
    assert any(line.startswith("drug__a: ") for line in lines)
    assert lines[-1] == "cocuyo: error: 1 recording failed; the index says why."
    assert "Traceback" not in first.err
    look(out / "recordings" / "drug__a").expect_whole(40, (64, 72))
    with (out / "summary.csv").open(encoding="utf-8", newline="") as file:
        assert [(r["group"], r["state"]) for r in csv.DictReader(file)] == [
            ("", "failed"),
            ("drug", "done"),
        ]
    again = cocuyo(*words)
    assert again.status == 1
    assert "1 of 2 recordings done (0 looked at now), 1 failed." in again.out


def test_a_dry_run_says_what_would_be_done_and_does_nothing(cocuyo, state_of, folder, tmp_path):
    before = state_of(tmp_path)
    plan = cocuyo("batch", folder, "--out", tmp_path / "out", "--dry-run", *KNOWN)
    assert plan.status == 0
    assert state_of(tmp_path) == before
    head, second, first, _, total = plan.out.splitlines()
    assert head.split() == ["recording", "frames", "size", "memory", "time", "what"]
    assert first.split()[:6] == ["drug__a", "40", "72", "x", "64", "0.3"]
    assert first.endswith("to do: new")
    assert "cannot be used" in second
    assert total.startswith("1 of 2 recordings to do, by 1 process of ")
    assert "at most 0.3 GB for a recording" in total


def test_what_cannot_be_a_batch_is_refused_in_one_line(refused, folder, tmp_path):
    assert "holds no batch of cocuyo" in refused("batch", folder, "--out", folder.parent)
    assert "neither a folder" in refused("batch", tmp_path / "no", "--out", tmp_path / "out")
    assert "There is no model" in refused(
        "batch", folder, "--out", tmp_path / "out", "--model", "none"
    )
    assert "cannot be read so: frame_rate_hz" in refused(
        "batch", folder, "--out", tmp_path / "out", "--frame-rate", -1
    )


def test_options_of_slurm_need_slurm(cocuyo, folder, tmp_path):
    outcome = cocuyo("batch", folder, "--out", tmp_path / "out", "--partition", "short")
    assert outcome.status == 2
    assert "--partition is an option of --slurm." in outcome.err
