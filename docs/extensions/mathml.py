r"""Formulas of the pages as MathML, made while the site is built: they need no script, no TeX and no network.

The translator is that of docutils, which Sphinx needs anyway. A formula that it cannot translate is a warning, and so
an error of the build.
"""

import html
import re
from xml.etree import ElementTree

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.application import Sphinx
from sphinx.locale import __
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)

NAMESPACE = "http://www.w3.org/1998/Math/MathML"
ElementTree.register_namespace("", NAMESPACE)
ACCENTS = set(latex2mathml.accents.values())

# Delimiters of a fixed size that neither open nor close, such as the stroke of \Big/: docutils has those with l and r.
latex2mathml.bigdelimiters.update({"big": 1, "Big": 2, "bigg": 3, "Bigg": 4})


def mathml(tex: str, *, block: bool) -> str:
    r"""Return a formula as a `math` element whose alternative text is its TeX.

    Raises
    ------
    MathError
        If it has a command that is not known.

    Examples
    --------
    >>> mathml("x^2", block=False)
    '<math xmlns="http://www.w3.org/1998/Math/MathML" alttext="x^2"><msup><mi>x</mi><mn>2</mn></msup></math>'
    >>> mathml(r"\hat x_1", block=False).partition('alttext="\\hat x_1">')[2]
    '<msub><mover accent="true"><mi>x</mi><mo stretchy="false">ˆ</mo></mover><mn>1</mn></msub></math>'
    """
    # A fraction of two digits may be written without braces.
    braced = re.sub(r"(\\[td]?frac)\s*(\d)\s*(\d)", r"\1{\2}{\3}", tex)
    text = re.sub(r">\n *<", "><", latex2mathml.tex2mathml(braced, as_block=block))
    # Names of characters, such as &nbsp;, are of HTML and unknown to XML.
    text = re.sub(r"&(?!amp;|lt;|gt;|quot;)\w+;", lambda name: html.unescape(name[0]), text)
    tree = ElementTree.fromstring(text)
    tree.set("alttext", " ".join(tex.split()))
    for node in tree.iter(f"{{{NAMESPACE}}}munderover"):
        base, under, over = node
        # docutils puts the index of a letter with an accent below the letter.
        if over.get("stretchy") == "false" and over.text in ACCENTS:
            node.clear()
            node.tag = f"{{{NAMESPACE}}}msub"
            accented = ElementTree.SubElement(node, f"{{{NAMESPACE}}}mover", accent="true")
            accented.extend([base, over])
            node.append(under)
    return ElementTree.tostring(tree, encoding="unicode")


def _translated(node: nodes.Element, tex: str, *, block: bool) -> str:
    try:
        return mathml(tex, block=block)
    except MathError as error:
        logger.warning(__("formula %r: %s"), tex, error, location=node)
        return f"<code>{html.escape(tex)}</code>"


def inline(translator: HTML5Translator, node: nodes.math) -> None:
    """Write a formula of a sentence."""
    translator.body.append(_translated(node, node.astext(), block=False))
    raise nodes.SkipNode


def displayed(translator: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula of its own line; empty lines part several."""
    for tex in re.split(r"\n\s*\n", node.astext().strip()):
        formula = _translated(node, tex.strip(), block=True)
        translator.body.append(f'<div class="math" tabindex="0">{formula}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer `mathml`."""
    app.add_html_math_renderer("mathml", inline_renderers=(inline, None), block_renderers=(displayed, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
