"""``cocuyo paper --quick``, as a user types it."""

import csv
import json

import pytest

from cocuyo.cli import run_command_line

pytest.importorskip("torch")


@pytest.mark.timeout(600)  # a minute of one core, on a machine that may be busy
def test_the_quick_size_does_every_experiment(tmp_path, capsys):
    out = tmp_path / "paper"
    assert run_command_line(["paper", "--quick", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "too small for any conclusion" in printed
    assert "0.752" in printed  # published
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert len(results["recordings"]) == 11
    assert sum(one["test"] for one in results["recordings"]) == 6
    with (out / "tables" / "table2.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    methods = {row["method"] for row in rows}
    assert {"ours", "max", "avg", "contrast x probability", "perfect U-Net + max"} <= methods
    # Whatever the networks have learnt, a perfect U-Net's maximum misses no functional neuron.
    for row in rows:
        if (row["method"], row["reference"]) == ("perfect U-Net + max", "truth"):
            assert float(row["recall"]) > 0.9
    assert {path.name for path in (out / "figures").iterdir()} == {
        f"figure{number}.png" for number in (2, 5, 6, 7, 8)
    }
    # The trained model is one that `run` takes.
    assert (out / "work" / "training" / "model" / "model.json").is_file()
