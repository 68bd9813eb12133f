"""The annotated script: its pseudocode beside its code, linked by the pseudocode's line numbers.

    ```{annotated} sac
    ```
    ```{annotated} sac
    :lines: 11-12
    :lit: 12
    ```
    ```{pseudocode} sac
    ```
    ```{sibling-diff} ddpg td3
    ```

A code line belongs to pseudocode line 12 if it ends with the comment `# (12)`, a function if its
docstring begins with `(12)`. The second form shows only some lines of the pseudocode, and the code
that cites them; line 12 is lit at first. The third is the pseudocode alone, the fourth what changed
from one script to another.
"""

import ast
import difflib
import io
import re
import tokenize
from functools import cache
from html import escape
from pathlib import Path

import typeset
from docutils import nodes
from docutils.parsers.rst import directives
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]
CITATION = re.compile(r"\((\d+[a-z]?)\)")
SUBSCRIPT = re.compile(r"_\{((?:[^{}]|\{[^{}]*\})*)\}")
BREAKABLE = re.compile(
    r'<span class="p">[^<]*[(\[]</span>|(?<=[\w)\]]</span>)(?=<span class="o">\.</span>)'
)


class Script:
    """A script taken apart: title, pseudocode, notes, code, and which line cites which number."""

    def __init__(self, name):
        self.name, self.path = name, ROOT / f"{name}.py"
        source = self.path.read_text(encoding="utf-8")
        tree = ast.parse(source)
        self.title, pseudocode, *self.notes = ast.get_docstring(tree).split("\n\n")
        self.pseudocode = []  # [(number, indentation, text)]
        for line in pseudocode.splitlines():
            if m := re.match(r" ?(\d+[a-z]?):( +)(.*)", line):
                self.pseudocode.append((m[1], (len(m[0]) - len(m[3]) - 4) // 2, m[3]))
            else:  # continues the line above
                number, indent, text = self.pseudocode[-1]
                self.pseudocode[-1] = (number, indent, f"{text} {line.strip()}")
        self.lines = source.splitlines()
        self.html = highlight(source, PythonLexer(stripnl=False), HtmlFormatter(nowrap=True))
        # so that indented lines begin with spaces
        self.html = re.sub(r'<span class="w">(\s*)</span>', r"\1", self.html).splitlines()
        self.start = tree.body[0].end_lineno + 1  # the code begins below the docstring
        while not self.lines[self.start - 1]:
            self.start += 1

        self.functions = [x for x in ast.walk(tree) if isinstance(x, ast.FunctionDef)]
        self.train = next(f for f in self.functions if f.name == "train")
        self.cited = {}  # line: the numbers it cites itself
        self.part = {}  # line: the numbers that its function cites
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            comment = token.string if token.type == tokenize.COMMENT else ""
            if re.fullmatch(rf"#( {CITATION.pattern})+", comment):
                last = token.start[0]
                for line in range(self._statement(tree, last), last + 1):
                    self.cited[line] = CITATION.findall(comment)
        for f in self.functions:
            if m := re.match(rf"({CITATION.pattern} ?)+", ast.get_docstring(f) or ""):
                self.cited[f.body[0].lineno] = CITATION.findall(m[0])
                for line in range(first_line(f), f.end_lineno + 1):
                    self.part[line] = CITATION.findall(m[0])

    def _statement(self, tree, line):
        """The first line of the innermost statement that a comment in `line` follows."""
        statements = [x for x in ast.walk(tree) if isinstance(x, ast.stmt)]
        return max(x.lineno for x in statements if x.lineno <= line <= x.end_lineno)

    def places(self, number):
        """[(line, function)] of every line that cites a number, train's own first."""
        found = []
        for line, numbers in sorted(self.cited.items()):
            if number in numbers:
                f = next(f for f in self.functions if f.lineno <= line <= f.end_lineno)
                found.append((line, f.name))
        return sorted(found, key=lambda place: place[1] != "train")


@cache
def load(name, mtime):
    return Script(name)


def script(directive, name):
    path = ROOT / f"{name}.py"
    if not path.is_file():
        raise directive.error(f"there is no script {name}.py")
    directive.env.note_dependency(str(path))
    directive.env.note_dependency(__file__)
    return load(name, path.stat().st_mtime)


def indentation(line):
    return len(line) - len(line.lstrip())


def first_line(function):
    """The line of a function's first decorator, or of its def if it has none."""
    return min([function.lineno, *(x.lineno for x in function.decorator_list)])


def source_line(line, html, cut=0, label=""):
    """A line of code, less `cut` of its indentation. A long one wraps below its own first word."""
    indent = indentation(line) - cut
    html = re.sub(r"^((?:<span[^>]*>)*)\s+", r"\1", html)
    html = BREAKABLE.sub(r"\g<0><wbr>", html)  # where a long line may be broken on a phone
    blanks = f'<span class="in">{" " * indent}</span>'
    return f'<span class="src" style="--indent:{indent}">{label}{blanks}{html}\n</span>'


def with_subscripts(html):
    """The subscripts of a docstring set below the line; their braces stay in the text, unseen."""
    brace = '<span class="brace">{}</span>'.format

    def lower(m):
        return f"{brace('_{')}<sub>{SUBSCRIPT.sub(lower, m[1])}</sub>{brace('}')}"

    return re.sub(
        r'(?<=<span class="sd">)(.*?)(?=</span>)', lambda m: SUBSCRIPT.sub(lower, m[1]), html
    )


def pseudocode_html(s, numbers, prefix, page=""):
    """The lines of the pseudocode; their links to the code lead to another page if it is given."""
    rows, outer = [], min(indent for number, indent, _ in s.pseudocode if number in numbers)
    for number, indent, text in s.pseudocode:
        if number not in numbers:
            continue
        links = []
        for line, name in s.places(number):
            hidden = f'<span class="visually-hidden">, {escape(name)}</span>'
            href = f"{page}#{prefix}-L{line}"
            links.append(f'<a href="{href}" title="{escape(name)}">{line}{hidden}</a>')
        key, rest = re.match(r"((?:input|for|repeat|if|when)\b)?(.*)", text).groups()
        text = (f"<b>{key}</b>" if key else "") + typeset.html(rest)
        anchor = "" if page else f' id="{prefix}-{number}"'
        rows.append(
            f'<li{anchor} data-cites="{number}" style="--indent:{indent - outer}">'
            f'<span class="number">{number}</span><span class="step">{text} <span class="places">'
            f'<span class="visually-hidden">in the code: line </span>{" ".join(links)}'
            "</span></span></li>"
        )
    return '<ol class="pseudocode" role="list">\n' + "\n".join(rows) + "\n</ol>"


def code_html(s, spans, numbers, prefix):
    def link(m):
        if m[1] in numbers:
            return f'<a href="#{prefix}-{m[1]}">{m[0]}</a>'
        return f"<span>{m[0]}</span>"

    rows = []
    for first, last in spans:
        cut = min(indentation(line) for line in s.lines[first - 1 : last] if line)
        if rows:
            rows.append('<span class="gap">⋮\n</span>')
        for n in range(first, last + 1):
            html, cites = s.html[n - 1], s.cited.get(n, [])
            if cites:  # the numbers in the comment, or at the docstring's beginning, become links
                head, mark, tail = html.rpartition("# (") if "# (" in html else html.partition("(")
                end = re.match(rf"(?:{CITATION.pattern} ?)*", mark[-1:] + tail).end()
                linked = CITATION.sub(link, (mark[-1:] + tail)[:end])
                html = head + mark[:-1] + linked + (mark[-1:] + tail)[end:]
            html = with_subscripts(html)
            data = f' data-cites="{" ".join(cites)}"' if cites else ""
            data += f' data-part="{" ".join(s.part[n])}"' if n in s.part else ""
            label = f'<a class="ln" href="#{prefix}-L{n}" tabindex="-1">{n}</a>'
            code = source_line(s.lines[n - 1], html, cut)
            rows.append(f'<span class="line" id="{prefix}-L{n}"{data}>{label}{code}</span>')
    return f'<pre class="code highlight"><code>{"".join(rows)}</code></pre>'


class Annotated(SphinxDirective):
    required_arguments = 1
    has_content = True  # for a reader on a code host; not shown here
    option_spec = {"lines": directives.unchanged, "lit": directives.unchanged}  # noqa: RUF012

    def run(self):
        s = script(self, self.arguments[0])
        numbers = [number for number, _, _ in s.pseudocode]
        if "lines" in self.options:
            first, last = self.options["lines"].split("-")
            numbers = numbers[numbers.index(first) : numbers.index(last) + 1]
            within = range(s.train.lineno, s.train.end_lineno + 1)
            cited = [n for n, cites in s.cited.items() if n in within and set(cites) & set(numbers)]
            spans = [(min(cited), max(cited))]
            for f in s.functions:
                inner = any(first < f.lineno <= last for first, last in spans)
                if set(s.part.get(f.lineno, [])) & set(numbers) and not inner:
                    spans.append((first_line(f), f.end_lineno))
        else:
            spans = [(s.start, len(s.lines))]
        count = self.env.new_serialno(f"annotated-{s.name}")  # a page may have several excerpts
        prefix = f"{s.name}-{count + 1}" if count else s.name
        try:
            pseudocode = pseudocode_html(s, numbers, prefix)
        except ValueError as e:
            raise self.error(f"{s.name}.py: {e}") from e
        notes = ""
        if "lines" not in self.options:
            *notes, commands = s.notes
            notes = "".join(f"<p>{typeset.html(' '.join(note.split()))}</p>" for note in notes)
            commands = escape(re.sub("(?m)^ +", "", commands))
            notes = f'<div class="notes">{notes}<pre>{commands}</pre></div>'
        code = code_html(s, spans, numbers, prefix)
        kind = "annotated" if notes else "annotated excerpt"
        lit = self.options.get("lit", "")
        train = f"{prefix}-L{first_line(s.train)}" if notes else ""
        html = (
            f'<div class="{kind}" data-script="{s.name}" data-lit="{lit}" data-train="{train}">\n'
            f'<div class="left" role="group" aria-label="Pseudocode of {s.name}.py">'
            f'<div class="pane">{pseudocode}{notes}</div></div>\n'
            f'<div class="right" role="group" aria-label="Code of {s.name}.py">{code}</div>\n'
            "</div>\n"
        )
        return [nodes.raw("", html, format="html")]


class Pseudocode(SphinxDirective):
    """The whole pseudocode in a box. Its links lead to the code on the annotated page."""

    required_arguments = 1
    has_content = True  # for a reader on a code host; not shown here

    def run(self):
        s = script(self, self.arguments[0])
        numbers = [number for number, _, _ in s.pseudocode]
        rows = pseudocode_html(s, numbers, s.name, f"{s.name}-annotated.html")
        name, _, _ = s.title.partition(":")
        html = f'<div class="annotated-box"><p>{escape(name)}</p>\n{rows}</div>\n'
        return [nodes.raw("", html, format="html")]


class SiblingDiff(SphinxDirective):
    """What changed from one script to the next, as a unified diff with both files' line numbers."""

    required_arguments = 2
    has_content = True

    def run(self):
        old, new = (script(self, name) for name in self.arguments)
        matcher = difflib.SequenceMatcher(None, old.lines, new.lines, autojunk=False)
        places, hunks = [], []
        for group in matcher.get_grouped_opcodes(2):
            rows = []
            for tag, i1, i2, j1, j2 in group:
                if tag == "equal":
                    for i, j in zip(range(i1, i2), range(j1, j2)):
                        rows.append(self.row("same", i + 1, j + 1, new, j))
                else:
                    rows += [self.row("del", i + 1, "", old, i) for i in range(i1, i2)]
                    rows += [self.row("ins", "", j + 1, new, j) for j in range(j1, j2)]
            place = self.where(new, group)
            if places[-1:] == [place]:
                hunks[-1] += ['<span class="gap">⋮\n</span>', *rows]
            else:
                places.append(place)
                hunks.append(rows)
        html = ""
        for place, rows in zip(places, hunks):
            html += f'<p class="where">{place}</p>'
            html += f'<pre class="code highlight"><code>{"".join(rows)}</code></pre>'
        html = f'<div class="sibling-diff" data-pair="{old.name}-{new.name}">{html}</div>'
        return [nodes.raw("", html, format="html")]

    @staticmethod
    def row(kind, i, j, s, index):
        sign = {"same": " ", "del": "−", "ins": "+"}[kind]
        label = {"same": "", "del": "taken out: ", "ins": "put in: "}[kind]
        label = label and f'<span class="visually-hidden">{label}</span>'
        code = source_line(s.lines[index], with_subscripts(s.html[index]), 0, label)
        return (
            f'<span class="line {kind}"><span class="ln">{i}</span><span class="ln">{j}</span>'
            f'<span class="sign" aria-hidden="true">{sign}</span>{code}</span>'
        )

    @staticmethod
    def where(s, group):
        """The name of the top-level definition where a hunk's first change is."""
        first = next(j1 for tag, _, _, j1, _ in group if tag != "equal") + 1
        if first < s.start:
            return "The docstring"
        for n in range(min(first, len(s.lines)), 0, -1):
            if m := re.match(r"(?:class|def) (\w+)", s.lines[n - 1]):
                return f"<code>{m[1]}</code>"
        return "Imports"


def add_files(app, pagename, templatename, context, doctree):
    if 'class="annotated' in context.get("body", ""):
        app.add_js_file("annotated.js", loading_method="defer")


def setup(app):
    app.add_directive("annotated", Annotated)
    app.add_directive("pseudocode", Pseudocode)
    app.add_directive("sibling-diff", SiblingDiff)
    app.connect("html-page-context", add_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
