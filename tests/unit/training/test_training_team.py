"""Training in several processes: equal networks, the step of one process, files written once."""

import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed, nn
from training_team import BATCHES, COMMANDS, fit_toy, toy, toy_loss

from cocuyo import training
from cocuyo.cli import run_command_line
from cocuyo.core import CocuyoError, SettingsError
from cocuyo.training import ALONE, Team, open_team, open_workshop

HELPER = Path(__file__).parents[2] / "helpers" / "training_team.py"
LAUNCHED = {
    "TORCHELASTIC_RUN_ID": "none",
    "RANK": "1",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes leave that train together."""
    out, work = tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("work")
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone")
    done = subprocess.run(
        [*launcher, "--nproc-per-node", "2", HELPER, out, work],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out, work, done.stdout


def left(folder, name):
    return [torch.load(folder / f"{name}-{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("network", ["toy", "unet", "temporal", "outline", "events"])
def test_both_processes_end_with_equal_weights(network, two):
    first, second = left(two[0], network)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_two_processes_take_the_steps_of_one_with_the_joined_batch(two, tmp_path):
    network, curve = fit_toy(tmp_path / "toy.checkpoint")
    moved = [
        (a - b).abs().max() for a, b in zip(network.parameters(), toy().parameters(), strict=True)
    ]
    assert min(moved) > 1e-3
    shared = left(two[0], "toy")[0]
    for name, value in network.state_dict().items():
        torch.testing.assert_close(shared[name], value, rtol=1e-5, atol=1e-6)
    facts = left(two[0], "facts")[0]
    np.testing.assert_allclose(facts["losses"], curve.loss, rtol=1e-5)
    np.testing.assert_allclose(facts["scores"], curve.score, rtol=1e-5)


def test_the_score_of_the_first_process_counts(two):
    first, second = left(two[0], "facts")
    assert first["scores"] == second["scores"]  # the second one's own are higher by 1


def test_each_process_draws_its_own_crops(two):
    first, second = left(two[0], "facts")
    assert set(first["drawn"]).isdisjoint(second["drawn"])


def test_the_model_is_that_of_one_process_and_told_once(two):
    _, work, said = two
    parts = {path.name for path in (work / "model").iterdir()}
    assert {f"{name}.safetensors" for name in ("weights", *COMMANDS[2:])} <= parts
    assert not list(work.rglob("*.partial*"))
    for command in COMMANDS:
        assert said.count(f"{command} of preset default is trained") == 1


def test_without_the_launcher_the_steps_are_those_of_a_plain_loop_bit_for_bit(tmp_path):
    network, _ = fit_toy(
        tmp_path / "toy.checkpoint", schedule="constant", epochs=1, learning_rate=0.01
    )
    plain = toy()
    optimiser = torch.optim.Adam(plain.parameters(), lr=0.01)
    for batch in BATCHES:
        optimiser.zero_grad()
        toy_loss(plain, batch).backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        optimiser.step()
    for ours, wanted in zip(network.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, wanted)


def test_without_the_launcher_there_is_one_process(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")  # as some clusters set for their own ends
    with open_team() as team:
        assert team == ALONE
        rng = np.random.default_rng(0)
        assert team.own(rng) is rng
        assert team.agree("what it has") == "what it has"
        team.wait()


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("n", [0, 1, 5, 8, 9])
def test_shares_are_even_and_make_the_whole(n, size):
    shares = [range(n)[Team(rank, size).share(n)] for rank in range(size)]
    assert [i for share in shares for i in share] == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert len(shares[0]) > 0 or n == 0


def test_more_processes_than_examples_in_a_batch_are_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"A batch of 5 cannot be shared by 6 .* 5 at most"):
        fit_toy(tmp_path / "toy.checkpoint", team=Team(0, 6))


@pytest.fixture
def launched(monkeypatch):
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)


def test_fewer_gpus_than_processes_are_refused(launched, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with (
        pytest.raises(SettingsError, match=r"4 processes .* 2 GPUs; .*--nproc-per-node 2"),
        open_team(),
    ):
        pass


@pytest.mark.parametrize(("missing", "n_gpus"), [("gloo", 0), ("gloo", 4), ("nccl", 4)])
def test_a_torch_that_cannot_connect_processes_says_what_it_lacks(
    missing, n_gpus, launched, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
    for name in ("gloo", "nccl"):
        monkeypatch.setattr(distributed, f"is_{name}_available", lambda it=name: it != missing)
    with pytest.raises(SettingsError, match=rf"needs {missing}, which this PyTorch"), open_team():
        pass


def test_one_process_of_the_launcher_has_its_gpu(launched, monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with open_team() as team:
        assert team == Team(0, 1, torch.device("cuda", 0))


def test_int8_is_the_work_of_one_process(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(training, "open_team", lambda: nullcontext(Team(0, 2)))
    assert run_command_line(["train", "quantise", "--model", str(tmp_path)]) == 1
    assert "start it without torchrun" in capsys.readouterr().err


def test_a_folder_that_only_some_processes_see_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(Team, "wait", lambda team: None)
    with pytest.raises(SettingsError, match="where all machines see it under the same path"):
        open_workshop(tmp_path / "elsewhere", team=Team(1, 2))
    open_workshop(tmp_path / "shared", team=Team(0, 2))
    assert open_workshop(tmp_path / "shared", team=Team(1, 2)).team == Team(1, 2)


def test_a_process_that_loses_the_others_says_so_in_one_line(monkeypatch):
    def lost(*_, **__):
        msg = "Connection closed by peer\nand more"
        raise RuntimeError(msg)

    monkeypatch.setattr(distributed, "all_reduce", lost)
    with pytest.raises(CocuyoError, match=r"Another process .* \(Connection closed by peer\)\."):
        Team(0, 2).wait()
