r"""Formulas of the pages as MathML, made while the site is built: they need no script, no TeX and no network.

The translator is that of docutils, which Sphinx needs anyway. A formula that it cannot translate is a warning, and so
an error of the build.
"""

import html
import re

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.application import Sphinx
from sphinx.locale import __
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)

# Delimiters of a fixed size that neither open nor close, such as the stroke of \Big/: docutils has those with l and r.
latex2mathml.bigdelimiters.update({"big": 1, "Big": 2, "bigg": 3, "Bigg": 4})


def mathml(tex: str, *, block: bool) -> str:
    """Return a formula as a `math` element whose alternative text is its TeX.

    Raises
    ------
    MathError
        If it has a command that is not known.

    Examples
    --------
    >>> mathml("x^2", block=False)
    '<math xmlns="http://www.w3.org/1998/Math/MathML" alttext="x^2"><msup><mi>x</mi><mn>2</mn></msup></math>'
    """
    text = re.sub(r">\n *<", "><", latex2mathml.tex2mathml(tex, as_block=block))
    return text.replace("<math ", f'<math alttext="{html.escape(" ".join(tex.split()))}" ', 1)


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
