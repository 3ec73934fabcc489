"""Settings of the site: Markdown pages, an API from docstrings, formulas as MathML; nothing from the network."""

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

import sources
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

import obsfit

project = "obsfit"
author = "The obsfit developers"
release = version = obsfit.__version__
language = "en"

extensions = [
    "mathml",
    "myst_parser",
    "sources",
    "typography",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.linkcode",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["examples", "extensions"]
default_role = "py:obj"
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 4

autosummary_generate = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True}
napoleon_google_docstring = False
napoleon_use_rtype = False
linkcode_resolve = sources.linkcode

PUBLIC = {id(getattr(obsfit, name)) for name in obsfit.__all__ if name != "__version__"}

html_theme = "furo"
html_title = f"obsfit {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False
html_use_index = True
html_theme_options = {"top_of_page_buttons": []}

# Literals and roles, formulas, examples; or a bar.
NO_TEXT = re.compile(
    r"""(?P<kept> ``[\s\S]*?`` | `[^`]*`
        | ^(?P<indent>[ ]*)\.\.[ ]math::.*\n (?:(?P=indent)[ ]+\S.*\n | [ ]*\n)*
        | ^[ ]*>>>[ ].*\n (?:.*\S.*\n)* )
      | \|""",
    re.MULTILINE | re.VERBOSE,
)


def skip(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out of a room what `obsfit` itself offers: each object is described in one place."""
    return True if what == "module" and id(obj) in PUBLIC else None


def plain_bars(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Let docstrings write a modulus with bars, which would begin a substitution."""
    text = "\n".join([*lines, ""])
    lines[:] = NO_TEXT.sub(lambda found: found["kept"] or r"\|", text).split("\n")


def plain_types(app: Sphinx, document: nodes.document) -> None:
    """Keep names of shapes and plain words of a type, such as "path", from becoming links to what has that name."""
    for node in list(document.findall(addnodes.pending_xref)):
        target = node.get("reftarget", "")
        in_a_type = node.get("refdomain") == "py" and node.get("refspecific")
        if in_a_type and "." not in target and target == target.lower():
            node.replace_self(node.children)


def setup(app: Sphinx) -> None:
    """Connect what has no setting."""
    app.connect("autodoc-skip-member", skip)
    app.connect("autodoc-process-docstring", plain_bars)
    app.connect("doctree-read", plain_types)
