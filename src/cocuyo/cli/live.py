"""``cocuyo live``: its options; `cocuyo.cli.live_session` does the work."""

import functools
import math
from typing import TYPE_CHECKING, Any

import click

from cocuyo.cli.common import _default_folder, _pipeline_settings, _result_options, _summary, cli
from cocuyo.cli.progress import ProgressPrinter
from cocuyo.cli.reading import ReadingOptions, open_from_options, recording_options

if TYPE_CHECKING:
    from cocuyo.cli.live_session import LiveRequest
    from cocuyo.pipeline import PresetName


@cli.command(
    epilog="""\b
Examples:
  cocuyo live growing.tif --frame-rate 10 --pixel-size 1.5 --diameter 12
  cocuyo live frames/ --frame-rate 20
  cocuyo live tcp://127.0.0.1:5555 --publish --out session1
  cocuyo live slice.tif --replay
""",
)
@click.argument("source", metavar="SOURCE")
@recording_options
@_result_options
@click.option("--replay", is_flag=True, help="SOURCE is a finished recording; play it at its rate.")
@click.option(
    "--replay-rate",
    "replay_rate_hz",
    type=float,
    metavar="HZ",
    help="Play it at another rate; 0 for as fast as possible.",
)
@click.option("--publish", is_flag=True, help="Send ROIs and events to clients that listen.")
@click.option("--no-spool", is_flag=True, help="Keep no frames: the result stays provisional.")
@click.option(
    "--keep-frames/--discard-frames",
    default=None,
    help="Whether received frames stay on disk at the end; by default those of streams do.",
)
@click.option(
    "--idle",
    "idle_s",
    type=float,
    metavar="S",
    help="End when no frame came for S seconds; 0 for never. 10 for files, 0 for streams.",
)
@click.option("--finish", is_flag=True, help="Complete an interrupted recording as it is.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed, kept in run.json.")
def live(source: str, **options: Any) -> None:
    """Analyse a recording while it is made: ROIs, traces and events as they appear.

    SOURCE is a TIFF file or a folder of frames that grows, an address of this machine
    (tcp://127.0.0.1:PORT, or zmq+tcp://127.0.0.1:PORT for ZeroMQ) to which another program sends
    frames, or with --replay any recording. At the end the result is made as `cocuyo run` makes it.
    """
    from cocuyo.cli.live_session import run_live

    run_live(_live_request(source, **options), summary=_summary, progress=ProgressPrinter)


def _live_request(
    source: str,
    *,
    reading: ReadingOptions,
    exclude: str | None,
    out: str | None,
    preset: "PresetName",
    model: str | None,
    config_file: str | None,
    overwrite: bool,
    replay: bool,
    replay_rate_hz: float | None,
    publish: bool,
    no_spool: bool,
    keep_frames: bool | None,
    idle_s: float | None,
    finish: bool,
    seed: int,
) -> "LiveRequest":
    """Put together what `live` is to do; refuse what makes no sense."""
    import dataclasses
    import hashlib
    import json
    from pathlib import Path

    from cocuyo.cli.live_session import LiveRequest, digest_of, usual_idle_s
    from cocuyo.core import SettingsError
    from cocuyo.io import read_exclusion
    from cocuyo.io.streams import is_stream
    from cocuyo.pipeline.live import LiveOptions

    from_stream = is_stream(source)
    if from_stream and replay:
        msg = "--replay is for recordings on disk; a stream is live already."
        raise click.UsageError(msg)
    if replay_rate_hz is not None and not replay:
        msg = "--replay-rate needs --replay."
        raise click.UsageError(msg)
    if replay_rate_hz is not None and not 0 <= replay_rate_hz < math.inf:
        msg = f"--replay-rate is {replay_rate_hz}; give frames per second, 0 for no pause at all."
        raise SettingsError(msg)
    if idle_s is not None and not 0 <= idle_s < math.inf:
        msg = f"--idle is {idle_s}; give seconds, 0 for never."
        raise SettingsError(msg)
    if publish and not from_stream:
        msg = "--publish sends to clients of a stream; SOURCE is none."
        raise click.UsageError(msg)
    if no_spool and (finish or keep_frames):
        msg = "--no-spool keeps no frames, so none can be completed or kept."
        raise click.UsageError(msg)
    recorded = ("frames", "dataset", "axes", "timestamps", "join")
    others = () if replay else recorded + (("channel", "plane") if from_stream else ())
    for name in others:
        if getattr(reading, name) not in (None, False):
            msg = f"--{name} is for finished recordings (--replay), not for {source}."
            raise click.UsageError(msg)
    settings = _pipeline_settings(model, preset, config_file)
    digest = hashlib.sha256(json.dumps(settings.model_dump(mode="json")).encode()).hexdigest()
    left_out = digest_of(exclude)
    default = Path("live.cocuyo") if from_stream else _default_folder(source)
    return LiveRequest(
        source=source,
        folder=Path(out) if out is not None else default,
        options=LiveOptions(
            preset=preset,
            model=model,
            config=settings,
            diameter_um=reading.diameter_um,
            exclude=None if exclude is None else functools.partial(read_exclusion, exclude),
            seed=seed,
            spool=not no_spool,
            publish=publish,
            idle_s=usual_idle_s(source, replay=replay) if idle_s is None else idle_s,
        ),
        key={
            "source": source if from_stream else str(Path(source).resolve()),
            "reading": json.loads(json.dumps(dataclasses.asdict(reading))),
            "settings": digest[:16],
            "model": model or preset,
            "exclude": left_out,
            "spool": not no_spool,
        },
        replay=functools.partial(open_from_options, [source], reading) if replay else None,
        replay_rate_hz=math.inf if replay_rate_hz == 0 else replay_rate_hz,
        reading=reading.choices,
        frame_rate_hz=reading.frame_rate_hz,
        pixel_size_um=reading.pixel_size_um,
        channel=reading.channel,
        plane=reading.plane,
        finish=finish,
        keep_frames=keep_frames,
        overwrite=overwrite,
        inputs=tuple(
            path
            for path in (None if from_stream else source, exclude, config_file, model)
            if path is not None
        ),
    )
