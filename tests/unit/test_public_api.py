"""What `import cocuyo` gives, and what it does not load."""

import ast
import importlib
import importlib.metadata
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import cocuyo

PACKAGE = Path(cocuyo.__file__).parent
HEAVY = ("torch", "cv2", "openvino", "matplotlib", "scipy", "h5py", "numpy", "pydantic")
PACKAGES = sorted(module.name for module in pkgutil.iter_modules(cocuyo.__path__) if module.ispkg)


def loaded_after(statement):
    """Names of the heavy libraries that a fresh interpreter loads for a statement."""
    code = f"import sys\n{statement}\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return ast.literal_eval(done.stdout)


def stub():
    return ast.parse((PACKAGE / "__init__.pyi").read_text("utf-8"))


def test_importing_cocuyo_loads_nothing_heavy():
    assert loaded_after("import cocuyo") == []


def test_opening_and_evaluating_load_no_network_library():
    loaded = loaded_after("import cocuyo\ncocuyo.open_recording, cocuyo.evaluate, cocuyo.Result")
    assert not {"torch", "openvino"} & set(loaded)


def test_segmenting_is_offered_without_loading_torch():
    assert "torch" not in loaded_after("import cocuyo\ncocuyo.segment")


@pytest.mark.parametrize("name", cocuyo.__all__)
def test_every_public_name_is_there(name):
    assert getattr(cocuyo, name) is not None
    assert name in dir(cocuyo)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = cocuyo.no_such_name


def test_the_stub_lists_the_public_names_and_where_they_live():
    homes, declared = {}, set()
    for node in stub().body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                assert alias.asname == alias.name
                homes[alias.name] = node.module
        elif isinstance(node, ast.AnnAssign):
            declared.add(node.target.id)
    assert set(homes) | declared == set(cocuyo.__all__)
    for name, home in homes.items():
        assert getattr(importlib.import_module(home), name) is getattr(cocuyo, name)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_a_package_lists_is_there_and_listed_once(package):
    module = importlib.import_module(f"cocuyo.{package}")
    listed = getattr(module, "__all__", [])
    assert len(listed) == len(set(listed))
    for name in listed:
        assert hasattr(module, name)
    assert inspect.getdoc(module)


def test_the_version_is_that_of_the_installed_package():
    assert cocuyo.__version__ == importlib.metadata.version("cocuyo")
