"""Puts SVG pictures into the page itself, so that ink in currentColor follows the page's theme."""

import re
from html import escape
from pathlib import Path

from docutils import nodes

DOCS = Path(__file__).parents[1]


def inline(svg, name, alt, kind):
    """An SVG as part of a page: without a style of its own, with ids that no other picture has."""
    svg = re.sub(r"<style>.*?</style>", "", svg, count=1)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    return f'<div class="{kind}" role="img" aria-label="{escape(alt)}">{svg}</div>'


def replace_pictures(app, doctree):
    for node in list(doctree.findall(nodes.image)):
        path = (Path(app.env.doc2path(app.env.docname)).parent / node["uri"]).resolve()
        if path.suffix != ".svg":
            continue
        app.env.note_dependency(str(path))
        svg = path.read_text(encoding="utf-8")
        kind = "curve" if path.parent.name == "report" else "picture"
        html = inline(svg, path.stem, node.get("alt", ""), kind)
        node.replace_self(nodes.raw("", html, format="html"))


def setup(app):
    # before Sphinx collects the pictures to copy
    app.connect("doctree-read", replace_pictures, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
