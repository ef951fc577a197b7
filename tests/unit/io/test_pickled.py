"""Pickled NumPy files: plain data is read as NumPy reads it, nothing else is touched."""

import contextlib
import datetime
import io
import os
import pathlib
import pickle
import pickletools
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cocuyo.io.pickled import ForbiddenPickleError, load_npy, load_plain

DATA = Path(__file__).parents[2] / "data"
REAL = sorted((DATA / "suite2p_1.1" / "plane0").glob("*.npy"))


def _same(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for key in theirs:
            _same(ours[key], theirs[key])
    elif isinstance(theirs, np.ndarray):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        if theirs.dtype == object:
            for a, b in zip(ours.ravel(), theirs.ravel(), strict=True):
                _same(a, b)
        else:
            np.testing.assert_array_equal(ours, theirs)
    elif isinstance(theirs, list | tuple):
        assert type(ours) is type(theirs)
        for a, b in zip(ours, theirs, strict=True):
            _same(a, b)
    elif isinstance(theirs, datetime.datetime):
        assert isinstance(ours, str)
    else:
        assert type(ours) is type(theirs)
        assert repr(ours) == repr(theirs)  # NaN too


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_files_of_suite2p_are_read_as_numpy_reads_them(path: Path):
    theirs = np.load(path, allow_pickle=True)
    _same(load_npy(path), theirs.item() if theirs.shape == () else theirs)


def test_there_are_real_files():
    assert {path.stem for path in REAL} >= {"stat", "ops", "iscell", "F", "Fneu"}


PLAIN = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.binary(),
        hnp.arrays(
            st.sampled_from(["<f4", ">i8", "?", "u1", "<U3", "S4", "c16"]),
            hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        ),
        st.builds(np.float32, st.floats(width=32)),
        st.builds(np.int64, st.integers(-9, 9)),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(PLAIN, st.integers(2, 5))
def test_plain_data_survive_in_every_protocol(value: Any, protocol: int):
    _same(load_plain(io.BytesIO(pickle.dumps(value, protocol))), value)


def test_arrays_by_columns_stay_so(tmp_path: Path):
    array = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    _same(load_plain(io.BytesIO(pickle.dumps({"a": array}))), {"a": array})
    objects = np.array([[1, "a"], [None, array]], object)
    np.save(tmp_path / "a.npy", np.asfortranarray(objects), allow_pickle=True)
    _same(load_npy(tmp_path / "a.npy"), objects)


def test_paths_and_dates_become_text():
    content = {"path": pathlib.PurePosixPath("/a/b"), "time": datetime.datetime.now(datetime.UTC)}
    read = load_plain(io.BytesIO(pickle.dumps(content)))
    assert read["path"].endswith("a/b")
    assert isinstance(read["time"], str)


class _Runs:
    """Runs a command when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def _hostile(path: Path) -> dict[str, Any]:
    """Pickles that would write a file if anything of them were executed."""
    command = f"touch {path}"
    return {
        "os.system": _Runs(os.system, command),
        "eval": _Runs(eval, f"open({str(path)!r}, 'w')"),
        "exec": _Runs(exec, f"open({str(path)!r}, 'w')"),
        "getattr": _Runs(getattr, "text", "format"),
        "open": _Runs(open, str(path), "w"),
        "import": _Runs(__import__, "antigravity"),
        "nested": {"a": [np.zeros(2), _Runs(os.system, command)]},
        "partial": _Runs(__import__("functools").partial, os.system, command),
        "numpy.load": _Runs(np.load, str(path)),
        "in an array": np.array([{"ypix": _Runs(os.system, command)}], object),
    }


@pytest.mark.parametrize("name", sorted(_hostile(Path("x"))))
def test_a_hostile_file_is_refused_and_nothing_of_it_runs(tmp_path: Path, name: str):
    mark = tmp_path / "executed"
    content = _hostile(mark)[name]
    array = content if isinstance(content, np.ndarray) else np.array(content, object)
    np.save(tmp_path / "stat.npy", array, allow_pickle=True)
    with pytest.raises(ForbiddenPickleError, match="it names"):
        load_npy(tmp_path / "stat.npy")
    assert not mark.exists()
    if name == "os.system":  # the file is what it pretends to be
        np.load(tmp_path / "stat.npy", allow_pickle=True)
        assert mark.exists()


def _reduce(function: str, arguments: bytes, state: bytes = b"") -> bytes:
    """A pickle that calls a function with arguments and sets a state."""
    module, _, name = function.rpartition(".")
    call = f"c{module}\n{name}\n".encode() + arguments + b"R"
    return call + (state + b"b" if state else b"") + b"."


def _pickled(value: Any) -> bytes:
    """A value as it stands inside of a pickle."""
    text = pickle.dumps(value, 2)
    return text[2:-1]  # without protocol and stop


@pytest.mark.parametrize(
    ("data", "said"),
    [
        # A type that claims objects are bytes would make NumPy take bytes for addresses.
        (
            _reduce(
                "numpy.dtype",
                _pickled(("V8", False, True)),
                _pickled((3, "|", None, ("a",), {"a": 1}, 8, 1, 0)),
            ),
            "arrays of records|arrays of the type",
        ),
        (_reduce("numpy.dtype", _pickled(("f8,O", False, True))), "arrays of the type"),
        (_reduce("numpy.dtype", _pickled(("datetime64[ns]", False, True))), "arrays of the type"),
        (_reduce("_codecs.encode", _pickled(("a", "rot13"))), "encodes"),
        (b"cnumpy\nndarray\n(I1000000000000\ntR.", "damaged"),
        (b"Pelsewhere\n.", "refers to objects outside"),
        (b"\x80\x04\x95", "damaged"),
        (b"", "damaged"),
        (b"(" * 40 + b".", "damaged"),
    ],
)
def test_crafted_pickles_are_refused(data: bytes, said: str):
    with pytest.raises(ValueError, match=said):
        load_plain(io.BytesIO(data))


@pytest.mark.parametrize(
    "name",
    ["_codecs encode", "numpy ndarray", "numpy dtype", "numpy.core.multiarray _reconstruct"],
)
def test_a_pickle_cannot_change_what_it_calls(name: str):
    change = _pickled((None, {"__defaults__": ("changed",), "dtype": "changed"}))
    data = f"c{name}\n".replace(" ", "\n").encode() + change + b"b."
    with pytest.raises(ValueError, match=r"it changes|damaged"):
        load_plain(io.BytesIO(data))
    array = np.arange(3, dtype=np.int16)
    _same(load_plain(io.BytesIO(pickle.dumps(array, 2))), array)


def test_an_array_larger_than_its_bytes_is_refused():
    text = pickle.dumps(np.zeros(8, np.uint8), 2)
    opcodes = [(op.name, pos) for op, _, pos in pickletools.genops(text)]
    place = next(pos for name, pos in opcodes if name == "BININT1" and text[pos + 1] == 8)
    huge = text[:place] + b"J" + struct.pack("<i", 2**31 - 1) + text[place + 2 :]
    with pytest.raises(ValueError, match="do not fit"):
        load_plain(io.BytesIO(huge))


def test_what_contains_itself_is_refused():
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ForbiddenPickleError, match="nested too deeply"):
        load_plain(io.BytesIO(pickle.dumps(loop)))


def test_a_little_file_cannot_take_long():
    bomb: Any = []
    for _ in range(40):
        bomb = [bomb, bomb]  # 2^40 lists for whoever walks through it
    assert len(load_plain(io.BytesIO(pickle.dumps(bomb)))) == 2


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_files_fail_with_one_kind_of_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
):
    content = bytearray((DATA / "suite2p_1.1" / "plane0" / "settings.npy").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("d") / "settings.npy"
    path.write_bytes(bytes(content))
    with contextlib.suppress(ValueError, MemoryError):
        load_npy(path)
