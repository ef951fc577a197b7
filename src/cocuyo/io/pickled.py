"""NumPy files that hold Python objects, read without running anything that is in them."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from cocuyo.core import AnyArray

_SIMPLE = re.compile(r"[?biufcSUVMm]\d{0,9}(\[[a-z0-9]+\])?|O8?")
_MOST_DEPTH = 50
_MOST_BYTES = 4 * 2**30


class ForbiddenPickleError(ValueError):
    """A pickle holds something other than arrays, dictionaries, lists, text and numbers."""


def load_npy(path: Path) -> Any:
    """Read an ``.npy`` file, one of objects too, as plain data.

    Objects are unpickled by names that are on a list: NumPy arrays, their types and scalars,
    paths and dates (which become text). Everything that a pickle can call is a function of this
    module that only makes such values; arrays are made from their bytes after the types have been
    checked, never by NumPy's own unpickling.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    object
        The array; where it holds one object (a saved dictionary), that object.

    Raises
    ------
    ForbiddenPickleError
        If the file holds any other kind of object; nothing of it was executed.
    ValueError
        If the file is damaged.
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        try:
            shape, _, dtype = _header(file, np.lib.format.read_magic(file))
        except Exception as error:  # its header is parsed as Python is, and fails in as many ways
            msg = f"it is no .npy file, or is damaged ({error})"
            raise ValueError(msg) from error
        if not dtype.hasobject:
            return np.load(path, allow_pickle=False)
        if dtype != np.dtype(object):
            msg = "it holds records with objects"
            raise ForbiddenPickleError(msg)
        content = load_plain(file)
    if not isinstance(content, np.ndarray) or content.dtype != np.dtype(object):
        msg = "its content is not the array that its header announces"
        raise ValueError(msg)
    if content.size != int(np.prod(shape)):
        msg = f"it holds {content.size} objects in place of {shape}"
        raise ValueError(msg)
    if shape == ():
        return content.reshape(-1)[0]
    return content.reshape(shape)


def _header(file: IO[bytes], version: tuple[int, int]) -> tuple[tuple[int, ...], bool, Any]:
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)
    msg = f"its format version is {version}"
    raise ValueError(msg)


def load_plain(file: IO[bytes]) -> Any:
    """Unpickle plain data.

    Parameters
    ----------
    file : file
        Open for reading, at the start of a pickle.

    Returns
    -------
    object
        Arrays, dictionaries, lists, tuples, sets, text, bytes, numbers and None.

    Raises
    ------
    ForbiddenPickleError
        If the pickle names anything that is not on the list.
    ValueError
        If it is damaged.
    """
    try:
        return _plain(_Unpickler(file).load(), {}, 0)
    except (ForbiddenPickleError, MemoryError):
        raise
    except Exception as error:  # a damaged pickle fails in any way
        msg = f"it is damaged ({error})"
        raise ValueError(msg) from error


class _Unpickler(pickle.Unpickler):
    """Finds nothing but the functions below."""

    def find_class(self, module: str, name: str) -> Any:
        found = _ADMITTED.get((module, name))
        if found is None:
            msg = f"it names {module}.{name}, which is neither array nor plain data"
            raise ForbiddenPickleError(msg)
        return found if isinstance(found, type) else _Function(found)

    def persistent_load(self, pid: Any) -> Any:
        msg = "it refers to objects outside of it"
        raise ForbiddenPickleError(msg)


class _Type:
    """Stands for a NumPy type while a pickle is read."""

    def __init__(self, code: Any = None, *_: Any) -> None:
        if not (isinstance(code, str) and _SIMPLE.fullmatch(code)):
            msg = f"it holds arrays of the type {str(code)[:40]!r}"
            raise ForbiddenPickleError(msg)
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        # (version, byte order, subarray, names, fields, size, alignment, flags, ...)
        if not isinstance(state, tuple) or len(state) < 5 or any(state[2:5]):
            msg = "it holds arrays of records"
            raise ForbiddenPickleError(msg)
        if state[1] in ("<", ">") and self.dtype.kind != "O":
            self.dtype = self.dtype.newbyteorder(state[1])
        if self.dtype.kind in "SUV" and self.dtype.itemsize == 0 and len(state) > 5:
            size = int(state[5]) // (4 if self.dtype.kind == "U" else 1)
            self.dtype = np.dtype(f"{self.dtype.kind}{size}")


class _Array:
    """Stands for a NumPy array while a pickle is read."""

    def __init__(self, *_: Any) -> None:
        self.state: Any = None
        self.made: AnyArray | None = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Marker:
    """Stands for a class that is only ever handed on."""

    def __setstate__(self, state: Any) -> None:
        msg = "it changes a type"
        raise ForbiddenPickleError(msg)


class _Function:
    """A function that a pickle can call but not change: unpickling may set attributes."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> None:
        msg = "it changes a function"
        raise ForbiddenPickleError(msg)


def _check_bytes(dtype: Any, data: Any, count: int) -> None:
    if not isinstance(data, bytes | bytearray) or len(data) != count * dtype.itemsize:
        msg = "an array and its bytes do not fit"
        raise ValueError(msg)


def _shape(shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
        msg = "an array has no shape"
        raise ValueError(msg)
    count = 1
    for n in shape:
        count *= n
    if len(shape) > 32 or count > _MOST_BYTES:
        msg = "an array is larger than memory"
        raise ValueError(msg)
    return shape


def _scalar(kind: Any, data: Any = b"") -> Any:
    if not isinstance(kind, _Type) or kind.dtype.hasobject:
        msg = "it holds a scalar of objects"
        raise ForbiddenPickleError(msg)
    _check_bytes(kind.dtype, data, 1)
    return np.frombuffer(bytes(data), kind.dtype)[0]


def _frombuffer(data: Any, kind: Any, shape: Any, order: Any) -> Any:
    if not isinstance(kind, _Type) or kind.dtype.hasobject or order not in ("C", "F"):
        msg = "it holds an array of objects in place of bytes"
        raise ForbiddenPickleError(msg)
    count = int(np.prod(_shape(shape), dtype=np.int64))
    _check_bytes(kind.dtype, data, count)
    return np.frombuffer(bytes(data), kind.dtype).reshape(shape, order=order).copy(order=order)


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """How pickles of an old protocol hold bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        msg = "it encodes text"
        raise ForbiddenPickleError(msg)
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """How pickles of an old protocol hold no bytes at all."""
    return b""


def _dict(*items: Any) -> dict[Any, Any]:
    return dict(*items)


def _path(*parts: Any) -> str:
    return "/".join(str(part).rstrip("/") for part in parts if isinstance(part, str))


def _date(*parts: Any) -> str:
    return " ".join(str(part) for part in parts if isinstance(part, int))


_ADMITTED: dict[tuple[str, str], Callable[..., Any] | type] = {
    ("numpy", "ndarray"): _Marker,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    ("collections", "OrderedDict"): _dict,
    **{
        (f"numpy.{core}.multiarray", name): made
        for core in ("core", "_core")
        for name, made in (("_reconstruct", _Array), ("scalar", _scalar))
    },
    **{(f"numpy.{core}.numeric", "_frombuffer"): _frombuffer for core in ("core", "_core")},
    **{
        (module, name): _path
        for module in ("pathlib", "pathlib._local")
        for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path")
    },
    **{("datetime", name): _date for name in ("datetime", "date", "timedelta", "timezone")},
}


def _plain(value: Any, made: dict[int, Any], depth: int) -> Any:
    """Put real arrays in the places of those that stand for them."""
    if depth > _MOST_DEPTH:
        msg = "it is nested too deeply"
        raise ForbiddenPickleError(msg)
    if isinstance(value, _Array):
        if value.made is None:
            value.made = _make_array(value.state, made, depth)
        return value.made
    if isinstance(value, _Type):
        return value.dtype.str
    if isinstance(value, _Marker | _Function | type):
        return None
    if isinstance(value, dict | list | tuple):
        if id(value) not in made:
            made[id(value)] = _plain_container(value, made, depth)
        return made[id(value)]
    return value


def _plain_container(value: Any, made: dict[int, Any], depth: int) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item, made, depth + 1) for key, item in value.items()}
    items = [_plain(item, made, depth + 1) for item in value]
    return items if isinstance(value, list) else tuple(items)


def _make_array(state: Any, made: dict[int, Any], depth: int) -> AnyArray:
    """Make an array of (version, shape, type, by columns, data), or without the version."""
    if not isinstance(state, tuple) or len(state) not in (4, 5):
        msg = "an array is without its content"
        raise ValueError(msg)
    shape, kind, by_columns, data = state[-4:]
    shape = _shape(shape)
    count = int(np.prod(shape, dtype=np.int64))
    order: Any = "F" if by_columns else "C"
    if not isinstance(kind, _Type):
        msg = "an array is without its type"
        raise ForbiddenPickleError(msg)
    if kind.dtype.kind == "O":
        if not isinstance(data, list) or len(data) != count:
            msg = "an array of objects is without them"
            raise ValueError(msg)
        array = np.empty(count, object)
        for i, item in enumerate(data):
            array[i] = _plain(item, made, depth + 1)
        return array.reshape(shape)  # objects stand by rows, however the array lay in memory
    if isinstance(data, str):  # Python 2 held bytes so
        data = data.encode("latin1")
    _check_bytes(kind.dtype, data, count)
    return np.frombuffer(bytes(data), kind.dtype).reshape(shape, order=order).copy(order=order)
