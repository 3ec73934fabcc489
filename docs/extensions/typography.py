"""How the Markdown of the pages looks on the site: indices below, powers above, numbers whole, links by title.

Sources stay plain, to be read as they are and on a code host: ``C_1``, ``l^-3``, ``[errata.md](errata.md)``. Here
they get subscripts, superscripts and the title of the page that a link leads to, and no line ends inside ``1e-4``,
``68 %`` or ``0.5 ± 0.1``. Names of axes such as ``n_time``, code, formulas and the API, whose names are those of
programs, are left alone.
"""

import posixpath
import re

from docutils import nodes
from sphinx.application import Sphinx

_NUMBER = r"[-+]?\d[\d.,/]*(?:e[-+]?\d+)?"
_UNIT = r"%|GeV|TeV|PeV|TV|PV|pc|kpc|µG|uG|deg|degrees|km/s|GB|MB|kB"
MARKED = re.compile(
    rf"""(?P<whole> (?<![\w.])(?:[^\W_]{{1,3}}\s[=<>≤≥]\s)?
         {_NUMBER}(?:\s±\s{_NUMBER})?(?:\s\({_NUMBER}\))?(?:\s(?:{_UNIT})(?!\w))? )
       | (?<![A-Za-z_])(?!n_\w\w) (?P<letter>[A-Za-zΑ-Ωα-ω]\u0303?) _
         (?P<below>\{{[^{{}}]*\}} | (?:par|perp|max|min|sky|obs|[A-Za-z0-9Α-Ωα-ω∥⊥]{{1,2}})(?![A-Za-z0-9_]))
       | \^ (?P<above>\([^()\n]*\) | -?\d+(?:\.\d+)? | -?[A-Za-zΑ-Ωα-ω])""",
    re.VERBOSE,
)
PLAIN = (nodes.literal, nodes.FixedTextElement, nodes.math, nodes.math_block, nodes.raw)


def marked(text: str) -> list[nodes.Node]:
    """Return a text as nodes, with its indices, powers and numbers marked.

    Examples
    --------
    >>> [node.astext() for node in marked("C_1 falls as l^-3")]
    ['C', '1', ' falls as l', '-3']
    >>> marked("k^(-5/3) and 68 % of 12")
    [<#text: 'k'>, <superscript: <#text: '-5/3'>>, <#text: ' and '>, <inline: <#text: '68 %'>>, <#text: ' of 12'>]
    """
    parts: list[nodes.Node] = []
    plain = ""
    end = 0
    for found in MARKED.finditer(text):
        plain += text[end : found.start()]
        end = found.end()
        if found["whole"]:
            if re.fullmatch(r"[\d.,/]+", found["whole"]):
                plain += found["whole"]
                continue
            node: nodes.Element = nodes.inline("", found["whole"], classes=["whole"])
        elif found["letter"]:
            plain += found["letter"]
            node = nodes.subscript("", found["below"].strip("{}"))
        else:
            node = nodes.superscript("", found["above"].strip("()"))
        parts += [nodes.Text(plain), node] if plain else [node]
        plain = ""
    plain += text[end:]
    return [*parts, nodes.Text(plain)] if plain else parts


def mark_up(app: Sphinx, document: nodes.document, name: str) -> None:
    """Mark the text of one page, and name its links to pages by their titles."""
    for cell in list(document.findall(nodes.entry)):
        for code in cell.findall(nodes.literal):
            # A long name of a program may break at a dot or before a capital, rather than widen the table.
            pieces = re.split(r"(?<=[._:/])(?=\w)|(?<=[a-z])(?=[A-Z])", code.astext())
            code.children = []
            for piece in pieces:
                code += [nodes.Text(piece), nodes.raw("", "<wbr>", format="html")]
    if name.startswith("api/"):
        return
    for link in list(document.findall(nodes.reference)):
        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), link.get("refuri", "").split("#")[0]))
        page = target.removesuffix(".html")
        if link.astext().endswith(".md") and page in app.env.titles:
            link.children = []
            link += nodes.inline("", app.env.titles[page].astext())
    for node in list(document.findall(nodes.Text)):
        above, inside = node.parent, node.parent
        while above is not None and not isinstance(above, PLAIN):
            above = above.parent
        if above is None and MARKED.search(node):
            inside.replace(node, marked(node.astext()))


def setup(app: Sphinx) -> dict[str, bool]:
    """Mark each page when its links are known."""
    app.connect("doctree-resolved", mark_up)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
