"""The documentation tells the truth: its examples run, its commands, links and tests exist."""

import doctest
import importlib
import re
import runpy
import subprocess
import sys
from pathlib import Path

import click
import pytest

import cocuyo
from cocuyo.cli import cli

ROOT = Path(__file__).parents[2]
SOURCE = Path(cocuyo.__file__).parent
PAGES = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
# Its example reads a result folder: tests/unit/io/test_result_documentation.py runs it on one.
WITH_OWN_TEST = {"result-folder.md"}


def named(path):
    return path.relative_to(ROOT).as_posix()


def python_blocks(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def commands(group=cli, words=("cocuyo",)):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        else:
            yield (*words, name), command


WITH_BLOCKS = [page for page in PAGES if page.name not in WITH_OWN_TEST and python_blocks(page)]
WITH_DOCTESTS = sorted(
    ".".join(("cocuyo", *path.relative_to(SOURCE).with_suffix("").parts))
    for path in SOURCE.rglob("*.py")
    if ">>> " in path.read_text("utf-8")
)


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=named)
def test_the_python_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in python_blocks(page):
        exec(compile(block, str(page), "exec"), names)


@pytest.mark.parametrize("module", WITH_DOCTESTS)
def test_the_examples_in_docstrings_are_true(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = importlib.import_module(module)
    outcome = doctest.testmod(found, optionflags=doctest.ELLIPSIS)
    assert outcome.attempted > 0
    assert outcome.failed == 0


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        path, _, _anchor = target.partition("#")
        if path and not re.match(r"[a-z]+:", path):
            assert (page.parent / path).exists(), f"{named(page)} links to {target}"


@pytest.mark.parametrize(
    ("words", "command"), [pytest.param(*found, id=" ".join(found[0])) for found in commands()]
)
def test_every_command_and_option_is_in_the_reference(words, command):
    text = (ROOT / "docs" / "reference" / "commands.md").read_text("utf-8")
    title = f"## `{' '.join(words)}"
    assert title in text
    section = text.split(title, 1)[1].split("\n## ", 1)[0]
    if "reading options" in section:
        section += text.split("## Reading options", 1)[1].split("\n## ", 1)[0]
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            for option in parameter.opts:
                assert f"`{option}" in section, f"{' '.join(words)} {option} is not documented"


def test_the_reference_lists_no_command_that_does_not_exist():
    text = (ROOT / "docs" / "reference" / "commands.md").read_text("utf-8")
    there = {" ".join(words) for words, _ in commands()}
    for title in re.findall(r"^## `(cocuyo [a-z ]+?)(?: [A-Z\[].*)?`$", text, re.MULTILINE):
        assert title in there


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_the_tests_that_a_page_names_exist(page):
    tests = "\n".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for name in re.findall(r"`(test_[a-z0-9_]+)`", page.read_text("utf-8")):
        assert f"def {name}(" in tests, f"{named(page)} names {name}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_the_modules_that_a_page_names_exist(page):
    for name in re.findall(
        r"`((?:src|tests|benchmarks|tools|docs)/[\w/.-]+)`", page.read_text("utf-8")
    ):
        assert (ROOT / name).exists(), f"{named(page)} names {name}"


def test_the_list_of_settings_is_that_of_the_program():
    made = runpy.run_path(str(ROOT / "tools" / "write_settings.py"))["page"]()
    there = (ROOT / "docs" / "reference" / "settings.md").read_text("utf-8")
    assert there == made, "python tools/write_settings.py docs/reference/settings.md"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The documentation as a site; a link or anchor that leads nowhere fails here."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    command += ["-c", "docs", "-d", str(folder / "trees"), ".", str(folder / "html")]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return folder / "html"


def test_every_page_of_the_documentation_is_in_the_site_and_its_navigation(site):
    first = (site / "docs" / "README.html").read_text("utf-8")
    navigation = first.split('class="sidebar-tree"', 1)[1].split("</aside>", 1)[0]
    for page in sorted((ROOT / "docs").rglob("*.md")):
        name = page.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
        assert (site / "docs" / name).is_file()
        assert name == "README.html" or f'href="{name}"' in navigation, name
    assert "url=docs/README.html" in (site / "index.html").read_text("utf-8")


def test_the_site_opens_without_a_network(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        text = page.read_text("utf-8")
        loaded = re.findall(r'<(?:script|img|iframe|source)[^>]*\ssrc="([^"]+)"', text)
        loaded += re.findall(r'<link[^>]*\shref="([^"]+)"[^>]*>', text)
        for address in loaded:
            assert not re.match(r"(?:[a-z]+:)?//", address), f"{page.name} loads {address}"
            if not address.startswith(("data:", "#")):
                assert (page.parent / address.split("?")[0].split("#")[0]).exists(), address
    for style in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//", style.read_text("utf-8")), style.name
