"""Equations as MathML, which browsers draw by themselves: no script, no font, nothing from elsewhere."""

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.writers.html5 import HTML5Translator


def visit_inline(writer: HTML5Translator, node: nodes.math) -> None:
    """Write an equation within a line."""
    writer.body.append(tex2mathml(node.astext().strip()))
    raise nodes.SkipNode


def visit_block(writer: HTML5Translator, node: nodes.math_block) -> None:
    """Write an equation of its own."""
    writer.body.append(f'<div class="equation">{tex2mathml(node.astext().strip(), as_block=True)}</div>\n')
    raise nodes.SkipNode


def leave(_writer: HTML5Translator, _node: nodes.Node) -> None:
    """Nothing is left to write."""
