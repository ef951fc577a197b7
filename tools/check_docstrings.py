"""Validate the docstrings of everything public with numpydoc.

    python tools/check_docstrings.py

Public is what a package of cocuyo lists in ``__all__``. Functions must pass all checks named in
``pyproject.toml`` (summary, parameters, returns); methods and properties of public classes need a
summary; a dataclass must list every field under Attributes.
"""

import dataclasses
import importlib
import inspect
import pkgutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from numpydoc.docscrape import FunctionDoc
from numpydoc.validate import validate

import cocuyo

ROOT = Path(__file__).resolve().parents[1]
SUMMARY = {"GL08", "SS01", "SS02", "SS03"}


def public_objects() -> Iterator[tuple[str, object]]:
    """Yield the full name and the object of every public function and class."""
    seen: set[str] = set()
    for module in pkgutil.iter_modules(cocuyo.__path__):
        if not module.ispkg:
            continue
        package = importlib.import_module(f"cocuyo.{module.name}")
        for name in getattr(package, "__all__", ()):
            found = getattr(package, name)
            if not (inspect.isfunction(found) or inspect.isclass(found)):
                continue
            full = f"{found.__module__}.{found.__qualname__}"
            if full not in seen:
                seen.add(full)
                yield full, found


def problems(full: str, checks: set[str]) -> Iterator[str]:
    """Yield what the chosen checks find in one docstring."""
    for code, message in validate(full)["errors"]:
        if code in checks:
            yield f"{full}: {code} {message}"


def class_problems(full: str, found: type, checks: set[str]) -> Iterator[str]:
    """Yield the problems of a class, its fields and its public members."""
    # Fields of a dataclass stand under Attributes, those of settings in their description.
    fields = dataclasses.is_dataclass(found) or hasattr(found, "model_fields")
    fields = fields or getattr(found, "_is_protocol", False)
    yield from problems(full, SUMMARY if fields else checks)
    if dataclasses.is_dataclass(found):
        documented = {
            name.strip()
            for entry in FunctionDoc(None, doc=inspect.getdoc(found) or "")["Attributes"]
            for name in entry.name.split(",")
        }
        for field in dataclasses.fields(found):
            if not field.name.startswith("_") and field.name not in documented:
                yield f"{full}: the field {field.name} is not listed under Attributes"
    if hasattr(found, "model_fields"):
        for name, field in found.model_fields.items():
            # A nested group of settings describes itself.
            nested = inspect.isclass(field.annotation) and hasattr(field.annotation, "model_fields")
            if not field.description and not nested:
                yield f"{full}: the setting {name} has no description"
    for name, member in vars(found).items():
        inner = getattr(member, "__func__", member)
        if name.startswith("_") or not (inspect.isfunction(inner) or isinstance(inner, property)):
            continue
        yield from problems(f"{full}.{name}", SUMMARY)


def main() -> int:
    """Print every problem; return 1 if there is one."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    checks = set(settings["tool"]["numpydoc_validation"]["checks"])
    found: list[str] = []
    n_objects = 0
    for full, thing in public_objects():
        n_objects += 1
        if inspect.isclass(thing):
            found += class_problems(full, thing, checks)
        else:
            found += problems(full, checks)
    print("\n".join(found) or f"{n_objects} public functions and classes are documented.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
