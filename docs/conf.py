"""The book's settings for Sphinx.

python -m sphinx -W -b html docs docs/_build          builds the site
python -m sphinx -W -b linkcheck docs docs/_build     checks its external links
"""

import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS / "_ext"), str(DOCS.parent)]  # our extensions; logx.py, for its page

project = "Spinning Up in Deep RL"
html_title = project
language = "en"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_design", "sphinx_copybutton"]
extensions += ["katex", "annotated", "figures", "generated", "questions", "curves", "films"]
extensions += ["glossary"]
exclude_patterns = ["_build", "_ext"]

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist", "attrs_block"]
myst_heading_anchors = 3
myst_dmath_double_inline = True

autodoc_member_order = "bysource"
autodoc_typehints = "none"
python_use_unqualified_type_names = True

html_theme = "furo"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#b33c00", "color-brand-content": "#0a5cad"},
    "dark_css_variables": {"color-brand-primary": "#ff9d66", "color-brand-content": "#7ab8ff"},
}
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_js_files = [("site.js", {"defer": "defer"})]
html_favicon = "_static/favicon.svg"
html_logo = "_static/favicon.svg"
html_search_scorer = str(DOCS / "_static" / "scorer.js")
html_math_renderer = "katex"  # shipped with the site, in _static/katex
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"

linkcheck_timeout = 30
linkcheck_anchors = False
linkcheck_ignore = [r"https?://(localhost|127\.0\.0\.1)"]


def setup(app):
    def level(app, pagename, templatename, context, doctree):
        """Gives headings in the navigation a level, for screen readers."""
        tree = context.get("furo_navigation_tree", "")
        tree = tree.replace('role="heading"', 'role="heading" aria-level="2"')
        context["furo_navigation_tree"] = tree

    app.connect("html-page-context", level, priority=900)  # after Furo has made it
