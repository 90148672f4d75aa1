"""How the site is built: ``make docs``."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests" / "support")]

from bids_hsf import __version__  # noqa: E402 - after the paths

project = "bids-hsf"
author = "bids-hsf developers"
smartquotes = False  # "--help" is two hyphens
project_copyright = "bids-hsf developers, MIT licence"
version = release = __version__

extensions = ["extension", "myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build", "_generated", "extension", "README.md"]
nitpicky = True
# Types that have no page here: of other packages, whose sites an offline build cannot ask, and aliases of ours.
nitpick_ignore_regex = [("py:.*", r"(?!bids_hsf\.(api|errors)\.).*")]

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

autodoc_typehints = "none"  # the docstrings tell types, shapes and units
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True
copybutton_line_continuation_character = "\\"

html_theme = "furo"
html_title = f"bids-hsf {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_show_sphinx = False
html_copy_source = False
html_theme_options = {
    "source_repository": "https://github.com/clementpoiret/bids-hsf/",
    "source_branch": "main",
    "source_directory": "docs/",
}
pygments_style = "tango"
pygments_dark_style = "monokai"
