"""What commands share: the group, words for people, settings, options of results."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from cocuyo import __version__
from cocuyo.cli.progress import _duration

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import ValidationError

    from cocuyo.core import Result
    from cocuyo.pipeline import PipelineConfig


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


def _say(kind: str, text: object) -> None:
    print(f"cocuyo: {kind}: {_one_line(text)}", file=sys.stderr)


_NULLS = ("phase", "shift", "frames")


_PRESETS = ("default", "paper", "srname")
"""Not read from `pipeline.PresetName`: that would load the pipeline for every `--help`."""


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  cocuyo inspect slice.tif       what is in the file, and what is missing
  cocuyo run slice.tif           everything, into slice.cocuyo
  cocuyo view slice.cocuyo       look at the neurons and correct them, in the browser
  cocuyo COMMAND --help          options and examples of a command
""",
)
@click.version_option(__version__, prog_name="cocuyo", message="%(prog)s %(version)s")
def cli() -> None:
    """Find the functional neurons in calcium-imaging recordings."""


def _read_toml(path: str) -> dict[str, Any]:
    """Read the settings that a file for ``--config`` holds."""
    import tomllib
    from pathlib import Path

    from cocuyo.core import SettingsError

    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}. Give a TOML file with --config."
        raise SettingsError(msg) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{path} is not a TOML file: {error}."
        raise SettingsError(msg) from error


def _problems(error: "ValidationError") -> str:
    """Say in words which settings are wrong."""

    def problem(name: str, item: Any) -> str:
        if item["type"] == "extra_forbidden":
            return f"there is no setting {name}"
        return f"{name}: {item['msg']} (given: {item['input']!r})" if name else str(item["msg"])

    return "; ".join(problem(".".join(map(str, item["loc"])), item) for item in error.errors())


def _pipeline_settings(model: str | None, preset: str, config_file: str | None) -> "PipelineConfig":
    """Settings of a model, with those of a TOML file laid over them."""
    from pydantic import ValidationError

    from cocuyo.core import SettingsError
    from cocuyo.pipeline import PipelineConfig, load_model

    base = load_model(model or preset).settings.pipeline
    if config_file is None:
        return base
    given = _read_toml(config_file)
    try:
        return PipelineConfig.model_validate(_overlay(base.model_dump(), given))
    except ValidationError as error:
        msg = (
            f"{config_file} holds settings that cannot be used: {_problems(error)}. The run.json "
            "of a result shows the names and values of all."
        )
        raise SettingsError(msg) from None


def _overlay(base: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Lay nested tables over others; what is not given stays."""
    merged = dict(base)
    for key, value in given.items():
        below = base.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            merged[key] = _overlay(below, value)
        else:
            merged[key] = value
    return merged


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _typed(path: "Path") -> str:
    """A path as it is typed: in quotes where it has spaces."""
    return f'"{path}"' if " " in str(path) else str(path)


def _summary(result: "Result", folder: "Path") -> str:
    """What was found, in two lines, where the report lies and what comes next."""
    from cocuyo.io.results import replaced_edits

    accepted = int(result.rois.accepted.sum())
    events = int(result.events.count(len(result.rois))[result.rois.accepted].sum())
    given = result.info.task == "extract"
    kind, other = ("given ROI", "ROI") if given else ("functional neuron", "candidate")
    what = f"{len(result.parts)} recordings" if result.parts else "a recording"
    lines = [
        f"{_counted(accepted, kind)} with {_counted(events, 'event')} in {what} of "
        f"{_duration(result.times_s[-1])} (min:s); "
        f"{_counted(len(result.rois) - accepted, other)} rejected."
    ]
    lines += [f"Warning: {text}" for text in result.info.warnings]
    kept = ", ".join(path.name for path in replaced_edits(folder))
    if kept:
        lines.append(
            f"Corrections of results that stood here before lie in {kept}; they do not count here."
        )
    lines.append(f"Report: {folder / 'report.html'}")
    lines.append(f"To correct it: cocuyo view {_typed(folder)}")
    return "\n".join(lines)


_SETTINGS_OPTIONS = (
    click.option(
        "--preset",
        type=click.Choice(_PRESETS),
        default="default",
        show_default=True,
        help="default: ours; paper: the published method; srname: without networks.",
    ),
    click.option("--model", metavar="NAME|DIR", help="Another trained model, with its settings."),
    click.option(
        "--config", "config_file", metavar="FILE", help="TOML file with settings to change."
    ),
)
"""Options of the commands that analyse recordings: with which settings."""


def _result_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of the commands that make a result folder of a recording."""
    options = (
        click.option(
            "--exclude",
            metavar="MASK",
            help="Image, not 0 where nothing is to be found (a pipette, the slice's edge).",
        ),
        click.option(
            "--out",
            metavar="DIR",
            help="Result folder; <stem>.cocuyo beside REC by default, <stem>.experiment.cocuyo "
            "beside the first of several.",
        ),
        *_SETTINGS_OPTIONS,
        click.option(
            "--overwrite", is_flag=True, help="Replace a result of cocuyo that is in the way."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _default_folder(recording: str, *, ending: str = ".cocuyo") -> "Path":
    """Name the result folder beside a recording: that of ``.`` too has a name."""
    import os
    from pathlib import Path

    path = Path(os.path.abspath(recording))  # noqa: PTH100 - resolves "." but keeps links
    name = path.name if path.is_dir() else path.stem
    return path.parent / f"{name}{ending}"


def _beside(folder: str, suffix: str) -> "Path":
    """Name a folder beside another one: that of ``.`` too has a name."""
    import os
    from pathlib import Path

    path = Path(os.path.abspath(folder))  # noqa: PTH100 - resolves "." but keeps links
    return path.parent / f"{path.stem}{suffix}"
