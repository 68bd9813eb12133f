"""Typesets mathematics in the reader's browser, with the KaTeX in _static/katex and no network.

Formulas are spans and divs of class "math" that hold LaTeX; _static/math.js typesets them.
"""

from html import escape

from docutils import nodes


def visit_inline(self, node):
    self.body.append(f'<span class="math">{escape(node.astext())}</span>')
    raise nodes.SkipNode


def visit_block(self, node):
    tex = node.astext()
    if "\\\\" in tex and "\\begin" not in tex:
        tex = f"\\begin{{aligned}}{tex}\\end{{aligned}}"
    if node.get("number"):
        tex += rf"\tag{{{node['number']}}}"
    anchor = f' id="{node["ids"][0]}"' if node.get("ids") else ""
    self.body.append(f'<div class="math"{anchor}>{escape(tex)}</div>\n')
    raise nodes.SkipNode


def add_files(app, pagename, templatename, context, doctree):
    if 'class="math"' in context.get("body", ""):
        app.add_css_file("katex/katex.min.css")
        app.add_js_file("katex/katex.min.js", loading_method="defer")
        app.add_js_file("math.js", loading_method="defer")


def setup(app):
    app.add_html_math_renderer("katex", (visit_inline, None), (visit_block, None))
    app.connect("html-page-context", add_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
