"""What the site takes from the code: options, columns, models, errors, scores, and the pictures of a real run."""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from extension import catalogue, code_tables, docstrings, example_run, mathml, parser_tables, sections, unbroken

MAKERS = {
    **parser_tables.MAKERS,
    **code_tables.MAKERS,
    **catalogue.MAKERS,
    **sections.MAKERS,
    **example_run.MAKERS,
}


class Generated(SphinxDirective):
    """Markdown that a function makes, read as if it stood in the page: ``{generated} NAME [ARGUMENT]``."""

    required_arguments = 1
    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Make it and parse it."""
        name, *rest = self.arguments[0].split(maxsplit=1) + self.arguments[1:]
        markdown = MAKERS[name](" ".join(rest))
        if sections.starts_before_its_headings(markdown):
            # Sections go into the page at once, and what is given back stands behind them.
            raise ValueError(f"{self.arguments[0]}: what stands before the first heading would come last")
        return self.parse_text_to_nodes(markdown, allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx."""
    app.add_directive("generated", Generated)
    app.add_config_value("example_run", "", "env", str)
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", docstrings.part_names, priority=400)  # napoleon has 500
    app.connect("builder-inited", example_run.prepare)
    app.connect("html-page-context", unbroken.keep_words_whole)
    app.connect("build-finished", example_run.publish)
    app.add_html_math_renderer("mathml", (mathml.visit_inline, mathml.leave), (mathml.visit_block, mathml.leave))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
