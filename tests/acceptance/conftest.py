"""The command line as a user drives it, and small recordings to drive it on."""

import csv
import hashlib
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import roifile
import tifffile

from cocuyo import Result
from cocuyo.cli import run_command_line
from cocuyo.simulation import PRESETS, simulate

# No networks: shipped or not, they play no part in what is said here.
RUN = ("run", "--preset", "srname")
KNOWN = ("--frame-rate", "6.67", "--pixel-size", "1.5")

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it said."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that says what went wrong, after nothing but progress."""
        *before, last = self.err.splitlines()
        assert self.err.endswith("\n")
        assert last.startswith("cocuyo: error: "), self.err
        for line in before:
            assert re.match(
                r"[a-z ]+( \(recording \d+ of \d+\))?: \d+ of \d+|\d+ frames of \d+ x \d+.*: about",
                line,
            ), self.err
        return last.removeprefix("cocuyo: error: ")


def _state_of(folder: Path) -> dict[str, tuple[int, str]]:
    """Say what lies in a folder: each file with its time and the hash of its content."""
    return {
        str(path.relative_to(folder)): (
            (0, "folder")
            if path.is_dir()
            else (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        )
        for path in sorted(folder.rglob("*"))
    }


class Folder:
    """A result folder, read file by file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @staticmethod
    def documented_files() -> set[str]:
        """Name the files that the documentation says a run writes."""
        page = (REFERENCE / "result-folder.md").read_text("utf-8")
        files = page.partition("## Files")[2].partition("\n### ")[0]
        names = set(re.findall(r"^\| `([^`]+)` \|", files, re.M))
        assert "edits.jsonl" in names  # written by whoever curates, not by a run
        return names - {"edits.jsonl"}

    @property
    def files(self) -> set[str]:
        """Names of what lies in the folder."""
        return {path.name for path in self.path.iterdir()}

    @property
    def record(self) -> dict[str, object]:
        """Content of ``run.json``."""
        return json.loads((self.path / "run.json").read_text("utf-8"))

    @property
    def result(self) -> Result:
        """The whole, as Python loads it."""
        return Result.load(self.path)

    def image(self, name: str) -> np.ndarray:
        """Read a TIFF."""
        return tifffile.imread(self.path / name)

    def table(self, name: str) -> tuple[list[str], list[list[str]]]:
        """Give the header and the rows of a table."""
        with (self.path / name).open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        return header, rows

    def traces(self, name: str = "traces_raw.csv") -> np.ndarray:
        """Give the values of a table of traces, (n_rois, n_frames)."""
        header, rows = self.table(name)
        return np.array(rows, np.float64).reshape(len(rows), len(header))[:, 1:].T

    def expect_whole(self, n_frames: int, frame_shape: tuple[int, int]) -> None:
        """Hold that every file is there, of the size of the recording, and finite."""
        assert self.files == self.documented_files()
        assert self.record["status"] == "complete"
        assert self.result.n_frames == n_frames
        n = self.record["n_accepted"]
        for name, dtype in (("mask", "u1"), ("labels", "u2"), ("probability", "f4")):
            image = self.image(f"{name}.tif")
            assert (image.shape, image.dtype) == (frame_shape, np.dtype(dtype))
        assert self.image("labels.tif").max() == n
        for name in ("traces.csv", "traces_raw.csv", "raster.csv"):
            assert self.traces(name).shape == (n, n_frames)
            assert np.isfinite(self.traces(name)).all()
        assert len(roifile.roiread(self.path / "rois.zip")) == n
        assert (self.path / "report.html").read_text("utf-8").rstrip().endswith("</html>")

    def expect_nothing_found(self) -> None:
        """Hold that n is 0 everywhere."""
        assert self.record["n_accepted"] == 0
        assert not self.image("mask.tif").any()
        assert self.table("traces.csv")[0] == ["time_s"]
        assert self.table("events.csv")[1] == []
        assert all(row[1] == row[9] == "0" for row in self.table("rois.csv")[1])


@pytest.fixture
def state_of():
    """Say what lies in a folder, to compare it with later."""
    return _state_of


@pytest.fixture
def outcome_of():
    """Put together how a command ended."""
    return Outcome


@pytest.fixture
def look():
    """Look into a result folder."""
    return Folder


@pytest.fixture
def cocuyo(capsys):
    """Run a command in this process."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        status = run_command_line([str(word) for word in arguments])
        return Outcome(status, *capsys.readouterr())

    return call


@pytest.fixture
def run(cocuyo):
    """Analyse a recording without networks, with rate and pixel size given."""
    return lambda *arguments: cocuyo(*RUN, *arguments, *KNOWN)


@pytest.fixture
def refused(cocuyo, tmp_path):
    """Run a command that must fail in one line and change nothing; give the line."""

    def call(*arguments: object) -> str:
        before = _state_of(tmp_path)
        outcome = cocuyo(*arguments)
        assert (outcome.status, outcome.out) == (1, ""), outcome
        assert _state_of(tmp_path) == before
        return outcome.error

    return call


@pytest.fixture
def run_refused(refused):
    """Analyse a recording that must be refused; give the line."""
    return lambda *arguments: refused(*RUN, *arguments, *KNOWN)


@pytest.fixture
def process():
    """Run a command in a process of its own."""

    def call(*arguments: object, code: str | None = None, **options: object) -> Outcome:
        program = ("-m", "cocuyo") if code is None else ("-c", code)
        done = subprocess.run(
            [sys.executable, *program, *map(str, arguments)],
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=120,
            check=False,
            **options,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def write_tiff(tmp_path):
    """Write a plain TIFF, which says neither frame rate nor pixel size."""

    def write(frames: np.ndarray, name: str = "slice.tif", **options: object) -> Path:
        path = tmp_path / name
        tifffile.imwrite(path, frames, **{"photometric": "minisblack", **options})
        return path

    return write


@pytest.fixture(scope="session")
def simulated():
    """A recording with a few active cells that are found without networks."""
    settings = PRESETS["sparse"].model_copy(update={"n_frames": 100, "n_rows": 80, "n_columns": 96})
    simulation = simulate(settings, seed=2)
    simulation.frames.setflags(write=False)
    return simulation


@pytest.fixture(scope="session")
def small(simulated):
    """Frames enough to be analysed, few enough to be quick; not square."""
    return simulated.frames[:60, :64, :72]


@pytest.fixture(scope="session")
def finished(simulated, tmp_path_factory):
    """The result of a successful run; not to be changed."""
    place = tmp_path_factory.mktemp("finished")
    tifffile.imwrite(place / "slice.tif", simulated.frames, photometric="minisblack")
    assert run_command_line([*RUN, str(place / "slice.tif"), *KNOWN]) == 0
    return Folder(place / "slice.cocuyo")
