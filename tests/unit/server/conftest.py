"""A small result with its recording, and a server for it."""

import json
import shutil
import threading
from dataclasses import dataclass, field
from http.client import HTTPConnection

import numpy as np
import pytest
import tifffile
from flashing_movie import make_movie

from cocuyo.io import file_identity, save_result
from cocuyo.pipeline import segment, with_inputs
from cocuyo.server import App, Server

N_FRAMES = 160


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A result folder beside its recording; not to be written to."""
    folder = tmp_path_factory.mktemp("made")
    drift = np.cumsum(np.tile([0.012, -0.017], (N_FRAMES, 1)), axis=0)
    movie = make_movie(n_frames=N_FRAMES, shifts=drift - drift[0])
    path = folder / "slice.tif"
    tifffile.imwrite(path, movie.frames.astype(np.uint16))
    result = segment(movie.recording(), preset="srname")
    assert result.rois.accepted.sum() >= 3
    assert not result.motion.flags.any()
    result = with_inputs(result, file_identity(path))
    save_result(result, folder / "slice.cocuyo")
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A result folder of one's own."""
    shutil.copytree(made, tmp_path / "own")
    return tmp_path / "own" / "slice.cocuyo"


@dataclass
class Answer:
    """What the server said."""

    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def arrays(self):
        length = int.from_bytes(self.body[:4], "little")
        head = json.loads(self.body[4 : 4 + length])
        start = 4 + length
        return head, {
            each["name"]: np.frombuffer(
                self.body, each["type"], int(np.prod(each["shape"])), start + each["start"]
            ).reshape(each["shape"])
            for each in head["arrays"]
        }


@dataclass
class Client:
    """Speaks to a server as a browser does, or as nobody should."""

    server: Server
    headers: dict = field(default_factory=dict)

    def ask(self, method, path, body=None, *, token=None, headers=None):
        port = self.server.server_address[1]
        connection = HTTPConnection("127.0.0.1", port, timeout=20)
        sent = dict(self.headers)
        if isinstance(body, dict):
            body, sent["Content-Type"] = json.dumps(body), "application/json"
        sent |= headers or {}
        prefix = f"/{self.server.token if token is None else token}/"
        try:
            connection.request(method, prefix + path, body, sent)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def get(self, path, **options):
        return self.ask("GET", path, **options)

    def post(self, path, body, **options):
        return self.ask("POST", path, body, **options)


@pytest.fixture
def serve():
    """Serve an app until the test ends."""
    servers = []

    def start(app: App) -> Client:
        server = Server(app)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        servers.append(server)
        return Client(server)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def client(folder, serve):
    """A server that shows one result."""
    return serve(App(folder, result=folder))
