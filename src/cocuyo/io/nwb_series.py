"""Recordings in NWB files (Neurodata Without Borders, on HDF5).

An image series stores (T, X, Y) or (T, X, Y, Z). The schema is read with h5py alone: it has been
stable since NWB 2.0, and no other package is needed to look into a file.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cocuyo.core import RecordingError, TimeArray
from cocuyo.io.arrays import guess_axes
from cocuyo.io.hdf5 import (
    HDF5_ERRORS,
    HDF5_OPTIONS,
    HDF5_SUFFIXES,
    TURNED_NOTE,
    hdf5_file,
    hdf5_source,
    is_hdf5,
    pick_dataset,
)
from cocuyo.io.readers import Choice, Reader, open_file
from cocuyo.io.sources import Source

_SERIES_AXES = {3: "TXY", 4: "TXYZ"}
_NOT_MOVIES = frozenset(("IndexSeries", "ImageMaskSeries"))
_FIRST_CHOICE = ("OnePhotonSeries", "TwoPhotonSeries")
_METRES_UM = {"meters": 1e6, "meter": 1e6, "m": 1e6, "metres": 1e6, "micrometers": 1.0,
              "micrometer": 1.0, "um": 1.0, "µm": 1.0, "microns": 1.0, "millimeters": 1e3,
              "mm": 1e3, "nm": 1e-3, "nanometers": 1e-3}  # fmt: skip
_MAX_SPREAD = 0.01  # between the two sides of a pixel


@dataclass(frozen=True, eq=False)
class _Series:
    """An image series of the file."""

    group: Any
    path: str
    kind: str
    data: Any  # None where the frames lie in other files
    external: tuple[str, ...]

    def __str__(self) -> str:
        shape = f"in {len(self.external)} file(s)" if self.external else tuple(self.data.shape)
        return f"{self.path} ({self.kind}) {shape}"


class NwbReader(Reader):
    """Image series of NWB files."""

    name = "an NWB file"
    suffixes = HDF5_SUFFIXES
    options = HDF5_OPTIONS

    def recognises(self, path: Path, head: bytes) -> bool:
        """Say whether a file is of this kind."""
        if not is_hdf5(path, head):
            return False
        import h5py

        try:
            with h5py.File(path, "r") as file:
                return "nwb_version" in file.attrs
        except HDF5_ERRORS:
            return False

    def open(self, path: Path, choice: Choice) -> Source:
        """Open the image series that is the movie.

        Raises
        ------
        RecordingError
            If the file is damaged, or the series absent, not named or of another shape.
        """
        with hdf5_file(path) as file:
            series, notes = _choose(list(_all_series(file)), path, choice.dataset)
            facts = _Facts.of(series)
            if series.external:
                source = _open_external(path, series, choice)
                file.close()
                return _with_facts(source, series, facts, notes)
            name = f"{path}:{series.path}"
            if choice.axes is None and len(series.data.shape) in _SERIES_AXES:
                axes = _SERIES_AXES[len(series.data.shape)]
                notes += [_turned(series)]
            else:
                axes = guess_axes(tuple(series.data.shape), name, choice)
            picked = pick_dataset(series.data, axes, path, choice)
            facts = facts.checked(picked.movie.shape[0])
            source = hdf5_source(
                picked,
                f"NWB, {series.kind} {series.path}",
                rate=(facts.rate_hz, facts.rate_origin),
                pixel=(facts.pixel_um, "grid_spacing of the NWB imaging plane"),
                notes=(*notes, *facts.notes),
            )
        return replace(
            source, timestamps_s=facts.times, timestamps_origin="timestamps of the NWB series"
        )

    def files(self, path: Path) -> list[Path]:
        """List the file, and those that its series point to."""
        with hdf5_file(path) as file:
            names = [name for series in _all_series(file) for name in series.external]
            outside = [inside for name in names if (inside := _inside(path, name)) is not None]
            file.close()
        return [path, *(file for file in dict.fromkeys(outside) if file.is_file())]


def _all_series(file: Any) -> Iterator[_Series]:
    """Find image series below acquisition, processing and stimulus, links too."""
    import h5py

    def below(group: Any, place: str, depth: int) -> Iterator[_Series]:
        for name in group:
            item = group.get(name)  # None where a link leads nowhere
            if not isinstance(item, h5py.Group) or depth > 8:
                continue
            kind = _text(item.attrs.get("neurodata_type", ""))
            data, external = item.get("data"), item.get("external_file")
            is_movie = isinstance(data, h5py.Dataset) and len(data.shape) >= 3
            names: tuple[str, ...] = ()
            if isinstance(external, h5py.Dataset):
                names = tuple(_text(value) for value in external[()].ravel())
            if kind and kind not in _NOT_MOVIES and (is_movie or names):
                yield _Series(item, f"{place}/{name}", kind, None if names else data, names)
            else:
                yield from below(item, f"{place}/{name}", depth + 1)

    for top in ("acquisition", "processing", "stimulus"):
        if isinstance(file.get(top), h5py.Group):
            yield from below(file[top], f"/{top}", 0)


def _choose(found: list[_Series], path: Path, wanted: str | None) -> tuple[_Series, list[str]]:
    """Choose the series that was named, or the one that was acquired.

    Raises
    ------
    RecordingError
        If none was found, or several would do.
    """
    listing = ", ".join(str(series) for series in found[:20]) or "none"
    if wanted is not None:
        name = wanted.strip("/").removesuffix("/data")
        fitting = [s for s in found if s.path.strip("/") == name or s.path.split("/")[-1] == name]
        if len(fitting) == 1:
            return fitting[0], []
        msg = f"{path} has no image series {wanted!r}. Image series in it: {listing}."
        raise RecordingError(msg)
    acquired = [series for series in found if series.path.startswith("/acquisition/")]
    recorded = [series for series in acquired if series.kind in _FIRST_CHOICE]
    for fitting in (recorded, acquired, found):
        if len(fitting) == 1:
            others = [s.path for s in found if s is not fitting[0]]
            more = f"Also in the file, not read: {', '.join(others)}; --dataset chooses."
            return fitting[0], [more] if others else []
    if not found:
        msg = (
            f"{path} is an NWB file without an image series (OnePhotonSeries, TwoPhotonSeries, "
            "ImageSeries); perhaps it holds results only. Give the file with the raw movie."
        )
    else:
        msg = f"{path} holds {len(found)} image series; name one with --dataset: {listing}."
    raise RecordingError(msg)


def _turned(series: _Series) -> str:
    """Say that frames were turned, and where the file itself doubts it."""
    note = TURNED_NOTE.format(kind="NWB", order="(T, X, Y)")
    dimension = series.group.get("dimension")
    if dimension is None:
        return note
    sides = [int(side) for side in np.ravel(dimension[()])[:2]]
    stored = [int(side) for side in series.data.shape[1:3]]
    if sides == stored[::-1] and sides != stored:
        note += (
            f" The file's field dimension ({sides[0]}, {sides[1]}) has the two the other way "
            "round: look whether the picture is mirrored."
        )
    return note


@dataclass(frozen=True, eq=False)
class _Facts:
    """What the series says of time and space."""

    rate_hz: float | None = None
    rate_origin: str = ""
    pixel_um: float | None = None
    times: TimeArray | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, series: _Series) -> "_Facts":
        """Read them."""
        group, notes = series.group, []
        rate, origin, times = None, "", None
        start, stamps = group.get("starting_time"), group.get("timestamps")
        if start is not None and "rate" in start.attrs:
            rate, origin = _number(start.attrs["rate"]), "rate of the NWB series"
        elif stamps is not None:
            times = np.asarray(stamps[()], np.float64).ravel()
        plane = group.get("imaging_plane")
        pixel = None
        if plane is not None:
            if not rate and times is None and plane.get("imaging_rate") is not None:
                rate = _number(plane["imaging_rate"][()])
                origin = "imaging_rate of the NWB imaging plane"
            pixel, more = _pixel_size(plane.get("grid_spacing"))
            notes += more
        conversion = 1.0 if series.data is None else _number(series.data.attrs.get("conversion", 1))
        if conversion not in (None, 1.0):
            notes.append(
                f"The file's conversion factor ({conversion:.6g}) is not applied: "
                "values stay as they are stored."
            )
        return cls(rate, origin, pixel, times, tuple(notes))

    def checked(self, n_frames: int) -> "_Facts":
        """Keep timestamps only where they can be the times of the frames."""
        if self.times is None:
            return self
        steps = np.diff(self.times)
        if len(self.times) == n_frames and np.all(np.isfinite(self.times)) and np.all(steps > 0):
            return self
        note = (
            f"The file's {len(self.times)} timestamps do not fit its {n_frames} frames, or do not "
            "rise; they are not used."
        )
        return replace(self, times=None, notes=(*self.notes, note))


def _pixel_size(spacing: Any) -> tuple[float | None, list[str]]:
    if spacing is None:
        return None, []
    unit = _METRES_UM.get(_text(spacing.attrs.get("unit", "meters")).lower())
    sides = np.asarray(spacing[()], np.float64).ravel()[:2]
    if unit is None or len(sides) < 2 or not np.all(np.isfinite(sides)) or np.any(sides <= 0):
        return None, []
    sides = sides * unit
    size = float(np.sqrt(sides[0] * sides[1]))
    if abs(sides[0] - sides[1]) <= _MAX_SPREAD * size:
        return size, []
    return size, [
        f"Pixels are {sides[0]:.4g} x {sides[1]:.4g} µm; they are taken as squares of "
        f"{size:.4g} µm of the same area."
    ]


def _inside(path: Path, name: str) -> Path | None:
    """Give the place of an external file, where it lies in the NWB file's folder."""
    folder = path.resolve().parent
    place = (folder / name).resolve()
    return place if place.is_relative_to(folder) else None


def _open_external(path: Path, series: _Series, choice: Choice) -> Source:
    """Open the files that hold the frames of a series.

    Raises
    ------
    RecordingError
        If one is absent, or lies outside the NWB file's folder: a file from elsewhere must not
        make us read what its user never named.
    """
    from cocuyo.io.folders import join_sources

    files = []
    for name in series.external:
        place = _inside(path, name)
        if place is None or not place.is_file():
            where = "which is not there" if place is not None else "outside its folder"
            msg = (
                f"The frames of {path}:{series.path} lie in {name}, {where}. "
                "Open that file itself, or put it beside the NWB file."
            )
            raise RecordingError(msg)
        files.append(place)
    plain = Choice(channel=choice.channel, plane=choice.plane, axes=choice.axes)
    return join_sources([open_file(file, plain) for file in files], [str(f) for f in files])


def _with_facts(source: Source, series: _Series, facts: _Facts, notes: list[str]) -> Source:
    """Give frames of other files the times and the pixel size of the series."""
    facts = facts.checked(source.movie.shape[0])
    rate = facts.rate_hz if facts.rate_hz else source.frame_rate_hz
    pixel = facts.pixel_um if facts.pixel_um else source.pixel_size_um
    return replace(
        source,
        format=f"NWB, {series.kind} {series.path}, frames in {source.format}",
        frame_rate_hz=rate,
        frame_rate_origin=facts.rate_origin if facts.rate_hz else source.frame_rate_origin,
        pixel_size_um=pixel,
        pixel_size_origin=(
            "grid_spacing of the NWB imaging plane" if facts.pixel_um else source.pixel_size_origin
        ),
        timestamps_s=facts.times,
        timestamps_origin="timestamps of the NWB series",
        notes=(*source.notes, *notes, *facts.notes),
    )


def _number(value: Any) -> float | None:
    array = np.asarray(value)
    return float(array.ravel()[0]) if array.size and array.dtype.kind in "uif" else None


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
