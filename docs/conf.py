"""The site of the documentation, made by Sphinx: `make docs`.

The source directory is the whole repository, so that pages link to each other there as they
do in the site.
"""

import re
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

project = "cocuyo"
release = version_of("cocuyo")
root_doc = "docs/README"
include_patterns = ["*.md", "docs/**", "benchmarks/results/*.md"]
source_suffix = {".md": "markdown"}

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # a page of settings may begin at any level
autosummary_generate = False
numpydoc_show_class_members = False
autodoc_typehints = "none"  # numpydoc says them with shapes

highlight_language = "none"  # a block that names no language is a terminal's

html_theme = "furo"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_title = f"cocuyo {release}"
html_copy_source = False
html_show_sphinx = False
html_show_search_summary = False  # a page opened from disk may not fetch others
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#3d6b00", "color-brand-content": "#3d6b00"},
    "dark_css_variables": {"color-brand-primary": "#c5e84a", "color-brand-content": "#c5e84a"},
}

GROUP = re.compile(r"^\*\*(.+)\*\*\n\n((?:- .*\n(?:  .*\n)*)+)", re.MULTILINE)
PAGE = re.compile(r"\[([^\]]+)\]\(([^)#]+)\.md\)")


def complete(_app: Any, name: str, source: list[str]) -> None:
    """Let the lists of the first page, which the repository shows too, be the navigation."""
    if name == root_doc:
        for title, pages in GROUP.findall(source[0]):
            entries = "\n".join(f"{text} <{page}>" for text, page in PAGE.findall(pages))
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{entries}\n```\n"
    elif name.startswith("benchmarks/"):  # tables without a title
        source[0] = f"# {Path(name).name.capitalize()}\n\n{source[0]}"


def lead_to_the_first_page(app: Any, problem: Exception | None) -> None:
    """Give the site an `index.html`."""
    if problem is None and app.builder.name == "html":
        page = f'<!doctype html><meta http-equiv="refresh" content="0; url={root_doc}.html">'
        (Path(app.outdir) / "index.html").write_text(page, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Tell Sphinx."""
    app.connect("source-read", complete)
    app.connect("build-finished", lead_to_the_first_page)
    return {"parallel_read_safe": True}
