"""Frames over TCP and ZeroMQ: what arrives is what was sent, and nothing that breaks the format."""

import json
import re
import socket
import threading
import time
from itertools import islice

import numpy as np
import pytest

from cocuyo.core import RecordingError
from cocuyo.io.live import LiveFacts
from cocuyo.io.streams import open_stream

zmq = pytest.importorskip("zmq")

Y, X = 24, 30
START = {
    "type": "start",
    "version": 1,
    "rows": Y,
    "columns": X,
    "dtype": "uint16",
    "frame_rate_hz": 20,
    "pixel_size_um": 1.5,
    "name": "slice",
}


def frames_of(n, dtype="uint16"):
    return np.random.default_rng(n).integers(0, 120, (n, Y, X)).astype(dtype)


class TcpClient:
    """Speaks the format over TCP."""

    def __init__(self, address):
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=5)

    def send(self, header, payload=b""):
        text = json.dumps(header).encode()
        self.raw(b"coc1" + len(text).to_bytes(4, "little") + text + payload)

    def raw(self, data):
        self.socket.sendall(data)

    def receive(self):
        prefix = self.read(8)
        assert prefix[:4] == b"coc1"
        return json.loads(self.read(int.from_bytes(prefix[4:], "little")))

    def read(self, n_bytes):
        data = b""
        while len(data) < n_bytes:
            part = self.socket.recv(n_bytes - len(data))
            if not part:
                raise ConnectionResetError
            data += part
        return data

    def close(self):
        self.socket.close()


class ZmqClient:
    """Speaks the format over ZeroMQ."""

    def __init__(self, address):
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 1000
        self.socket.rcvtimeo = 5000
        self.socket.connect(address.removeprefix("zmq+"))

    def send(self, header, payload=b""):
        parts = [json.dumps(header).encode()]
        self.socket.send_multipart([*parts, payload] if payload else parts)

    def receive(self):
        return json.loads(self.socket.recv())

    def close(self):
        self.socket.close()
        self.context.term()


KINDS = {"tcp": TcpClient, "zmq+tcp": ZmqClient}


class Served:
    """A stream that a thread of its own listens to, as in a live recording."""

    def __init__(self, kind, **given):
        self.stream = open_stream(f"{kind}://127.0.0.1:0", **given)
        self.make_client = lambda: KINDS[kind](self.stream.address)
        self.facts = None
        self.got = []
        self.stop = False
        self.thread = threading.Thread(target=self.serve)

    def serve(self):
        self.facts = self.stream.open(lambda: self.stop)
        if self.facts is None:
            return
        for frame in self.stream.frames(0):
            if self.stop:
                return
            if frame is not None:
                self.got.append(frame)

    def wait_for(self, n_frames):
        until = time.monotonic() + 5
        while len(self.got) < n_frames and time.monotonic() < until:
            time.sleep(0.005)
        assert len(self.got) == n_frames


@pytest.fixture(params=KINDS)
def serve(request):
    """Start a stream and clients; end them."""
    opened = []

    def start(before=None, **given):
        served = Served(request.param, **given)
        if before is not None:
            before(served.stream)
        served.thread.start()
        make = served.make_client

        def client():
            opened.append(make())
            return opened[-1]

        served.make_client = client
        opened.append(served)
        return served

    yield start
    for each in opened:
        if isinstance(each, Served):
            each.stop = True
            each.thread.join()
            each.stream.close()
        else:
            each.close()


def send_frames(client, frames, first=0, **more):
    for i, frame in enumerate(frames):
        client.send({"type": "frame", "index": first + i, **more}, frame.tobytes())


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32"])
def test_frames_arrive_as_they_were_sent(serve, dtype):
    served, frames = serve(), frames_of(40, dtype)
    client = served.make_client()
    client.send(START | {"dtype": dtype})
    assert client.receive() == {"type": "ready", "version": 1, "next_index": 0}
    send_frames(client, frames)
    client.send({"type": "end"})
    served.thread.join(5)
    assert not served.thread.is_alive()
    assert served.facts == LiveFacts((Y, X), np.dtype(dtype).str, 20.0, 1.5, "slice")
    assert [frame.number for frame in served.got] == list(range(40))
    np.testing.assert_array_equal([frame.pixels for frame in served.got], frames)
    assert np.isnan([frame.time_s for frame in served.got]).all()


def test_numbers_and_times_of_the_sender_are_kept(serve):
    served, frames = serve(), frames_of(3)
    client = served.make_client()
    client.send(START)
    for index, time_s, frame in zip((0, 4, 5), (1.0, 1.5, 2), frames, strict=True):
        client.send({"type": "frame", "index": index, "time_s": time_s}, frame.tobytes())
    served.wait_for(3)
    assert [(frame.number, frame.time_s) for frame in served.got] == [(0, 1.0), (4, 1.5), (5, 2.0)]


def test_frames_without_a_number_are_counted(serve):
    served = serve()
    client = served.make_client()
    client.send(START)
    for frame in frames_of(3):
        client.send({"type": "frame"}, frame.tobytes())
    served.wait_for(3)
    assert [frame.number for frame in served.got] == [0, 1, 2]


def test_what_the_user_says_goes_before_what_the_client_says(serve):
    served = serve(frame_rate_hz=11.0, pixel_size_um=0.7)
    client = served.make_client()
    client.send(START)
    send_frames(client, frames_of(1))
    served.wait_for(1)
    assert (served.facts.frame_rate_hz, served.facts.pixel_size_um) == (11.0, 0.7)


def test_a_client_that_comes_back_is_told_where_to_go_on_and_repeats_are_ignored(serve):
    served, frames = serve(), frames_of(10)
    client = served.make_client()
    client.send(START)
    client.receive()
    send_frames(client, frames[:6])
    served.wait_for(6)
    client = served.make_client()
    client.send(START)
    assert client.receive()["next_index"] == 6
    send_frames(client, frames[3:], 3)
    served.wait_for(10)
    np.testing.assert_array_equal([frame.pixels for frame in served.got], frames)


def test_a_recording_that_was_interrupted_goes_on(serve):
    facts = LiveFacts((Y, X), "<u2", 20.0, None, "slice")
    served = serve(before=lambda stream: stream.expect(facts, 8))
    client = served.make_client()
    client.send(START)
    assert client.receive()["next_index"] == 8
    send_frames(client, frames_of(3), 8)
    served.wait_for(3)
    assert served.facts is facts
    assert [frame.number for frame in served.got] == [8, 9, 10]


def test_frames_of_another_size_do_not_go_on(serve):
    served = serve()
    served.make_client().send(START)
    other = served.make_client()
    time.sleep(0.1)
    other.send(START | {"rows": Y + 1})
    assert f"frames of {Y} x {X}" in other.receive()["message"]


def test_events_go_to_those_who_listen_and_to_no_one_else(serve):
    served = serve()
    client, listener = served.make_client(), served.make_client()
    client.send(START)
    client.receive()
    listener.send({"type": "listen"})
    time.sleep(0.2)
    for i in range(20):
        served.stream.publish({"type": "event", "id": f"roi_{i:04d}"})
    assert [listener.receive()["id"] for _ in range(20)] == [f"roi_{i:04d}" for i in range(20)]
    client.send(START)
    assert client.receive()["type"] == "ready"  # the first message after the answer to start


BAD = {
    "another version": (START | {"version": 2}, b"", "version is 2"),
    "no rows": ({k: v for k, v in START.items() if k != "rows"}, b"", "rows is None"),
    "too many columns": (START | {"columns": 10**9}, b"", "columns is 1000000000"),
    "rows as text": (START | {"rows": "24"}, b"", "rows is '24'"),
    "a type that is none": (START | {"dtype": "O"}, b"", "dtype is 'O'"),
    "a list as a type": (START | {"dtype": ["uint8"]}, b"", r"dtype is \['uint8'\]"),
    "no rate": (START | {"frame_rate_hz": 0}, b"", "frame_rate_hz is 0"),
    "a size of no pixel": (START | {"pixel_size_um": -1}, b"", "pixel_size_um is -1"),
    "a size beyond any float": (START | {"pixel_size_um": 10**400}, b"", "pixel_size_um is 10000"),
    "a name with a newline": (START | {"name": "a\nb"}, b"", "name must be"),
    "a frame before start": ({"type": "frame", "index": 0}, b"xx", "before start"),
    "an unknown message": ({"type": "hello"}, b"", "no message of type 'hello'"),
    "no type": ({"index": 3}, b"", "no type"),
    "a list": ([1, 2], b"", "no type"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_breaks_the_format_is_refused_in_words_and_others_go_on(serve, case):
    header, payload, words = BAD[case]
    served, frames = serve(), frames_of(2)
    bad = served.make_client()
    bad.send(header, payload)
    answer = bad.receive()
    assert answer["type"] == "error"
    assert re.search(words, answer["message"])
    assert list(served.stream.problems) == [answer["message"]]
    good = served.make_client()
    good.send(START)
    send_frames(good, frames)
    served.wait_for(2)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"index": -1}, "index"),
        ({"index": 1.5}, "index"),
        ({"index": True}, "index"),
        ({"time_s": "now"}, "time_s"),
        ({"time_s": float("inf")}, "time_s"),
        ({"time_s": 10**400}, "time_s"),
    ],
)
def test_a_frame_with_a_wrong_number_or_time_is_refused(serve, wrong, words):
    served = serve()
    client = served.make_client()
    client.send(START)
    client.receive()
    client.send({"type": "frame", "index": 0, **wrong}, frames_of(1)[0].tobytes())
    assert words in client.receive()["message"]
    assert served.got == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "does not begin with coc1"),
        (b"coc1" + (0).to_bytes(4, "little"), "header of 0 bytes"),
        (b"coc1" + (2**31).to_bytes(4, "little"), "header of 2147483648 bytes"),
        (b"coc1" + (4).to_bytes(4, "little") + b"{{{{", "not JSON"),
        (b"coc1" + (6).to_bytes(4, "little") + b"[" * 6, "not JSON"),
    ],
)
def test_bytes_that_are_no_message_end_the_connection_and_nothing_else(data, words):
    served = Served("tcp")
    served.thread.start()
    try:
        bad = served.make_client()
        bad.raw(data)
        assert words in bad.receive()["message"]
        with pytest.raises(ConnectionResetError):
            bad.receive()
        bad.close()
        good = served.make_client()
        # In pieces, as a network cuts them.
        text = json.dumps(START).encode()
        data = b"coc1" + len(text).to_bytes(4, "little") + text
        for at in range(0, len(data), 7):
            good.raw(data[at : at + 7])
        assert good.receive()["type"] == "ready"
        good.close()
    finally:
        served.stop = True
        served.thread.join()
        served.stream.close()


def test_more_connections_than_are_taken_are_closed_and_the_others_go_on():
    served = Served("tcp")
    served.thread.start()
    clients = [served.make_client()]
    try:
        clients[0].send(START)
        assert clients[0].receive()["type"] == "ready"
        clients += [served.make_client() for _ in range(70)]
        with pytest.raises(OSError):  # noqa: PT011 - closed, in the words of the system
            clients[-1].receive()
        send_frames(clients[0], frames_of(3))
        served.wait_for(3)
    finally:
        for client in clients:
            client.close()
        served.stop = True
        served.thread.join()
        served.stream.close()


def test_a_listener_that_does_not_read_is_let_go_and_keeps_nobody_waiting():
    served = Served("tcp")
    served.thread.start()
    try:
        client = served.make_client()
        client.send({"type": "listen"})
        time.sleep(0.2)
        began = time.monotonic()
        for _ in range(300):
            served.stream.publish({"type": "event", "id": "x" * 50_000})
        assert time.monotonic() - began < 2
        assert not any(each.listens for each in served.stream._clients)
        client.close()
    finally:
        served.stop = True
        served.thread.join()
        served.stream.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ("0.0.0.0:0", "same machine only"),
        ("example.org:5000", "same machine only"),
        ("127.0.0.1", "is no address"),
        ("127.0.0.1:no", "is no address"),
        ("127.0.0.1:99999", "is no address"),
        (":5555", "is no address"),
    ],
)
def test_addresses_that_make_no_sense_are_refused(kind, rest, words):
    with pytest.raises(RecordingError, match=words):
        open_stream(f"{kind}://{rest}")


@pytest.mark.parametrize("kind", KINDS)
def test_a_port_that_is_taken_is_an_error_in_one_line(kind):
    first = open_stream(f"{kind}://127.0.0.1:0")
    try:
        with pytest.raises(RecordingError, match="Give another port"):
            open_stream(first.address)
    finally:
        first.close()


def test_more_frames_than_wait_are_left_to_the_sender():
    stream = open_stream("tcp://127.0.0.1:0")
    client = TcpClient(stream.address)
    try:
        client.send(START)
        assert stream.open(lambda: False) is not None
        send_frames(client, frames_of(30))
        time.sleep(0.1)
        for _ in range(20):
            stream._serve(0.0)
        assert len(stream._ready) == 8
        got = [frame for frame in islice(stream.frames(0), 40) if frame is not None]
        assert [frame.number for frame in got] == list(range(30))
    finally:
        client.close()
        stream.close()
