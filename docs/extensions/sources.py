"""Pages of source: what a link to a file of the project leads to, and what [source] beside a function leads to.

On a code host a link such as ``../obsfit/sky/harmonics.py`` opens the file. In the site it opens a page made here, at
the function that the text of the link names. Only files that some page links to get one.
"""

import ast
import functools
import importlib
import inspect
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

ROOT = Path(__file__).resolve().parents[2]
PAGES = {"README.md": "index", "CHANGELOG.md": "changelog"}
"""Files outside this folder that are pages of the site."""
LANGUAGES = {".py": "python", ".toml": "toml", ".cff": "yaml"}
_linked: set[str] = set()


def page_of(file: str) -> str:
    """Return the name of the page of a file, and keep in mind that it is wanted."""
    _linked.add(file)
    return f"source/{file}"


@functools.cache
def definitions(text: str) -> dict[str, int]:
    """Return the lines, from 0, at which functions, classes, methods and constants of a module begin, by name.

    Examples
    --------
    >>> definitions("X = 1\\n\\nclass A:\\n    def f(self): ...")
    {'X': 0, 'A': 2, 'A.f': 3}
    """
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign):
            found |= {target.id: node.lineno - 1 for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node.lineno - 1
            if isinstance(node, ast.ClassDef):
                inside = [item for item in node.body if isinstance(item, ast.FunctionDef)]
                found |= {f"{node.name}.{item.name}": item.lineno - 1 for item in inside}
    return found


def anchor(file: str, words: str) -> str:
    """Return ``#name`` if the text of a link, such as ``package.module.name`` or ``file::name``, names one; else ""."""
    known = definitions((ROOT / file).read_text(encoding="utf-8")) if file.endswith(".py") else {}
    parts = words.split("::")[-1].split(".")
    for name in (".".join(parts[-2:]), parts[-1]):
        if name in known:
            return f"#{name}"
    return ""


class LinksToFiles(SphinxTransform):
    """Turns links to files of the project into links to their pages; Markdown would make downloads of them."""

    default_priority = 200

    def apply(self, **kwargs: Any) -> None:
        """Replace the nodes of one document."""
        here = (Path(self.env.srcdir) / self.env.docname).parent
        for node in list(self.document.findall(_may_be_a_file)):
            target, _, fragment = node["reftarget"].partition("#")
            # What Markdown takes for a document has lost its suffix.
            suffix = ".md" if node.get("refdomain") == "doc" else ""
            path = (here / (target + suffix)).resolve()
            if not path.exists() or (path.is_relative_to(self.env.srcdir) and suffix):
                continue
            file = path.relative_to(ROOT).as_posix()
            page = PAGES.get(file) or page_of(file)
            fragment = f"#{fragment}" if fragment else "" if file in PAGES else anchor(file, node.astext())
            uri = self.app.builder.get_relative_uri(self.env.docname, page) + fragment
            node.replace_self(nodes.reference("", "", *node.children, internal=True, refuri=uri))


def _may_be_a_file(node: nodes.Node) -> bool:
    return isinstance(node, addnodes.download_reference) or (
        isinstance(node, addnodes.pending_xref) and node.get("reftype") == "myst"
    )


def linkcode(domain: str, info: dict[str, str]) -> str | None:
    """Return the address of the source of an object, as seen from the pages of the API, all in one folder."""
    if domain != "py" or not info["module"]:
        return None
    try:
        found: Any = importlib.import_module(info["module"])
        for name in info["fullname"].split("."):
            found = getattr(found, name)
        # A property and a compiled function hold what was written.
        for inside in ("fget", "func", "py_func"):
            found = getattr(found, inside, found)
        path, name = Path(inspect.getsourcefile(found) or "").resolve(), found.__qualname__
    except (AttributeError, TypeError):
        return None
    if not path.is_relative_to(ROOT) or name not in definitions(path.read_text(encoding="utf-8")):
        return None
    return f"../{page_of(path.relative_to(ROOT).as_posix())}.html#{name}"


def write_pages(app: Sphinx, error: Exception | None) -> None:
    """Write the page of each file that was linked to, and of each folder a list of what is in it."""
    if error is not None or app.builder.format != "html":
        return
    for folder in [file for file in _linked if (ROOT / file).is_dir()]:
        inside = sorted(path.name for path in (ROOT / folder).iterdir() if path.suffix in LANGUAGES)
        links = [f'<li><a href="{Path(folder).name}/{name}.html">{name}</a></li>' for name in inside]
        _linked.update(f"{folder}/{name}" for name in inside)
        _write_page(app, folder, f"<ul>{''.join(links)}</ul>")
    for file in [file for file in _linked if (ROOT / file).is_file()]:
        text = (ROOT / file).read_text(encoding="utf-8")
        language = LANGUAGES.get(Path(file).suffix, "text")
        lines = app.builder.highlighter.highlight_block(text, language).split("\n")
        if language == "python":
            for name, at in definitions(text).items():
                lines[at] = f'<span class="target" id="{name}"></span>{lines[at]}'
        _write_page(app, file, "\n".join(lines))


def _write_page(app: Sphinx, file: str, body: str) -> None:
    """Write one page, without the navigation of the others: that would take most of the time of the build."""
    path = Path(app.outdir) / f"{page_of(file)}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    top = "../" * len(Path(file).parts)
    path.write_text(
        f"""<!doctype html>
<html lang="{app.config.language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{file} - {app.config.html_title}</title>
<link rel="stylesheet" href="{top}_static/pygments.css">
<link rel="stylesheet" href="{top}_static/source.css">
</head>
<body>
<nav><a href="{top}index.html">{app.config.html_title}</a></nav>
<main>
<h1>{file}</h1>
{body}
</main>
</body>
</html>
""",
        encoding="utf-8",
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Register links and pages."""
    app.add_transform(LinksToFiles)
    app.connect("build-finished", write_pages)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
