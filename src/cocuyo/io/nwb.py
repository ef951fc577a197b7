"""Results as Neurodata Without Borders: what is known of a session, and nothing invented."""

import importlib.util
import os
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import AwareDatetime, Field, ValidationError

from cocuyo.core import (
    AnyArray,
    FrozenConfig,
    MissingExtraError,
    Result,
    ResultError,
    SettingsError,
)

UNKNOWN = "unknown"
_NO_SLASH = r"^[^/\\]+$"
_PICTURES = {
    "mean": "Mean of the motion-corrected frames, in camera counts.",
    "max": "Maximum of the motion-corrected frames, in camera counts.",
    "contrast": "Largest temporal contrast of each pixel, in units of its noise.",
}


class NwbSubject(FrozenConfig):
    """The animal, as far as a person says."""

    subject_id: str = Field(
        pattern=_NO_SLASH, description="Its name in the laboratory, without slashes."
    )
    species: str | None = Field(
        default=None,
        pattern=r"^([A-Z][a-z]+ [a-z]+.*|https?://.+)$",
        description="Latin name, such as Mus musculus, or the address of its NCBI entry.",
    )
    sex: Literal["M", "F", "U", "O"] | None = Field(
        default=None, description="Male, female, unknown or other."
    )
    age: str | None = Field(
        default=None,
        pattern=r"^P[0-9.YMWDTHS]+(/(P[0-9.YMWDTHS]+)?)?$",
        description="ISO 8601 duration: P21D is 21 days, P3W/P4W three to four weeks.",
    )
    strain: str | None = Field(default=None, description="Strain.")
    genotype: str | None = Field(default=None, description="Genotype.")
    weight: str | None = Field(default=None, description="Weight with unit, such as 0.02 kg.")
    description: str | None = Field(default=None, description="Anything else.")


class NwbMetadata(FrozenConfig):
    """What a person says of a session; what nobody says is left out or called unknown."""

    session_start_time: AwareDatetime = Field(
        description="Start of the recording, with its time zone: 2026-05-02T14:03:00+02:00."
    )
    session_description: str | None = Field(default=None, description="What was recorded.")
    session_id: str | None = Field(
        default=None, pattern=_NO_SLASH, description="Name of the session, without slashes."
    )
    identifier: str | None = Field(
        default=None, description="Unique name of the file; a new random one if None."
    )
    experimenter: tuple[str, ...] = Field(
        default=(), description="People, as Last, First or Last, First Middle."
    )
    institution: str | None = Field(default=None, description="Where.")
    lab: str | None = Field(default=None, description="Whose laboratory.")
    experiment_description: str | None = Field(default=None, description="The experiment.")
    keywords: tuple[str, ...] = Field(default=(), description="Words to find it by.")
    related_publications: tuple[str, ...] = Field(default=(), description="DOIs, as doi:...")
    notes: str | None = Field(default=None, description="Notes on the session.")
    device: str | None = Field(default=None, description="The microscope.")
    indicator: str | None = Field(default=None, description="The indicator, such as GCaMP6s.")
    location: str | None = Field(default=None, description="Brain region.")
    excitation_nm: float | None = Field(
        default=None, gt=0, description="Wavelength of the excitation, in nm."
    )
    emission_nm: float | None = Field(
        default=None, gt=0, description="Wavelength of the emission, in nm."
    )
    exposure_s: float | None = Field(default=None, gt=0, description="Exposure of a frame, in s.")
    subject: NwbSubject | None = Field(default=None, description="The animal.")


def read_metadata(path: str | Path | None, *, session_start: str | None = None) -> NwbMetadata:
    """Read what a person says of a session.

    Parameters
    ----------
    path : str or Path, optional
        A TOML file with the fields of `NwbMetadata`; ``[subject]`` is a table of its own.
    session_start : str, optional
        Start of the session, ISO 8601 with its time zone; goes before the file's.

    Returns
    -------
    NwbMetadata
        The metadata.

    Raises
    ------
    MissingExtraError
        If pynwb is not installed: nobody should collect metadata before that is said.
    SettingsError
        If the file cannot be read, a field is unknown or makes no sense, or nobody says when
        the session started.
    """
    import tomllib

    _require_pynwb()
    told: dict[str, Any] = {}
    if path is not None:
        try:
            told = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            msg = f"{path} cannot be read: {error.strerror}. Give a TOML file with --metadata."
            raise SettingsError(msg) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            msg = f"{path} is not a TOML file: {error}."
            raise SettingsError(msg) from error
    if session_start is not None:
        told["session_start_time"] = session_start
    example = "--session-start 2026-05-02T14:03:00+02:00"
    if "session_start_time" not in told:
        msg = f"NWB needs to know when the session started: give it with {example}."
        raise SettingsError(msg)
    try:
        metadata = NwbMetadata.model_validate(told)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if name == "session_start_time":
            msg = f"The session's start is {first['input']}; give date, time and zone: {example}."
        elif first["type"] == "extra_forbidden":
            msg = f"There is no metadata field {name}; the how-to on exports lists them."
        else:
            msg = f"Metadata field {name}: {first['msg']} (given: {first['input']!r})."
        raise SettingsError(msg) from None
    if metadata.session_start_time > datetime.now(UTC):
        msg = f"The session's start, {metadata.session_start_time}, lies in the future."
        raise SettingsError(msg)
    return metadata


@dataclass(frozen=True)
class ExternalMovie:
    """The recording of a result, to be referred to.

    Attributes
    ----------
    files : tuple of Path
        Its files, in order.
    starting_frames : tuple of int
        Index in the whole of the first frame of each.
    first_frame : int
        Index in the whole of the result's first frame.
    n_frames : int
        Number of frames of the whole.
    """

    files: tuple[Path, ...]
    starting_frames: tuple[int, ...]
    first_frame: int
    n_frames: int


def _require_pynwb() -> None:
    if importlib.util.find_spec("pynwb") is None:
        msg = 'NWB needs the extra "nwb": pip install "cocuyo[nwb]".'
        raise MissingExtraError(msg)


def write_nwb(
    path: Path, result: Result, metadata: NwbMetadata, *, movie: ExternalMovie | None = None
) -> None:
    """Write a result as an NWB file.

    Parameters
    ----------
    path : Path
        The file to make.
    result : Result
        The result; every ROI has a pixel.
    metadata : NwbMetadata
        What a person says of the session.
    movie : ExternalMovie, optional
        The recording; the file refers to it by paths relative to its own folder.

    Raises
    ------
    MissingExtraError
        If pynwb is not installed.
    ResultError
        If the file cannot hold the result.
    """
    _require_pynwb()
    import pynwb

    if len(result.rois) == 0:
        msg = (
            f"{result.name} has no ROI, accepted or rejected; an NWB file of a segmentation needs "
            "at least one."
        )
        raise ResultError(msg)
    file = pynwb.NWBFile(
        session_description=metadata.session_description
        or f"One-photon calcium imaging, recording {result.name}.",
        identifier=metadata.identifier or str(uuid.uuid4()),
        session_start_time=metadata.session_start_time,
        **_told(metadata, "session_id", "institution", "lab", "experiment_description", "notes"),
        **_told(metadata, "experimenter", "keywords", "related_publications"),
    )
    if metadata.subject is not None:
        file.subject = pynwb.file.Subject(**metadata.subject.model_dump(exclude_none=True))
    plane = _imaging_plane(file, result, metadata)
    start_s = 0.0
    if movie is not None:
        start_s = movie.first_frame / result.frame_rate_hz
        file.add_acquisition(_series(plane, result, metadata, movie, path.parent))
    _add_processing(file, plane, result, start_s)
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(file)


def _told(metadata: NwbMetadata, *names: str) -> dict[str, Any]:
    """Fields that somebody said, as pynwb wants them."""
    values = {name: getattr(metadata, name) for name in names}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value not in (None, ())
    }


def _imaging_plane(file: Any, result: Result, metadata: NwbMetadata) -> Any:
    import pynwb

    device = file.create_device(
        name="Microscope", description=metadata.device or "One-photon fluorescence microscope."
    )
    size = result.pixel_size_um
    nan = float("nan")
    channel = pynwb.ophys.OpticalChannel(
        name="OpticalChannel",
        description="Fluorescence of the indicator.",
        emission_lambda=nan if metadata.emission_nm is None else metadata.emission_nm,
    )
    scale = (
        {} if size is None else {"grid_spacing": [size, size], "grid_spacing_unit": "micrometers"}
    )
    return file.create_imaging_plane(
        name="ImagingPlane",
        description="The field of view.",
        optical_channel=channel,
        device=device,
        imaging_rate=float(result.frame_rate_hz),
        excitation_lambda=nan if metadata.excitation_nm is None else metadata.excitation_nm,
        indicator=metadata.indicator or UNKNOWN,
        location=metadata.location or UNKNOWN,
        **scale,
    )


def _series(
    plane: Any, result: Result, metadata: NwbMetadata, movie: ExternalMovie, folder: Path
) -> Any:
    import pynwb

    rows, columns = result.rois.frame_shape
    exposure = {} if metadata.exposure_s is None else {"exposure_time": metadata.exposure_s}
    return pynwb.ophys.OnePhotonSeries(
        name="OnePhotonSeries",
        description="The recording as acquired, in its own file.",
        imaging_plane=plane,
        external_file=[_reference(file, folder) for file in movie.files],
        starting_frame=list(movie.starting_frames),
        format="external",
        dimension=[columns, rows],
        num_samples=movie.n_frames,
        rate=float(result.frame_rate_hz),
        starting_time=0.0,
        unit="counts",
        **exposure,
    )


def _reference(file: Path, folder: Path) -> str:
    """Path from the NWB file; whole where there is no way (another drive)."""
    file = file.resolve()
    try:
        return Path(os.path.relpath(file, folder.resolve())).as_posix()
    except ValueError:
        return str(file)


def _add_processing(file: Any, plane: Any, result: Result, start_s: float) -> None:
    import pynwb

    module = file.create_processing_module(
        name="ophys", description="ROIs, traces and events found by cocuyo."
    )
    table = _segmentation(file, plane, module, result)
    time = _timing(result, start_s)
    every = table.create_roi_table_region(
        region=list(range(len(result.rois))), description="All ROIs, accepted and rejected."
    )

    def response(name: str, data: AnyArray, unit: str, description: str) -> Any:
        return pynwb.ophys.RoiResponseSeries(
            name=name, data=_packed(data.T), rois=every, unit=unit, description=description, **time
        )

    traces = result.traces
    raw = np.asarray(traces.raw, np.float32)
    fluorescence = [
        response("RoiResponseSeries", raw, "counts", "Mean of the pixels of each ROI."),
        response(
            "Neuropil",
            np.asarray(traces.neuropil, np.float32),
            "counts",
            "Weighted mean of the ring around each ROI.",
        ),
        response(
            "Corrected",
            np.asarray(traces.corrected, np.float32),
            "counts",
            "The ROI less its share of the changes of its ring.",
        ),
    ]

    def add(container: Any, *series: Any) -> None:
        # The container first: only then the series and their table have one root.
        module.add(container)
        for each in series:
            container.add_roi_response_series(each)

    add(pynwb.ophys.Fluorescence(name="Fluorescence"), *fluorescence)
    ratio = response(
        "RoiResponseSeries",
        np.asarray(traces.delta_f_over_f, np.float32),
        "n.a.",
        "Corrected trace relative to its running baseline: 0.5 is 50 % above it.",
    )
    add(pynwb.ophys.DfOverF(name="DfOverF"), ratio)
    raster = response(
        "Raster",
        np.asarray(result.raster, np.uint8),
        "n.a.",
        "1 while an ROI is active, from onset to offset of each event.",
    )
    add(pynwb.ophys.Fluorescence(name="Activity"), raster)
    if len(result.events):
        _add_events(module, table, result, start_s)
    module.add(
        pynwb.TimeSeries(
            name="MotionShift",
            data=_packed(np.asarray(result.motion.shifts, np.float32)[:, ::-1]),
            unit="pixels",
            description="How far a point of the tissue moved since the first frame: x, y.",
            **time,
        )
    )
    module.add(_pictures(result))


def _segmentation(file: Any, plane: Any, module: Any, result: Result) -> Any:
    import pynwb

    rois = result.rois
    series = file.acquisition.get("OnePhotonSeries")
    table = pynwb.ophys.PlaneSegmentation(
        name="PlaneSegmentation",
        description="Candidate neurons, accepted and rejected.",
        imaging_plane=plane,
        **({} if series is None else {"reference_images": series}),
    )
    for name, description in (
        ("roi_name", "Permanent name of the ROI in cocuyo."),
        ("accepted", "Whether the ROI is a neuron."),
        ("reason", "Why a rejected ROI is none; empty for accepted ones."),
        ("score", "Verifier's confidence, 0 to 1; NaN where nothing judged."),
        ("snr", "Largest DF/F over its noise from frame to frame; NaN where not known."),
    ):
        table.add_column(name=name, description=description)
    for i in range(len(rois)):
        y, x, weight = rois.pixels(i)
        table.add_roi(
            pixel_mask=list(zip(x.tolist(), y.tolist(), weight.tolist(), strict=True)),
            roi_name=rois.ids[i],
            accepted=bool(rois.accepted[i]),
            reason=rois.reasons[i],
            score=float(rois.score[i]),
            snr=float(rois.snr[i]),
        )
    segmentation = pynwb.ophys.ImageSegmentation(name="ImageSegmentation")
    module.add(segmentation)
    segmentation.add_plane_segmentation(table)
    return table


def _timing(result: Result, start_s: float) -> dict[str, Any]:
    """Rate and start where frames are regular, else the time of each."""
    n, rate = result.n_frames, float(result.frame_rate_hz)
    regular = np.allclose(result.times_s, np.arange(n) / rate, rtol=0, atol=1e-3 / rate)
    if regular:
        return {"rate": rate, "starting_time": start_s}
    return {"timestamps": np.asarray(result.times_s, np.float64) + start_s}


def _packed(data: AnyArray) -> Any:
    from pynwb import H5DataIO

    if data.nbytes < 2**16:
        return np.ascontiguousarray(data)
    return H5DataIO(
        np.ascontiguousarray(data), compression="gzip", compression_opts=4, shuffle=True
    )


def _add_events(module: Any, table: Any, result: Result, start_s: float) -> None:
    import pynwb

    events, times = result.events, np.asarray(result.times_s, np.float64) + start_s
    # A frame lasts until the next one, or as long as usual where time is missing after it: no
    # interval is empty, as NWB asks.
    ends = times + 1 / result.frame_rate_hz
    ends[:-1] = np.minimum(ends[:-1], times[1:])
    # In order of time, as tables of intervals are.
    order = np.lexsort((events.roi, events.onset))
    intervals = pynwb.epoch.TimeIntervals(
        name="Events",
        description="Calcium transients. An event lasts to the end of its last active frame.",
    )
    module.add(intervals)
    intervals.add_column(name="peak_time", description="Time of the peak, in seconds.")
    intervals.add_column(name="amplitude", description="Peak in DF/F above the level at the onset.")
    for i in order.tolist():
        intervals.add_row(
            start_time=float(times[events.onset[i]]),
            stop_time=float(ends[events.offset[i]]),
            peak_time=float(times[events.peak[i]]),
            amplitude=float(events.amplitude[i]),
        )
    intervals.add_column(
        name="roi",
        description="The ROI of each event.",
        data=events.roi[order].tolist(),
        table=table,
    )


def _pictures(result: Result) -> Any:
    """Summary images; NWB puts x before y."""
    import pynwb

    images = [
        pynwb.image.GrayscaleImage(
            name=name, data=np.asarray(result.projections[name], np.float32).T, description=text
        )
        for name, text in _PICTURES.items()
        if name in result.projections
    ]
    if result.probability.any():
        images.append(
            pynwb.image.GrayscaleImage(
                name="probability",
                data=np.asarray(result.probability, np.float32).T,
                description="Probability of a functional neuron, from the temporal network.",
            )
        )
    return pynwb.base.Images(
        name="SummaryImages", images=images, description="Images of the whole recording."
    )
