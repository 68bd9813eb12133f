"""Directives that fill parts of the pages from files of the repository.

```{script-help} sac          a script's --help, or that of `logx play`
```{paper-list}               docs/papers.yaml; with an argument, only the papers of that topic
```{coverage-table} essay     docs/coverage/essay.csv; with several names, these in one table
```{result-table} SAC         an algorithm's rows of the benchmark report
"""

import contextlib
import csv
import importlib
import io
import os
import re
import sys
from pathlib import Path
from unittest import mock

import yaml
from docutils import nodes
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective

DOCS = Path(__file__).parents[1]


class FromFile(SphinxDirective):
    has_content = True  # for a reader on a code host; not shown here

    def read(self, path):
        """The text of a file that goes into this page, or "" if the file does not exist yet."""
        self.env.note_dependency(str(path))
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def markdown(self, text):
        return self.parse_text_to_nodes(text, allow_section_headings=True)


class ScriptHelp(FromFile):
    required_arguments = 1
    optional_arguments = 1

    def run(self):
        import tyro

        name, *command = self.arguments
        self.read(DOCS.parent / f"{name}.py")
        module = importlib.import_module(name)
        prog = " ".join([f"{name}.py", *command])
        out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        with (
            mock.patch.dict(os.environ, {"COLUMNS": "88", "NO_COLOR": "1", "PYTHON_COLORS": "0"}),
            mock.patch.object(sys, "argv", [prog]),
            contextlib.redirect_stdout(out),
            contextlib.suppress(SystemExit),
        ):
            args = getattr(module, command[0].capitalize() if command else "Args")
            tyro.cli(args, prog=prog, args=["--help"])
        out.seek(0)
        text = "\n".join(line.rstrip() for line in out.read().strip("\n").splitlines())
        node = nodes.literal_block(text, text, language="text")
        return [nodes.container("", node, classes=["script-help"])]


class PaperList(FromFile):
    optional_arguments = 1
    final_argument_whitespace = True

    def run(self):
        topics = yaml.safe_load(self.read(DOCS / "papers.yaml") or "{}")
        if self.arguments:
            topic = self.arguments[0]
            if topic not in topics:
                raise self.error(f"papers.yaml has no topic {topic!r}")
            topics = {topic: topics[topic]}
        out = []
        for topic, papers in topics.items():
            if not self.arguments:
                out += [f"### {topic}", ""]
            for paper in sorted(papers, key=lambda paper: (paper["year"], paper.get("arxiv", ""))):
                if paper.get("arxiv"):
                    link = f"https://arxiv.org/abs/{paper['arxiv']}"
                    where = f", arXiv:{paper['arxiv']}"
                else:
                    link = paper["url"]
                    where = ""
                star = "★ " if paper.get("star") else ""
                title = f"{star}[{paper['title']}](<{link}>)"
                source = f"({paper['authors']}, {paper['year']}{where})"
                out.append(f"- {title} {source}. {paper['why']}")
            out.append("")
        return self.markdown("\n".join(out))


class CoverageTable(FromFile):
    required_arguments = 1
    final_argument_whitespace = True

    def run(self):
        rows = []
        for part in self.arguments[0].split():
            rows += csv.DictReader(io.StringIO(self.read(DOCS / "coverage" / f"{part}.csv")))
        if not rows:
            return self.markdown("*Not written yet.*")
        out = ["| topic | where | remark |", "| --- | --- | --- |"]
        for row in rows:
            cells = [(row[key] or "").strip() for key in ("item", "where", "remark")]
            item, where, remark = (cell.replace("|", r"\|") for cell in cells)
            if where != "left out":
                where = f"[](/{where})"  # the heading's own words
            out.append(f"| {item} | {where} | {remark} |")
        return self.markdown("\n".join(out))


class ResultTable(FromFile):
    required_arguments = 1

    def run(self):
        report = self.read(DOCS.parent / "benchmark" / "results" / "report" / "README.md")
        head = r"^\| environment \| algorithm \| steps \| ours \| SB3.*$"
        (head,) = set(re.findall(head, report, re.M))
        rows = re.findall(rf"^\| \S+ \| {self.arguments[0]} \| \S+ \| \*\*.*$", report, re.M)
        lines = []
        for line in (head, "| --- " * 6 + "|", *rows):
            lines.append(re.sub(r"^(\| [^|]+ )\| [^|]+ ", r"\1", line))  # less the algorithm
        return self.markdown("\n".join(lines))


def plain_docstring(app, what, name, obj, options, lines):
    """Escapes our docstrings: plain text, in which only `x` is markup, for code.

    A line "name: what it is", below the first paragraph, describes a parameter.
    """
    for i, line in enumerate(lines):
        parts = re.split("(`[^`]+`)", line)
        for j, part in enumerate(parts):
            if part.startswith("`"):
                parts[j] = f"`{part}`"
            else:
                parts[j] = re.sub(r"([*|\\]|_\b)", r"\\\1", part)
        lines[i] = "".join(parts)
        if "" in lines[:i]:
            lines[i] = re.sub(r"^(\w+): ", r":param \1: ", lines[i])


def link_outside(app, doctree):
    """Lets links to Markdown outside docs/, which has no page here, lead to a copy of the file."""
    for node in list(doctree.findall(addnodes.pending_xref)):
        if node.get("reftype") == "myst" and node.get("refdomain") == "doc":
            path = DOCS / f"{node['reftarget']}.md"
            if path.is_file() and not path.resolve().is_relative_to(DOCS):
                target = "/" + os.path.relpath(path, DOCS)
                where = {"reftarget": target, "refdoc": node["refdoc"]}
                node.replace_self(addnodes.download_reference("", "", *node.children, **where))


def setup(app):
    # before Sphinx collects the files to copy
    app.connect("doctree-read", link_outside, priority=100)
    app.connect("autodoc-process-docstring", plain_docstring)
    app.add_directive("script-help", ScriptHelp)
    app.add_directive("paper-list", PaperList)
    app.add_directive("coverage-table", CoverageTable)
    app.add_directive("result-table", ResultTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
