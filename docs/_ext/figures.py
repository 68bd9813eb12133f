"""Figures that move, from _static/figures/NAME.js: a drawing, sliders, a sentence that reads it.

    ```{figure-js} clip
    The caption.
    ```

The same file draws the still when the site is built. Print, and browsers without scripts, show it.
"""

import json
from functools import cache
from html import escape
from pathlib import Path

from docutils import nodes
from py_mini_racer import MiniRacer
from sphinx.util.docutils import SphinxDirective

FOLDER = Path(__file__).parents[1] / "_static" / "figures"


@cache
def still(name, mtimes):
    """Text alternative, SVG and reading of a figure as it is before anybody moves a slider."""
    engine = MiniRacer()
    for path in (FOLDER / "figures.js", FOLDER / f"{name}.js"):
        engine.eval(path.read_text(encoding="utf-8"))
    return json.loads(engine.eval(f"JSON.stringify(still({json.dumps(name)}))"))


def raw(html):
    return nodes.raw("", html, format="html")


class FigureJs(SphinxDirective):
    required_arguments = 1
    has_content = True

    def run(self):
        name = self.arguments[0]
        paths = [FOLDER / "figures.js", FOLDER / f"{name}.js"]
        if not paths[1].is_file():
            raise self.error(f"there is no figure {name}; see {FOLDER}")
        for path in paths:
            self.env.note_dependency(str(path))
        alt, svg, reading = still(name, tuple(path.stat().st_mtime for path in paths))
        before = (
            f'<figure class="figure-js" id="figure-{name}" data-figure="{name}">'
            f'<div class="drawing" role="img" aria-label="{escape(alt)}">{svg}</div>'
            f'<p class="reading">{escape(reading)}</p>'
        )
        out = [raw(before)]
        if self.content:
            caption = self.parse_content_to_nodes()
            out += [
                nodes.raw("", "<figcaption>", format="html"),
                *caption,
                nodes.raw("", "</figcaption>", format="html"),
            ]
        return [*out, nodes.raw("", "</figure>", format="html")]


def add_files(app, pagename, templatename, context, doctree):
    body = context.get("body", "")
    names = [p.stem for p in sorted(FOLDER.glob("*.js"))]
    names = [name for name in names if f'data-figure="{name}"' in body]
    for name in ["figures", *names] if names else []:
        app.add_js_file(f"figures/{name}.js", loading_method="defer")


def setup(app):
    app.add_directive("figure-js", FigureJs)
    app.connect("html-page-context", add_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
