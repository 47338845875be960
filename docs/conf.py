"""The site: `make docs` builds it into build/docs, offline, and every warning is an error."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))
# Notebook kernels and examples import rnn_jax, experiments and docs from here too.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import rnn_jax  # noqa: E402
from docs import pages  # noqa: E402

project = "rnn_jax"
author = "The rnn_jax authors"
copyright = "2026, the rnn_jax authors"
version = release = rnn_jax.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["pages", "reproductions", "gallery/*.ipynb", "**/GALLERY_HEADER.rst"]
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb"}
nitpicky = False
default_role = "code"
suppress_warnings = ["config.cache"]
language = "en"

html_theme = "sphinx_book_theme"
html_title = "rnn_jax"
html_theme_options = {
    "home_page_in_toc": True,
    "navbar_persistent": [],
    "show_toc_level": 2,
    "use_download_button": False,
}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
# A page of formulas is read without a network too where a copy of MathJax is given.
if "MATHJAX" in os.environ:
    mathjax_path = os.environ["MATHJAX"]

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "auto"
nb_execution_raise_on_error = True
nb_execution_timeout = 900
nb_execution_in_temp = True
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

sphinx_gallery_conf = {
    "examples_dirs": str(ROOT / "examples"),
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "ignore_pattern": r"__init__\.py",
    "capture_repr": ("_repr_html_", "__repr__"),
    "ignore_repr_types": r"matplotlib\.(text|axes|lines|legend)|builtins\.|numpy\.|jax",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "show_signature": False,
    "abort_on_example_error": True,
    "within_subsection_order": "FileNameSortKey",
}

FENCE = re.compile(r"^```python$", re.MULTILINE)
HEADER = "---\nfile_format: mystnb\nkernelspec:\n  name: python3\n---\n\n"
ROOT_PAGES = {
    "BENCHMARKS.md": "benchmarks.md",
    "REPRODUCTIONS.md": "reproductions.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
"""Files of the repository's top that have a page here."""
IN_A_CLONE = r"\.pre-commit-config\.yaml|SECURITY\.md|CITATION\.cff|README\.md"


def as_notebook(app: Any, name: str, source: list[str]) -> None:
    """Make blocks of Python cells that are run, and pages of files of the repository's top."""
    if Path(app.env.doc2path(name)).suffix != ".md":
        return
    text, up = source[0], "../" * name.count("/")
    for file, page in ROOT_PAGES.items():
        if page == f"{name}.md":
            text = (ROOT / file).read_text().replace("](docs/", "](")
            app.env.note_dependency(str(ROOT / file))
    for file, page in ROOT_PAGES.items():
        text = re.sub(rf"\]\((\.\./)*{re.escape(file)}(?=[#)])", f"]({up}{page}", text)
    # Other files of the top are in a clone, and not on the site.
    text = re.sub(rf"\[([^]]+)\]\((\.\./)*({IN_A_CLONE})\)", r"\1", text)
    if name.split("/")[0] not in pages.SHOWN and not text.startswith("---") and FENCE.search(text):
        text = HEADER + FENCE.sub("```{code-cell} python", text)
    source[0] = text


def as_rst(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Turn what docstrings have of Markdown, fences and plain signs, into reStructuredText."""
    del app, what, name, obj, options
    found: list[str] = []
    fenced, math = False, None
    for line in lines:
        indent = line[: len(line) - len(line.lstrip())]
        if line.strip() and math is not None and len(indent) <= math:
            math = None
        if line.strip().startswith("```"):
            # Napoleon and docutils want an empty line on both sides.
            found += ["", *([] if fenced else [f"{indent}.. code-block:: python", ""])]
            fenced = not fenced
        elif fenced:
            found.append(f"    {line}" if line.strip() else line)
        elif math is not None or line.lstrip().startswith(".. "):
            math = len(indent) if math is None else math
            found.append(line)
        else:
            found.append(_plain(line))
    lines[:] = found


def _plain(line: str) -> str:
    """Return a line whose signs outside of backticks mean themselves: |x|, h*, x_."""
    parts = line.split("`")
    for n in range(0, len(parts), 2):
        parts[n] = re.sub(r"([|*])", r"\\\1", parts[n])
        parts[n] = re.sub(r"(\w)_(?=\W|$)", r"\1\\_", parts[n])
        # A plural follows a name in backticks without a space.
        if n and re.match(r"\w", parts[n]):
            parts[n] = f"\\ {parts[n]}"
    return "`".join(parts)


def fields_are_described(
    app: Any, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out of a class what its docstring describes, fields, and what libraries add."""
    del app, name, skip, options
    method = callable(obj) or isinstance(obj, property | classmethod | staticmethod)
    own = (getattr(obj, "__module__", None) or "").startswith("rnn_jax")
    return None if what != "class" or (method and (own or isinstance(obj, property))) else True


def nothing_is_missing(app: Any, error: Exception | None) -> None:
    """Fail where a public name has no entry in the reference."""
    if error is None and app.builder.name == "html":
        described = set(app.env.domaindata["py"]["objects"])
        missing = [name for name in pages.public_names() if name not in described]
        if missing:
            raise SystemExit(f"public names without an entry in the reference: {missing}")


def setup(app: Any) -> None:
    """Write the pages that are made of the code, and join what is above to the build."""
    pages.write(DOCS)
    app.connect("source-read", as_notebook)
    app.connect("autodoc-process-docstring", as_rst, priority=400)  # before napoleon
    app.connect("autodoc-skip-member", fields_are_described)
    app.connect("build-finished", nothing_is_missing)
