"""Links the first use of a term on a page to the glossary, with its meaning as a tooltip.

Plain links: they work without scripts, by keyboard and by touch. Terms that every page uses all the
time are left alone.
"""

import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes

PAGE = "rl/notation"
SOURCE = Path(__file__).parents[1] / f"{PAGE}.md"
LINKED = ("rl/", "algorithms/", "exercises/", "user/")  # pages whose terms are linked
# used on every page, or as everyday words
COMMON = "action space, actor, agent, answer, belief, bootstrap, buffer, critic, deterministic"
COMMON += ", environment, episode, greedy, hierarchy, imitation, markov, model, observation, path"
COMMON += ", policy, power, prompt, repeating, reproducing, return, reward, rollout, state"
COMMON += ", stochastic policy, terminated, trajectory, transfer, transition, truncated, value"
COMMON += ", exploration, exploitation, expected return, temperature, backup, goal, damping"
PROPER = ("Bellman", "Bradley", "Lagrangian", "Markov", "Monte", "Polyak", "Thompson")
UNICODE = {"pi": "π", "gamma": "γ", "lambda": "λ", "alpha": "α", "rho": "ρ"}
SKIPPED = (nodes.reference, addnodes.pending_xref, nodes.literal, nodes.strong, nodes.math)


def plain(meaning):
    """A meaning without markup; None if it has a formula that plain text cannot show."""
    text = " ".join(re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", meaning).split()).replace("*", "")

    def formula(m):
        return re.sub(r"\\(\w+)", lambda x: UNICODE.get(x[1], x[0]), m[1]).replace("^", "")

    text = re.sub(r"\$([^$]*)\$", formula, text)
    return None if re.search(r"[\\{}]", text) else text


def read_terms():
    """{term as it stands within a sentence: (anchor, meaning)}, the longest first."""
    section = SOURCE.read_text(encoding="utf-8").split("## Glossary")[1].split("\n## ")[0]
    terms = {}
    for names, meaning in re.findall(r"^- \*\*(.+?)\*\*: (.+?)(?=\n- |\Z)", section, re.M | re.S):
        for name in names.split(", "):
            if name[1:].islower() and not name.startswith(PROPER):
                name = name.lower()
            if name.lower() not in COMMON.split(", ") and plain(meaning):
                terms[name] = anchor(names), plain(meaning)
    return dict(sorted(terms.items(), key=lambda x: -len(x[0])))


def anchor(names):
    return "term-" + "-".join(re.findall(r"\w+", names.lower()))


def link_terms(app, doctree):
    name = app.env.docname
    if name == PAGE:
        for item in doctree.findall(nodes.list_item):
            first = next(iter(item.findall(nodes.strong)), None)
            if first is not None and item.astext().startswith(first.astext()):
                item["ids"].append(anchor(first.astext()))
    elif name.startswith(LINKED) and not name.endswith(("index", "-annotated")):
        app.env.note_dependency(str(SOURCE))
        root = "../" * name.count("/")
        for term, (target, meaning) in read_terms().items():
            link_first(doctree, term, f"{root}{PAGE}.html#{target}", meaning)


def link_first(doctree, term, uri, meaning):
    """Makes the first use of a term in a paragraph a link, unless the page defines it."""
    pattern = re.compile(rf"(?<![\w-]){re.escape(term)}s?(?![\w-])")
    if any(x.astext().lower() == term.lower() for x in doctree.findall(nodes.strong)):
        return
    for text in doctree.findall(nodes.Text):
        m = pattern.search(text)
        outer = text.parent
        while m and outer is not None and not isinstance(outer, (nodes.paragraph, *SKIPPED)):
            outer = outer.parent
        if not m or not isinstance(outer, nodes.paragraph):
            continue
        link = nodes.reference("", m[0], refuri=uri, reftitle=meaning, classes=["term"])
        link["internal"] = True
        parts = [nodes.Text(text[: m.start()]), link, nodes.Text(text[m.end() :])]
        text.parent.replace(text, [part for part in parts if part.astext()])
        return


def setup(app):
    app.connect("doctree-read", link_terms)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
