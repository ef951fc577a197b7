"""cocuyo finds the functional neurons in one-photon calcium-imaging recordings."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Public name -> module that defines it. Loaded on first use, so that `import cocuyo` is quick.
_HOMES = {
    "CocuyoError": "cocuyo.core",
    "Recording": "cocuyo.core",
    "Result": "cocuyo.core",
    "RoiSet": "cocuyo.core",
    "open_recording": "cocuyo.io",
    "read_rois": "cocuyo.io",
    "extract": "cocuyo.pipeline",
    "segment": "cocuyo.pipeline",
    "segment_experiment": "cocuyo.pipeline",
    "simulate": "cocuyo.simulation",
    "evaluate": "cocuyo.evaluation",
}

__all__ = ["__version__", *sorted(_HOMES)]  # noqa: PLE0604 - names are strings


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module 'cocuyo' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
