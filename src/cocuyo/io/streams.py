"""Frames that arrive over TCP or ZeroMQ on this machine, and events that go back.

The format is in ``docs/reference/live.md``. Everything that arrives is checked: a client that
breaks the format is told so and let go, and the recording goes on.
"""

import json
import math
import select
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from cocuyo.core import FRAME_RATE_LIMITS_HZ, MissingExtraError, RecordingError
from cocuyo.io.live import LiveFacts, LiveFrame
from cocuyo.io.sources import plausible_pixel_size

VERSION = 1
MAGIC = b"coc1"
"""Begins each message over TCP; four bytes of the header's length follow, little-endian."""
_PREFIX = len(MAGIC) + 4
_MAX_HEADER = 65536
_TYPES = ("uint8", "uint16", "int16", "uint32", "int32", "float32")
_SIDES = (8, 16384)
_WAIT_S = 0.02
_MAX_UNSENT = 2**22
"""Bytes that wait for a listener; one that reads more slowly is let go."""
_MAX_WAITING = 8
"""Frames received and not yet taken; then no more are read and the sender has to wait."""
_MOST_CLIENTS = 64
"""Connections at a time; `select` takes about 1000 files of the whole process, on Windows 512."""
_MOST_PROBLEMS = 100
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class _BadMessage(Exception):  # noqa: N818 - a finding, not a failure
    """What a client did wrong."""


def is_stream(source: str) -> bool:
    """Say whether a source is the address of a stream.

    Parameters
    ----------
    source : str
        What the user gave.

    Returns
    -------
    bool
        True for ``tcp://...`` and ``zmq+tcp://...``.
    """
    return source.startswith(("tcp://", "zmq+tcp://"))


def open_stream(
    address: str, *, frame_rate_hz: float | None = None, pixel_size_um: float | None = None
) -> "TcpStream | ZmqStream":
    """Listen at an address of this machine.

    Parameters
    ----------
    address : str
        ``tcp://127.0.0.1:PORT`` or ``zmq+tcp://127.0.0.1:PORT``; port 0 takes a free one.
    frame_rate_hz, pixel_size_um : float, optional
        In place of what the client says.

    Returns
    -------
    TcpStream or ZmqStream
        The source.

    Raises
    ------
    RecordingError
        If the address is of no such form, not of this machine, or taken.
    MissingExtraError
        If ZeroMQ is asked for and not installed.
    """
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or port is None or parts.path not in ("", "/"):
        msg = f"{address} is no address; give tcp://127.0.0.1:PORT or zmq+tcp://127.0.0.1:PORT."
        raise RecordingError(msg)
    if host not in _LOOPBACK:
        msg = (
            f"{address}: cocuyo takes frames from programs on the same machine only, as nobody is "
            "asked for a password; give 127.0.0.1, and a tunnel (ssh -L) for another machine."
        )
        raise RecordingError(msg)
    kind = ZmqStream if parts.scheme == "zmq+tcp" else TcpStream
    return kind(host, port, given=(frame_rate_hz, pixel_size_um))


class _Stream(ABC):
    """What both kinds share: the order of messages, and what is in them."""

    scheme = "tcp"

    def __init__(self, given: tuple[float | None, float | None]) -> None:
        self._given = given
        self._facts: LiveFacts | None = None
        self._frame_bytes = 0
        self._next = 0
        self._ready: deque[LiveFrame] = deque()
        self._ended = False
        self.problems: deque[str] = deque(maxlen=_MOST_PROBLEMS)

    @property
    @abstractmethod
    def address(self) -> str:
        """Where clients connect to."""

    def open(self, stopped: Callable[[], bool]) -> LiveFacts | None:
        """Wait for a client that says what its frames are; None if `stopped` said so before."""
        while self._facts is None and not self._ended:
            if stopped():
                return None
            self._serve(_WAIT_S)
        return self._facts

    def expect(self, facts: LiveFacts, next_index: int) -> None:
        """Go on with a recording that was interrupted.

        Parameters
        ----------
        facts : LiveFacts
            What its frames are.
        next_index : int
            Number of the first frame that is not there yet.
        """
        self._take_facts(facts)
        self._next = next_index

    def frames(self, start: int) -> Iterator[LiveFrame | None]:
        """Give the frames as they arrive; None where none is there."""
        while True:
            if self._ready:
                yield self._ready.popleft()
                continue
            if self._ended:
                return
            self._serve(_WAIT_S)
            if not self._ready:
                yield None

    @abstractmethod
    def _serve(self, wait_s: float) -> None:
        """Take what clients send, for at most so long."""

    def _take_facts(self, facts: LiveFacts) -> None:
        rows, columns = facts.frame_shape
        self._facts = facts
        self._frame_bytes = rows * columns * np.dtype(facts.dtype).itemsize

    def _take_start(self, header: dict[str, Any]) -> dict[str, Any]:
        """Check a ``start`` and give the answer."""
        facts = _read_start(header, self._given)
        if self._facts is None:
            self._take_facts(facts)
        elif (facts.frame_shape, facts.dtype) != (self._facts.frame_shape, self._facts.dtype):
            rows, columns = self._facts.frame_shape
            what = f"this recording has frames of {rows} x {columns} ({self._facts.dtype})"
            raise _BadMessage(what)
        return {"type": "ready", "version": VERSION, "next_index": self._next}

    def _payload_bytes(self, header: dict[str, Any]) -> int:
        """Size of what follows a header."""
        if header["type"] != "frame":
            return 0
        if self._facts is None:
            what = "a frame came before start"
            raise _BadMessage(what)
        return self._frame_bytes

    def _take_frame(self, header: dict[str, Any], payload: bytes | bytearray | memoryview) -> None:
        assert self._facts is not None
        if len(payload) != self._frame_bytes:
            what = f"a frame has {len(payload)} bytes; start promised {self._frame_bytes}"
            raise _BadMessage(what)
        index = header.get("index", self._next)
        time_s = header.get("time_s")
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < 2**53:
            what = f"index is {index!r}; it must be a whole number from 0"
            raise _BadMessage(what)
        if time_s is not None and not _is_number(time_s):
            what = f"time_s is {time_s!r}; it must be a number"
            raise _BadMessage(what)
        if index < self._next:
            return  # sent again after an interruption
        stored = np.dtype(self._facts.dtype)
        pixels = np.frombuffer(payload, stored).reshape(self._facts.frame_shape)
        self._next = index + 1
        self._ready.append(LiveFrame(index, np.nan if time_s is None else float(time_s), pixels))


def _read_header(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        what = "a header is not JSON"
        raise _BadMessage(what) from None
    if not isinstance(header, dict) or not isinstance(header.get("type"), str):
        what = "a header has no type"
        raise _BadMessage(what)
    return header


def _is_number(value: object) -> bool:
    """Say whether a value of a header is a finite number that fits a float."""
    try:
        return not isinstance(value, bool) and math.isfinite(value)  # type: ignore[arg-type]
    except (TypeError, OverflowError):
        return False


def _read_start(header: dict[str, Any], given: tuple[float | None, float | None]) -> LiveFacts:
    """Check what a client says of its frames."""
    if header.get("version") != VERSION:
        what = f"version is {header.get('version')!r}; this cocuyo speaks version {VERSION}"
        raise _BadMessage(what)
    for key in ("rows", "columns"):
        value = header.get(key)
        if not isinstance(value, int) or not _SIDES[0] <= value <= _SIDES[1]:
            what = f"{key} is {value!r}; it must be a number from {_SIDES[0]} to {_SIDES[1]}"
            raise _BadMessage(what)
    if header.get("dtype") not in _TYPES:
        what = f"dtype is {header.get('dtype')!r}; it must be one of {', '.join(_TYPES)}"
        raise _BadMessage(what)
    low, high = FRAME_RATE_LIMITS_HZ
    rate, size = header.get("frame_rate_hz"), header.get("pixel_size_um")
    if rate is not None and not (_is_number(rate) and low <= rate <= high):
        what = f"frame_rate_hz is {rate!r}; it must be {low:g} to {high:g} frames per second"
        raise _BadMessage(what)
    if size is not None and not (_is_number(size) and plausible_pixel_size(float(size))):
        what = f"pixel_size_um is {size!r}; it must be the side of a pixel in µm"
        raise _BadMessage(what)
    name = header.get("name", "recording")
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= 200:
        what = "name must be a short text"
        raise _BadMessage(what)
    stored = np.dtype(header["dtype"]).newbyteorder("<")
    return LiveFacts(
        (header["rows"], header["columns"]),
        stored.str,
        given[0] or (None if rate is None else float(rate)),
        given[1] or (None if size is None else float(size)),
        name,
    )


# --- TCP ---------------------------------------------------------------------------------------


class _Client:
    """One connection: what has arrived of the present message, and what is still to be sent."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection = connection
        self.listens = False
        self._unsent = bytearray()
        self.in_header = False
        self.header: dict[str, Any] | None = None
        self._lock = threading.Lock()
        self.expect(_PREFIX)

    def expect(self, n_bytes: int) -> None:
        """Prepare for the next part of a message."""
        self.part = bytearray(n_bytes)
        self.n_got = 0

    def receive(self) -> bool:
        """Take what is there; True where the part is whole. Raises at the end of the connection."""
        while self.n_got < len(self.part):
            try:
                n = self.connection.recv_into(memoryview(self.part)[self.n_got :])
            except (BlockingIOError, InterruptedError):
                return False
            if n == 0:
                raise ConnectionResetError
            self.n_got += n
        return True

    def send(self, data: bytes) -> None:
        """Send as much as the connection takes, the rest later; raises where too much waits."""
        with self._lock:
            self._unsent += data
            try:
                while self._unsent:
                    n = self.connection.send(self._unsent)
                    del self._unsent[:n]
            except (BlockingIOError, InterruptedError):
                if len(self._unsent) > _MAX_UNSENT:
                    raise ConnectionResetError from None


class TcpStream(_Stream):
    """Frames over TCP: cocuyo listens, a client connects and sends.

    Parameters
    ----------
    host : str
        Address of this machine.
    port : int
        Port; 0 takes a free one.
    given : tuple of (float or None)
        Frame rate and pixel size in place of what the client says.
    """

    def __init__(
        self, host: str, port: int, *, given: tuple[float | None, float | None] = (None, None)
    ) -> None:
        super().__init__(given)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._server = socket.socket(family, socket.SOCK_STREAM)
        try:
            # After a kill the port is free at once; on Windows the option would let two share it.
            if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
                self._server.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
            else:
                self._server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._server.bind((host, port))
            self._server.listen(8)
        except (OSError, OverflowError) as error:
            self._server.close()
            raise _cannot_listen(self.scheme, host, port, error) from error
        self._server.setblocking(False)
        self._host = f"[{host}]" if ":" in host else host
        self._clients: list[_Client] = []

    @property
    def address(self) -> str:
        """Where clients connect to."""
        return f"tcp://{self._host}:{self._server.getsockname()[1]}"

    def publish(self, message: dict[str, Any]) -> None:
        """Send a message to all clients that listen; one that has gone is forgotten."""
        data = _pack(message)
        for client in list(self._clients):
            if client.listens:
                try:
                    client.send(data)
                except OSError:
                    client.listens = False

    def close(self) -> None:
        """Let all connections go."""
        for client in list(self._clients):
            self._drop(client)
        self._server.close()

    def _drop(self, client: _Client) -> None:
        self._clients.remove(client)
        client.connection.close()

    def _serve(self, wait_s: float) -> None:
        sockets = {client.connection: client for client in self._clients}
        readable, _, _ = select.select([self._server, *sockets], [], [], wait_s)
        for ready in readable:
            if ready is self._server:
                self._welcome()
            else:
                self._hear(sockets[ready])

    def _welcome(self) -> None:
        try:
            connection = self._server.accept()[0]
            if len(self._clients) >= _MOST_CLIENTS:
                connection.close()
            else:
                self._clients.append(_Client(connection))
        except OSError:  # it is gone again, or no file is free: those who are there go on
            return

    def _hear(self, client: _Client) -> None:
        try:
            while len(self._ready) < _MAX_WAITING and client.receive():
                self._advance(client)
        except _BadMessage as bad:
            self.problems.append(str(bad))
            with suppress(OSError):
                client.send(_pack({"type": "error", "message": str(bad)}))
            self._drop(client)
        except OSError:
            self._drop(client)

    def _advance(self, client: _Client) -> None:
        """A part of a message is whole: prefix, header or payload."""
        if client.header is not None:
            self._take_frame(client.header, client.part)
            client.header = None
            client.expect(_PREFIX)
            return
        if len(client.part) == _PREFIX and client.part.startswith(MAGIC):
            n_bytes = int.from_bytes(client.part[len(MAGIC) :], "little")
            if not 0 < n_bytes <= _MAX_HEADER:
                what = f"a header of {n_bytes} bytes is announced; it has at most {_MAX_HEADER}"
                raise _BadMessage(what)
            client.expect(n_bytes)
            client.in_header = True
            return
        if not client.in_header:
            what = f"a message does not begin with {MAGIC.decode()}"
            raise _BadMessage(what)
        client.in_header = False
        header = _read_header(bytes(client.part))
        n_bytes = self._payload_bytes(header)
        if n_bytes:
            client.header = header
            client.expect(n_bytes)
            return
        client.expect(_PREFIX)
        if header["type"] == "start":
            client.send(_pack(self._take_start(header)))
        elif header["type"] == "listen":
            client.listens = True
        elif header["type"] == "end":
            self._ended = True
        else:
            what = f"there is no message of type {header['type']!r}"
            raise _BadMessage(what)


def _pack(message: dict[str, Any]) -> bytes:
    text = json.dumps(message, ensure_ascii=False).encode()
    return MAGIC + len(text).to_bytes(4, "little") + text


def _cannot_listen(scheme: str, host: str, port: int, error: Exception) -> RecordingError:
    reason = getattr(error, "strerror", None) or error
    return RecordingError(
        f"cocuyo cannot listen at {scheme}://{host}:{port}: {reason}. Give another port."
    )


# --- ZeroMQ ------------------------------------------------------------------------------------


class ZmqStream(_Stream):
    """Frames over ZeroMQ: cocuyo binds a ROUTER socket, clients connect DEALER sockets.

    Parameters
    ----------
    host : str
        Address of this machine.
    port : int
        Port; 0 takes a free one.
    given : tuple of (float or None)
        Frame rate and pixel size in place of what the client says.
    """

    scheme = "zmq+tcp"

    def __init__(
        self, host: str, port: int, *, given: tuple[float | None, float | None] = (None, None)
    ) -> None:
        super().__init__(given)
        try:
            import zmq
        except ImportError as error:
            msg = f'ZeroMQ needs the extra "live": pip install "cocuyo[live]" ({error}).'
            raise MissingExtraError(msg) from error
        self._zmq = zmq
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 500
        self._socket.maxmsgsize = _SIDES[1] ** 2 * 4
        # A socket belongs to one thread: what is published reaches the receiving one through these.
        self._inbox = self._context.socket(zmq.PAIR)
        self._outbox = self._context.socket(zmq.PAIR)
        try:
            self._socket.bind(f"tcp://{host}:{port or '*'}")
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise _cannot_listen(self.scheme, host, port, error) from error
        self._inbox.linger = self._outbox.linger = 0
        self._inbox.bind("inproc://published")
        self._outbox.connect("inproc://published")
        self._listeners: set[bytes] = set()

    @property
    def address(self) -> str:
        """Where clients connect to."""
        return "zmq+" + self._socket.getsockopt_string(self._zmq.LAST_ENDPOINT).rstrip("\0")

    def publish(self, message: dict[str, Any]) -> None:
        """Send a message to all clients that listen; always from one and the same thread."""
        try:
            text = json.dumps(message, ensure_ascii=False).encode()
            self._outbox.send(text, self._zmq.NOBLOCK)
        except self._zmq.ZMQError:  # nobody takes what is published any more
            pass

    def close(self) -> None:
        """Send what is left and let the sockets go."""
        self._pass_on()
        for each in (self._outbox, self._inbox, self._socket):
            each.close()
        self._context.term()

    def _serve(self, wait_s: float) -> None:
        zmq = self._zmq
        until = time.monotonic() + wait_s
        while True:
            left_ms = max(0, round(1000 * (until - time.monotonic())))
            readable, _, _ = zmq.select([self._socket, self._inbox], [], [], left_ms / 1000)
            if self._inbox in readable:
                self._pass_on()
            if self._socket in readable:
                for _ in range(_MAX_WAITING):
                    try:
                        self._hear(self._socket.recv_multipart(zmq.NOBLOCK))
                    except zmq.Again:
                        break
                return
            if left_ms == 0:
                return

    def _pass_on(self) -> None:
        zmq = self._zmq
        while True:
            try:
                text = self._inbox.recv(zmq.NOBLOCK)
            except zmq.ZMQError:
                return
            for listener in list(self._listeners):
                try:
                    self._socket.send_multipart([listener, text], zmq.NOBLOCK)
                except zmq.ZMQError:
                    self._listeners.discard(listener)

    def _hear(self, parts: list[bytes]) -> None:
        sender, *rest = parts
        try:
            self._take(sender, rest)
        except _BadMessage as bad:
            self.problems.append(str(bad))
            self._answer(sender, {"type": "error", "message": str(bad)})

    def _take(self, sender: bytes, rest: list[bytes]) -> None:
        if not rest or len(rest[0]) > _MAX_HEADER:
            what = "a message has no header, or one that is too long"
            raise _BadMessage(what)
        header = _read_header(rest[0])
        n_bytes = self._payload_bytes(header)
        if len(rest) != (2 if n_bytes else 1):
            what = f"a message of type {header['type']!r} has {len(rest)} parts"
            raise _BadMessage(what)
        if header["type"] == "frame":
            self._take_frame(header, rest[1])
        elif header["type"] == "start":
            self._answer(sender, self._take_start(header))
        elif header["type"] == "listen":
            self._listeners.add(sender)
        elif header["type"] == "end":
            self._ended = True
        else:
            what = f"there is no message of type {header['type']!r}"
            raise _BadMessage(what)

    def _answer(self, sender: bytes, message: dict[str, Any]) -> None:
        text = json.dumps(message, ensure_ascii=False).encode()
        with suppress(self._zmq.ZMQError):
            self._socket.send_multipart([sender, text], self._zmq.NOBLOCK)
