"""Questions, with answers to unfold:

    :::{question} Which of these is a random variable?
    - [ ] $\\gamma$

      A constant of the problem.
    - [x] $R(\\tau)$

      It depends on the trajectory, which is drawn.
    :::

    :::{question} Why does the sum start at $t$?

    Rewards of the past do not depend on the action.
    :::

In a list, [x] marks the right choices; below each choice stands why it is right or wrong. Without a
list, everything is the answer. A question is plain HTML, without a script: it works from a file, by
keyboard, and with a screen reader.
"""

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

MARKS = {"[x] ": ("right", "Right."), "[ ] ": ("wrong", "No.")}


def raw(html):
    return nodes.raw("", html, format="html")


def fold(kind, summary, content):
    """The nodes of something to unfold; summary: a list of nodes."""
    before = [raw(f'<details class="{kind}"><summary>'), *summary, raw("</summary>")]
    return [*before, *content, raw("</details>")]


class Question(SphinxDirective):
    required_arguments = 1
    final_argument_whitespace = True
    has_content = True

    def run(self):
        text, _ = self.parse_inline(self.arguments[0])
        content = self.parse_content_to_nodes()
        out = [raw('<div class="question">'), nodes.paragraph("", "", *text)]
        if isinstance(content[0], nodes.bullet_list):
            (choices,) = content
            for letter, item in zip("ABCDEF", choices):
                out += self.choice(letter, item)
        else:
            out += fold("answer", [nodes.inline("", "Answer")], content)
        return [*out, raw("</div>")]

    def choice(self, letter, item):
        """One choice: its mark decides what is said before its explanation."""
        first, *why = item.children
        mark = first.astext()[:4]
        if mark not in MARKS or not why or not isinstance(first[0], nodes.Text):
            raise self.error("a choice begins with [x] or [ ], and a paragraph below says why")
        kind, verdict = MARKS[mark]
        first[0] = nodes.Text(first[0].astext()[4:])
        why[0].insert(0, nodes.strong("", verdict))
        why[0].insert(1, nodes.Text(" "))
        summary = [nodes.strong("", letter), nodes.Text(" "), *first.children]
        return fold(f"choice {kind}", [nodes.inline("", "", *summary)], why)


def setup(app):
    app.add_directive("question", Question)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
