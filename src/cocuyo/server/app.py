"""What the server answers: the page, the folder's contents, results, frames, traces, edits."""

import threading
from collections.abc import Callable
from http import HTTPStatus
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from cocuyo.core import AnyArray, Recording, Result, ResultError
from cocuyo.io import is_result, reopen_recording
from cocuyo.server.exports import FORMATS, export_session
from cocuyo.server.frames import KINDS, Frames, MovieKind
from cocuyo.server.session import PROJECTIONS, Session
from cocuyo.server.web import Request, RequestError, Response
from cocuyo.server.workspace import Workspace

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_UNITS = {"probability": "", "correlation": "", "contrast": "sd"}
_MOST_FRAMES = 64  # in one answer


class App:
    """Everything behind the door.

    Parameters
    ----------
    root : Path
        Folder of which the page may see; that of the result where only one was opened.
    result : Path, optional
        Result folder to show at once.
    recording : callable, optional
        Opens the recording of that result in place of the one it names.
    """

    def __init__(
        self,
        root: Path,
        *,
        result: Path | None = None,
        recording: Callable[[Result], Recording] | None = None,
    ) -> None:
        self.workspace = Workspace(root)
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()
        self._files = _page_files()
        self._only: str | None = None
        if result is not None:
            self._only = self._open(result, recording)

    def __call__(self, request: Request) -> Response:
        """Answer a request."""
        match request.method, request.path:
            case "GET", ("",):
                return self._file("index.html")
            case "GET", ("page", name):
                return self._file(name)
            case method, ("api", *rest):
                answer = self._api(method, tuple(rest), request)
                return answer if isinstance(answer, Response) else Response.json(answer)
        raise _not_found()

    def _file(self, name: str) -> Response:
        """Give one of the page's own files: no path is made of what the browser says."""
        if name not in self._files:
            raise _not_found()
        return self._files[name]

    def _api(  # noqa: PLR0911 - one return for each address
        self, method: str, path: tuple[str, ...], request: Request
    ) -> Any:
        match method, path:
            case "GET", ("start",):
                jobs = [job.describe() for job in self.workspace.running()]
                return {
                    "result": self._only,
                    "root": str(self.workspace.root),
                    "jobs": jobs,
                }
            case "GET", ("browse",):
                self._need_workspace()
                return self.workspace.browse(request.query.get("path", ""))
            case "POST", ("inspect",):
                self._need_workspace()
                return self.workspace.inspect(request)
            case "POST", ("run",):
                self._need_workspace()
                return self.workspace.start(request).describe()
            case "GET", ("runs", key):
                return self.workspace.job(key).describe()
            case "POST", ("runs", key, "stop"):
                job = self.workspace.job(key)
                job.stop.set()
                return job.describe()
            case "POST", ("open",):
                self._need_workspace()
                return {"result": self._open(self.workspace.locate(request.text("path")))}
            case _, ("results", key, *rest):
                if key not in self._sessions:
                    msg = "This result is not open (any longer); open it again."
                    raise RequestError(HTTPStatus.NOT_FOUND, msg)
                return self._of_result(self._sessions[key], method, tuple(rest), request)
        raise _not_found()

    def _need_workspace(self) -> None:
        if self._only is not None:
            msg = "One result was opened; start cocuyo view with a folder to choose from it."
            raise RequestError(HTTPStatus.FORBIDDEN, msg)

    def _open(self, folder: Path, recording: Callable[[Result], Recording] | None = None) -> str:
        if not is_result(folder):
            msg = f"{folder.name} is no finished result of cocuyo."
            raise ResultError(msg)
        folder = folder.resolve()
        with self._lock:
            for key, session in self._sessions.items():
                if session.folder == folder:
                    return key
            key = f"r{len(self._sessions) + 1}"
            opener = recording or (lambda result: reopen_recording(result, folder))
            self._sessions[key] = Session(folder, opener)
            return key

    def _of_result(  # noqa: PLR0911 - one return for each address
        self, session: Session, method: str, path: tuple[str, ...], request: Request
    ) -> Any:
        match method, path:
            case "GET", ("facts",):
                return {**session.facts(), "formats": [list(each) for each in FORMATS.items()]}
            case "GET", ("changes",):
                return session.changes(request.integer("since", low=0, high=2**53, default=0))
            case "GET", ("times",):
                return Response.arrays({}, {"times": session.times()})
            case "GET", ("trace", name):
                head, arrays = session.trace(name)
                return Response.arrays(head, arrays)
            case "GET", ("image", name):
                return _image(session, name)
            case "GET", ("frames", kind):
                return _frames(session, kind, request)
            case "POST", ("edits",):
                return session.act(dict(request.body))
            case "POST", ("export",):
                overwrite = request.body.get("overwrite") is True
                written = export_session(session, request.text("format"), overwrite=overwrite)
                return {"written": str(written)}
        raise _not_found()


def _not_found() -> RequestError:
    return RequestError(HTTPStatus.NOT_FOUND, "There is nothing at this address.")


def _page_files() -> dict[str, Response]:
    """Read the files of the page; they are small and few."""
    folder = resources.files("cocuyo.server") / "page"
    return {
        file.name: Response(file.read_bytes(), _TYPES[Path(file.name).suffix])
        for file in folder.iterdir()
        if Path(file.name).suffix in _TYPES
    }


def _need_movie(session: Session) -> Frames:
    if session.frames is None:
        raise RequestError(HTTPStatus.CONFLICT, f"There is no movie. {session.no_movie}")
    return session.frames


def _frames(session: Session, name: str, request: Request) -> Response:
    frames = _need_movie(session)
    kind: MovieKind | None = next((kind for kind in KINDS if kind == name), None)
    if kind is None:
        raise _not_found()
    last = frames.n_frames - 1
    start = request.integer("start", low=0, high=last)
    count = request.integer("count", low=1, high=_MOST_FRAMES, default=1)
    step = request.integer("step", low=1, high=10_000, default=1)
    values = frames.read(kind, start, min(start + count * step, last + 1), step=step)
    scale = frames.scale(kind)
    head = {name: getattr(scale, name) for name in ("offset", "step", "low", "high", "unit")}
    return Response.arrays({**head, "start": start, "every": step}, {"frames": values})


def _image(session: Session, name: str) -> Response:
    if name not in PROJECTIONS:
        raise _not_found()
    head: dict[str, Any] = {"unit": _UNITS.get(name, "counts"), "note": ""}
    image: AnyArray
    if name == "probability":
        image = session.result.probability
    elif name in session.result.projections:
        image = session.result.projections[name]
    elif session.deviation is not None and name in ("std", "correlation"):
        image = session.deviation.image(name)
        used, n = session.deviation.n_frames_used, session.result.n_frames
        head["note"] = f"from {used} of {n} frames" if used < n else ""
    else:
        raise RequestError(HTTPStatus.CONFLICT, f"There is no movie. {session.no_movie}")
    valid = session.result.valid & np.isfinite(image)
    inside = image[valid] if valid.any() else np.zeros(1, np.float32)
    low, high = (float(v) for v in np.percentile(inside, [1.0, 99.7]))
    if name == "probability":
        low, high = 0.0, 1.0
    head |= {"low": low, "high": max(high, low + 1e-6)}
    return Response.arrays(head, {"image": np.nan_to_num(image).astype(np.float32)})
