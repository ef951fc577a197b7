"""Write the reference of all settings: `python tools/write_settings.py docs/reference/settings.md`.

Units, trades and bounds are those of the classes; values are those of the shipped presets.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cocuyo.pipeline import PRESETS, PipelineConfig, load_model

START = """# Settings

Every setting of a run, with what it means, what it trades, and its value in each preset. In a
file for `--config` the headings are tables and the names are keys; only what differs from the
preset is written:

```toml
[verification]
min_score = 0.7

[validation]
min_probability = 0.3
```

`run.json` of a result holds the complete settings of its run. [Tuning](../how-to/tuning.md) says
which to try first, [the pipeline](../explanation/pipeline.md) what each stage does. A setting that
a preset does not use has its value all the same; `–` stands where a preset has no such part. Shapes
of the networks (`networks.unet`, `networks.temporal`, `networks.outline`) belong to trained
weights: another model brings its own.

*Made by `python tools/write_settings.py docs/reference/settings.md`.*
"""


def values(preset: Any) -> PipelineConfig:
    """The settings that a run with a preset has: those of its model."""
    return load_model(preset).settings.pipeline


def shown(value: Any) -> str:
    """A value as TOML has it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(shown(each) for each in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def bounds(field: FieldInfo) -> str:
    """What a value may be, as far as it is bounded."""
    if get_origin(field.annotation) is not None and str(field.annotation).startswith("typing.Lit"):
        return "one of " + ", ".join(f"`{each}`" for each in get_args(field.annotation))
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    found = [
        f"{sign} {getattr(rule, name):g}"
        for rule in field.metadata
        for name, sign in signs.items()
        if hasattr(rule, name)
    ]
    return ", ".join(found)


def sections(
    model: type[BaseModel], given: dict[str, Any], name: str = ""
) -> Iterator[tuple[str, type[BaseModel], dict[str, Any]]]:
    """The tables of a settings file, a table before those within it."""
    yield name, model, given
    for key, field in model.model_fields.items():
        inner = next(
            (
                each
                for each in (field.annotation, *get_args(field.annotation))
                if isinstance(each, type) and issubclass(each, BaseModel)
            ),
            None,
        )
        if inner is not None:
            below = {preset: getattr(value, key, None) for preset, value in given.items()}
            yield from sections(inner, below, f"{name}.{key}".lstrip("."))


def page() -> str:
    """The reference as Markdown."""
    presets = {preset: values(preset) for preset in PRESETS}
    parts = [START]
    for name, model, given in sections(PipelineConfig, presets):
        own = {
            key: field
            for key, field in model.model_fields.items()
            if not any(isinstance(getattr(value, key, None), BaseModel) for value in given.values())
        }
        if not own:
            continue
        parts.append(f"\n## `[{name}]`\n" if name else "\n## At the top of the file\n")
        parts.append(f"{(model.__doc__ or '').strip().splitlines()[0]}\n")
        parts.append(f"| name | {' | '.join(presets)} | |")
        parts.append(f"|---|{'---|' * len(presets)}---|")
        for key, field in own.items():
            columns = [
                "–" if value is None else f"`{shown(getattr(value, key))}`"
                for value in given.values()
            ]
            about = (field.description or "").replace("|", "\\|")
            limits = bounds(field)
            about += f" ({limits})" if limits else ""
            parts.append(f"| `{key}` | {' | '.join(columns)} | {about} |")
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8", newline="\n")
