"""The curation server is killed in the middle of edits: no confirmed edit is lost."""

import http.client
import json
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from curation_server import serve
from synthetic_result import make_result

from cocuyo.core.curation import curate
from cocuyo.io import read_edits, save_result
from cocuyo.pipeline import PRESETS

KILLS = 20
WINDOWS = 3


@pytest.fixture
def folder(tmp_path):
    result = make_result(n_rois=12)
    settings = PRESETS["srname"].model_dump(mode="json")
    result = replace(result, info=replace(result.info, settings=settings))
    return save_result(result, tmp_path / "slice.cocuyo")


@contextmanager
def served_in_a_process(context, folder):
    addresses = context.Queue()
    process = context.Process(target=serve, args=(str(folder), addresses), daemon=True)
    process.start()
    try:
        yield process, addresses.get(timeout=60)
    finally:
        process.kill()
        process.join()
        addresses.cancel_join_thread()
        addresses.close()


def edit_until_it_dies(url, names, seed, confirmed):
    """Send edits one after the other; note those that were confirmed."""
    chance, parts = random.Random(seed), urlsplit(url)
    with closing(http.client.HTTPConnection(parts.netloc, timeout=60)) as connection:
        send_edits(connection, parts.path, names, chance, seed, confirmed)


def send_edits(connection, path, names, chance, seed, confirmed):
    for number in range(100_000):
        do = chance.choice(["accept", "reject", "threshold"])
        name = chance.choice(names)
        action = {"do": do, "id": f"edit-{seed}-{number:06d}"}
        if do == "threshold":
            action |= {"roi": name, "threshold_sd": chance.uniform(1, 9)}
        else:
            action |= {"rois": [name]}
        body = json.dumps(action)
        try:
            connection.request(
                "POST",
                f"{path}api/results/r1/edits",
                body,
                {"Content-Type": "application/json"},
            )
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            return
        assert answer.status == 200
        confirmed.append(action["id"])


def test_no_confirmed_edit_is_lost_when_the_server_is_killed_twenty_times(folder):
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["cocuyo.server", "h5py", "scipy.ndimage"])
    names = [f"roi_{i + 1:04d}" for i in range(12)]
    confirmed: list[str] = []
    for kill in range(KILLS):
        before = len(confirmed)
        with served_in_a_process(context, folder) as (process, url):
            windows = [
                threading.Thread(
                    target=edit_until_it_dies, args=(url, names, 100 * kill + i, confirmed)
                )
                for i in range(WINDOWS)
            ]
            for window in windows:
                window.start()
            deadline = time.monotonic() + 60
            while len(confirmed) < before + 3 and time.monotonic() < deadline:
                time.sleep(0.002)
            time.sleep(random.Random(kill).uniform(0, 0.05))
            process.kill()
            for window in windows:
                window.join()
        assert len(confirmed) >= before + 3
        kept = [edit.id for edit in read_edits(folder)]
        assert set(confirmed) <= set(kept)
        assert len(kept) == len(set(kept))
    state = curate(make_result(n_rois=12).rois, read_edits(folder))
    assert not state.skipped


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_the_command_serves_until_it_is_interrupted(folder):
    command = [sys.executable, "-m", "cocuyo", "view", str(folder), "--no-browser"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    url = re.search(r"http\S+", process.stdout.readline()).group()
    parts = urlsplit(url)
    assert parts.hostname == "127.0.0.1"
    connection = http.client.HTTPConnection(parts.netloc, timeout=20)
    connection.request("GET", f"{parts.path}api/results/r1/facts")
    facts = json.loads(connection.getresponse().read())
    assert facts["name"] == "slice 1"
    connection.close()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err.strip().splitlines()[-1] == "cocuyo: stopped."
    assert "Traceback" not in out + err
