"""The guarded door: HTTP on loopback for one user, with a token, and nothing trusted that comes in.

Python's own `http.server` does: one user, loopback, a dozen routes. So the base install holds it.
"""

import json
import logging
import math
import secrets
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qsl, unquote, urlsplit

import numpy as np

from cocuyo.core import AnyArray, CocuyoError

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
MAX_BODY_BYTES = 4 * 2**20
"""Largest body of a request: an outline of 100 000 corners is smaller."""
_MAX_TARGET = 4096
_PATIENCE_S = 60.0
"""A connection that says nothing for this long is closed, in seconds."""

_HEADERS = {
    # Nothing from elsewhere is loaded, nothing elsewhere may show or read this page.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class RequestError(Exception):
    """A request that cannot be answered; the status and a sentence go back as JSON.

    Parameters
    ----------
    status : HTTPStatus
        What HTTP calls it.
    message : str
        What was given, what was needed.
    """

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Request:
    """A request that came through the door.

    Attributes
    ----------
    method : str
        ``GET`` or ``POST``.
    path : tuple of str
        Parts of the path after the token.
    query : dict of str
        What follows the question mark.
    body : dict
        Decoded JSON; empty for ``GET``.
    """

    method: str
    path: tuple[str, ...]
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)

    def integer(self, name: str, *, low: int, high: int, default: int | None = None) -> int:
        """Read a whole number of the query.

        Parameters
        ----------
        name : str
            Its name.
        low, high : int
            Smallest and largest that make sense.
        default : int, optional
            Where it is left out; without it, it must be there.

        Returns
        -------
        int
            The number.

        Raises
        ------
        RequestError
            If it is absent, no whole number, or out of range.
        """
        text = self.query.get(name)
        if text is None and default is not None:
            return default
        try:
            value = int(text or "")
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            msg = f"{name} is {text!r}; it must be a whole number from {low} to {high}."
            raise RequestError(HTTPStatus.BAD_REQUEST, msg)
        return value

    def text(self, name: str, *, longest: int = 4096, default: str | None = None) -> str:
        """Read a text of the body.

        Parameters
        ----------
        name : str
            Its name.
        longest : int, default: 4096
            Most characters.
        default : str, optional
            Where it is left out; without it, it must be there.

        Returns
        -------
        str
            The text.

        Raises
        ------
        RequestError
            If it is absent, no text, or too long.
        """
        value = self.body.get(name, default)
        if not isinstance(value, str) or len(value) > longest or "\0" in value:
            msg = f"{name} must be a text of at most {longest} characters."
            raise RequestError(HTTPStatus.BAD_REQUEST, msg)
        return value

    def number(self, name: str) -> float | None:
        """Read a positive number of the body; None where it is left out or null.

        Parameters
        ----------
        name : str
            Its name.

        Returns
        -------
        float or None
            The number.

        Raises
        ------
        RequestError
            If it is no positive finite number.
        """
        value = self.body.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not _positive(value):
            msg = f"{name} is {value!r}; it must be a positive number."
            raise RequestError(HTTPStatus.BAD_REQUEST, msg)
        return float(value)


def _positive(value: float) -> bool:
    try:
        return math.isfinite(value) and value > 0
    except OverflowError:  # a whole number beyond any float
        return False


@dataclass(frozen=True)
class Response:
    """An answer.

    Attributes
    ----------
    body : bytes
        What is sent.
    media_type : str
        What it is.
    """

    body: bytes
    media_type: str

    @classmethod
    def json(cls, content: Any) -> "Response":
        """Answer in JSON.

        Parameters
        ----------
        content : object
            Plain JSON with finite numbers.

        Returns
        -------
        Response
            The answer.
        """
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return cls(text.encode(), "application/json; charset=utf-8")

    @classmethod
    def arrays(cls, head: Mapping[str, Any], arrays: Mapping[str, AnyArray]) -> "Response":
        """Answer with arrays that JavaScript reads without copying.

        Length of the head in four bytes, the head as JSON (``arrays`` says name, type, shape and
        place of each), then the arrays, little endian, each at a multiple of eight bytes.

        Parameters
        ----------
        head : mapping
            Plain JSON.
        arrays : mapping of str to ndarray
            The arrays.

        Returns
        -------
        Response
            The answer.
        """
        packed, listed, place = [], [], 0
        for name, array in arrays.items():
            little = np.ascontiguousarray(array, np.asarray(array).dtype.newbyteorder("<"))
            data = little.tobytes()
            listed.append(
                {
                    "name": name,
                    "type": str(little.dtype.name),
                    "shape": list(little.shape),
                    "start": place,
                }
            )
            padded = data + b"\0" * (-len(data) % 8)
            packed.append(padded)
            place += len(padded)
        text = json.dumps({**head, "arrays": listed}, allow_nan=False).encode()
        text += b" " * (-(len(text) + 4) % 8)
        body = b"".join([struct.pack("<I", len(text)), text, *packed])
        return cls(body, "application/octet-stream")


Answer = Callable[[Request], Response]


class Server(ThreadingHTTPServer):
    """A server on loopback that answers whoever knows its token.

    Parameters
    ----------
    answer : callable
        Answers the requests that came through.
    port : int, default: 0
        Port to listen on; 0 lets the system choose.
    """

    daemon_threads = True
    # On Windows a second program could take over a port that may be reused.
    allow_reuse_address = False

    def __init__(self, answer: Answer, *, port: int = 0) -> None:
        self.answer = answer
        self.token = secrets.token_urlsafe(24)
        self.closed = False
        super().__init__((LOOPBACK, port), _Door)
        number = self.server_address[1]
        self.hosts = frozenset(f"{name}:{number}" for name in (LOOPBACK, "localhost"))
        self.origins = frozenset(f"http://{host}" for host in self.hosts)

    @property
    def url(self) -> str:
        """Where the page is, token included."""
        return f"http://{LOOPBACK}:{self.server_address[1]}/{self.token}/"

    def server_close(self) -> None:
        """Answer no more, on connections that are open neither."""
        self.closed = True
        super().server_close()

    def server_bind(self) -> None:
        """Bind without asking a name server for the name of this machine."""
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = LOOPBACK, self.server_address[1]


class _Door(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "cocuyo"
    sys_version = ""
    timeout = _PATIENCE_S
    disable_nagle_algorithm = True
    _kinds: ClassVar = {"GET", "POST"}

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        if self.server.closed:
            self.close_connection = True
            return
        try:
            response, status = self.server.answer(self._admit()), HTTPStatus.OK
        except RequestError as error:
            response, status = _refusal(str(error)), error.status
        except CocuyoError as error:
            response, status = _refusal(str(error)), HTTPStatus.UNPROCESSABLE_ENTITY
        except Exception:
            # A bug: the log has its traceback, the browser is told no more than that.
            logger.exception("%s %s", self.command, self._shown())
            response = _refusal("cocuyo failed; the terminal in which it runs says more.")
            status = HTTPStatus.INTERNAL_SERVER_ERROR
        if status != HTTPStatus.OK:
            self.close_connection = True  # what is left of the body is not read
        self._send(response, status)

    def _admit(self) -> Request:
        """Let a request in, or refuse it before anything of it is used."""
        server, headers = self.server, self.headers
        if len(self.path) > _MAX_TARGET:
            raise RequestError(HTTPStatus.REQUEST_URI_TOO_LONG, "The address is too long.")
        hosts = headers.get_all("Host", [])
        if len(hosts) != 1 or hosts[0].lower() not in server.hosts:
            # Another name for this machine: how a page elsewhere would reach in.
            msg = f"Ask for this page at {LOOPBACK} or localhost."
            raise RequestError(HTTPStatus.FORBIDDEN, msg)
        if any(origin not in server.origins for origin in headers.get_all("Origin", [])):
            raise RequestError(HTTPStatus.FORBIDDEN, "Requests from other pages are refused.")
        if headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise RequestError(HTTPStatus.FORBIDDEN, "Requests from other pages are refused.")
        try:
            address = urlsplit(self.path)
            query = dict(parse_qsl(address.query, keep_blank_values=True, max_num_fields=32))
        except ValueError:
            raise RequestError(HTTPStatus.BAD_REQUEST, "The address is malformed.") from None
        token, *rest = address.path.removeprefix("/").split("/")
        if not secrets.compare_digest(token.encode(), server.token.encode()):
            msg = "The address needs the token that cocuyo printed; open that one."
            raise RequestError(HTTPStatus.FORBIDDEN, msg)
        path = tuple(unquote(part) for part in rest)
        return Request(self.command, path, query, self._body())

    def _body(self) -> Mapping[str, Any]:
        if self.command != "POST":
            return {}
        if "Transfer-Encoding" in self.headers:
            raise RequestError(HTTPStatus.LENGTH_REQUIRED, "Say the length of the request.")
        if self.headers.get_content_type() != "application/json":
            raise RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send application/json.")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal() and len(length) < 12):
            raise RequestError(HTTPStatus.LENGTH_REQUIRED, "Say the length of the request.")
        if int(length) > MAX_BODY_BYTES:
            msg = f"The request has {length} bytes; at most {MAX_BODY_BYTES} are taken."
            raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, msg)
        try:
            content = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            raise RequestError(HTTPStatus.BAD_REQUEST, "The request is not JSON.") from None
        if not isinstance(content, dict):
            raise RequestError(HTTPStatus.BAD_REQUEST, "Send a JSON object.")
        return content

    def _send(self, response: Response, status: HTTPStatus) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", response.media_type)
            self.send_header("Content-Length", str(len(response.body)))
            if self.close_connection:
                self.send_header("Connection", "close")
            for name, value in _HEADERS.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(response.body)
        except (BrokenPipeError, ConnectionError, TimeoutError):  # the browser went on
            self.close_connection = True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is no proper request in JSON too."""
        self.close_connection = True
        status = HTTPStatus(code)
        self._send(_refusal(f"{message or status.phrase}."), status)

    def _shown(self) -> str:
        """Give the address for the log, without the token."""
        return self.path.replace(self.server.token, "...")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the parent's name
        """Write no line for each request: it would hold the token."""


def _refusal(message: str) -> Response:
    return Response.json({"error": message})
