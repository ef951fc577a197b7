"""``cocuyo simulate``."""

from typing import TYPE_CHECKING

import click

from cocuyo import __version__
from cocuyo.cli.common import _problems, _read_toml, cli
from cocuyo.cli.progress import ProgressPrinter

if TYPE_CHECKING:
    from cocuyo.simulation import SimulationConfig, Split


@cli.command(
    epilog="""\b
Examples:
  cocuyo simulate                                an ordinary slice, in the folder simulation
  cocuyo simulate --preset crowded --seed 7 --out crowded7
  cocuyo simulate --preset miniscope --out scope
  cocuyo simulate --random test --seed 3 --out test3
  cocuyo simulate --config mine.toml             lines such as: n_active = 12
"""
)
@click.option(
    "--out", default="simulation", show_default=True, metavar="DIR", help="Folder to write to."
)
@click.option(
    "--preset",
    type=click.Choice(
        [
            *("demo", "slice", "sparse", "crowded", "silent", "dim"),
            *("slice_gcamp6f", "slice_ogb1", "slice_mixed", "slice_stimulated"),
            *("culture", "culture_bursts"),
            *("miniscope", "miniscope_video", "miniscope_delta_f"),
        ]
    ),
    help="Kind of recording; slice by default.",
)
@click.option(
    "--random",
    "split",
    type=click.Choice(["training", "validation", "test"]),
    help="Draw the settings by the seed in place of a preset, as for this part of training data.",
)
@click.option(
    "--broad",
    is_flag=True,
    help="With --random: cultures, miniscopes, indicators and cameras as well.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, metavar="N", help="Seed of all randomness."
)
@click.option("--n-frames", type=int, metavar="N", help="Length of the recording in frames.")
@click.option(
    "--size", "shape", nargs=2, type=int, metavar="ROWS COLUMNS", help="Size of a frame in pixels."
)
@click.option(
    "--config", "config_file", metavar="FILE.toml", help="Settings that replace the preset's."
)
@click.option("--overwrite", is_flag=True, help="Replace the files of an earlier simulation.")
def simulate(
    *,
    out: str,
    preset: str | None,
    split: "Split | None",
    broad: bool,
    seed: int,
    n_frames: int | None,
    shape: tuple[int, int] | None,
    config_file: str | None,
    overwrite: bool,
) -> None:
    """Simulate a one-photon recording of a slice, a culture or a miniscope, with its exact truth.

    Writes recording.tif, truth.npz (which `cocuyo evaluate --truth` reads) and simulation.json with
    all settings.
    """
    from pathlib import Path

    import numpy as np
    import tifffile

    from cocuyo.core import ResultError, SettingsError
    from cocuyo.io.atomic import save_npz_atomic, write_json, write_together
    from cocuyo.io.results import cannot_write, check_writable
    from cocuyo.simulation import simulate as make

    config = _simulation_settings(preset, split, broad, seed, n_frames, shape, config_file)
    n_bytes = config.n_frames * config.n_rows * config.n_columns * (1 + (config.bit_depth > 8))
    if n_bytes > 4 * 10**9:
        msg = (
            f"The recording would have {n_bytes / 1e9:.1f} GB; a TIFF that ImageJ reads holds "
            "4 GB. Ask for fewer or smaller frames (--n-frames, --size)."
        )
        raise SettingsError(msg)
    folder = Path(out)
    movie, truth, settings = names = ("recording.tif", "truth.npz", "simulation.json")
    present = [name for name in names if (folder / name).exists()]
    if present and not overwrite:
        msg = (
            f"{folder} already holds {', '.join(present)}. Give another folder with --out, "
            "or --overwrite to replace them."
        )
        raise ResultError(msg)
    check_writable(folder)
    with ProgressPrinter() as progress:
        simulation = make(config, seed=seed, progress=progress)
    rate_hz, pixel_um = config.frame_rate_hz, config.pixel_size_um
    try:
        with write_together(folder, names) as place:
            tifffile.imwrite(
                place[movie],
                simulation.frames,
                imagej=True,
                byteorder="<",
                resolution=(1 / pixel_um, 1 / pixel_um),
                metadata={"axes": "TYX", "finterval": 1 / rate_hz, "fps": rate_hz, "unit": "um"},
            )
            save_npz_atomic(place[truth], simulation.truth.arrays())
            content = {"seed": seed, "settings": config.model_dump(mode="json")}
            write_json(place[settings], {"cocuyo": __version__, **content})
    except OSError as error:
        raise cannot_write(folder, error) from error
    functional, silent, faint, defocused = np.bincount(simulation.truth.kinds, minlength=4)
    click.echo(
        f"{folder / movie}: {config.n_frames} frames of {config.n_rows} x {config.n_columns}, "
        f"{functional} functional, {silent} silent, {faint} faint and {defocused} defocused cells."
    )


def _simulation_settings(
    preset: str | None,
    split: "Split | None",
    broad: bool,
    seed: int,
    n_frames: int | None,
    shape: tuple[int, int] | None,
    config_file: str | None,
) -> "SimulationConfig":
    """Put the settings of a simulation together: preset or random ones, file, options."""
    from pydantic import ValidationError

    from cocuyo.core import SettingsError
    from cocuyo.simulation import (
        PRESETS,
        SimulationConfig,
        broad_training_config,
        random_config,
    )

    if seed < 0:
        msg = f"--seed is {seed}; it must be 0 or more."
        raise SettingsError(msg)
    if preset is not None and split is not None:
        msg = "--preset and --random exclude each other; give one of them."
        raise click.UsageError(msg)
    if broad and split is None:
        msg = "--broad goes with --random; give --random training, for instance."
        raise click.UsageError(msg)
    try:
        if split is not None and broad:
            # Rate and number of cells are drawn for this length and size.
            length = 600 if n_frames is None else n_frames
            drawn = broad_training_config(
                seed, split=split, n_frames=length, shape=shape or (256, 256)
            )
            values = drawn.model_dump()
        elif split is not None:
            values = random_config(seed, split=split).model_dump()
        else:
            values = PRESETS[preset or "slice"].model_dump()
        if config_file is not None:
            values |= _read_toml(config_file)
        if n_frames is not None:
            values["n_frames"] = n_frames
        if shape is not None:
            values["n_rows"], values["n_columns"] = shape
        return SimulationConfig.model_validate(values)
    except ValidationError as error:
        msg = f"These settings cannot be simulated: {_problems(error)}."
        raise SettingsError(msg) from None
