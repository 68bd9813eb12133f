"""The built site: no warning, no dead link, nothing from the network, and true to the scripts."""

import ast
import csv
import os
import re
import subprocess
import sys
import unicodedata
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from helpers import ROOT, SCRIPTS, comment_lines
from markdown_it import MarkdownIt
from site_build import DOCS, build, folder_of, soup

sys.path.insert(0, str(DOCS / "_ext"))
import typeset

SOURCE = {name: (ROOT / f"{name}.py").read_text(encoding="utf-8") for name in SCRIPTS}
PAGES = sorted(p for p in DOCS.rglob("*.md") if "_build" not in p.parts)
MARKDOWN = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]


@pytest.fixture(scope="session")
def site(tmp_path_factory, request):
    worker = getattr(request.config, "workerinput", {}).get("workerid", "master")
    folder = folder_of(tmp_path_factory, worker)
    build(folder)
    return folder


def pages(site):
    return sorted(p for p in site.rglob("*.html") if "_static" not in p.parts)


def test_builds_without_a_warning_in_under_a_minute(site):
    code, messages, seconds = build(site)
    assert code == 0, messages
    assert seconds < 60


def test_every_page_of_markdown_is_in_the_contents(site):
    linked = {a["href"] for a in soup(site / "index.html").select(".sidebar-tree a")} | {"#"}
    for page in PAGES:
        name = page.relative_to(DOCS).with_suffix(".html").as_posix()
        assert name in linked | {"index.html"}, f"{name} cannot be found from the front page"


def test_what_a_text_calls_next_is_the_next_page(site):
    named = 0
    for page in pages(site):
        footer = soup(page).select_one("a.next-page")
        for text in soup(page).find_all(string=re.compile(r"\bNext: ")):
            named += 1
            link = text.find_next("a")["href"]
            assert footer["href"] == link, f"{page.name}: {link}, but {footer['href']} follows"
    assert named > 20


def test_internal_links_and_anchors_resolve(site):
    dead = []
    for page in pages(site):
        for tag, attribute in (("a", "href"), ("link", "href"), ("img", "src"), ("script", "src")):
            for element in soup(page).find_all(tag, **{attribute: True}):
                url = urlsplit(element[attribute])
                if url.scheme or url.netloc:
                    continue
                target = page if not url.path else (page.parent / unquote(url.path)).resolve()
                found = target.is_file()
                if found and url.fragment and target.suffix == ".html":
                    found = soup(target).find(id=unquote(url.fragment)) is not None
                if not found:
                    dead.append(f"{page.relative_to(site)}: {element[attribute]}")
    assert not dead, "\n".join(dead)


def test_anchors_are_unique(site):
    for page in pages(site):
        ids = [x["id"] for x in soup(page).select("article [id]")]
        assert len(ids) == len(set(ids)), f"{page}: {[x for x in ids if ids.count(x) > 1]}"


def test_pages_load_nothing_from_elsewhere(site):
    outside = re.compile(r"(?:https?:)?//")
    for page in pages(site):
        loads = [x["src"] for x in soup(page).find_all(src=True)]
        loads += [x["href"] for x in soup(page).find_all("link")]
        loads += [x["data"] for x in soup(page).find_all("object")]
        assert not [url for url in loads if outside.match(url)], page
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert not re.findall(r"url\(['\"]?(?:https?:)?//|@import", text), sheet
        for url in re.findall(r"url\(([^)]*\.woff2)\)", text):
            assert (sheet.parent / url.strip("'\"")).is_file(), f"{sheet}: {url}"


def test_a_page_weighs_less_than_a_megabyte(site):
    for page in pages(site):
        images = soup(page).find_all("img", src=True)
        own = {(page.parent / unquote(x["src"])).resolve() for x in images}
        assert page.stat().st_size + sum(x.stat().st_size for x in own) < 1e6, page


def test_pictures_have_alternative_texts_and_pages_one_title(site):
    for page in pages(site):
        assert all(x.get("alt", "").strip() for x in soup(page).select("article img")), page
        assert len(soup(page).find_all("h1")) <= 1, page


# Markdown, as a code host shows it


def slugs(path):
    """The anchors that a code host gives to a page's headings."""
    found = []
    tokens = MarkdownIt().enable("table").parse(path.read_text(encoding="utf-8"))
    for heading, content in zip(tokens, tokens[1:]):
        if heading.type == "heading_open":
            words = [x.content for x in content.children if x.type in ("text", "code_inline")]
            slug = re.sub(r"[^\w\- ]", "", "".join(words).strip().lower()).replace(" ", "-")
            found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return found


@pytest.mark.parametrize("path", MARKDOWN, ids=[p.relative_to(ROOT).as_posix() for p in MARKDOWN])
def test_links_work_on_a_code_host(path):
    def links(tokens):
        for token in tokens:
            if token.type in ("link_open", "image"):
                yield token.attrs.get("href") or token.attrs["src"]
            yield from links(token.children or [])

    for link in links(MarkdownIt().enable("table").parse(path.read_text(encoding="utf-8"))):
        url = urlsplit(link)
        if url.scheme:
            continue
        target = (path.parent / unquote(url.path)).resolve() if url.path else path
        assert target.exists(), link
        if url.fragment and target.suffix == ".md":
            assert unquote(url.fragment) in slugs(target), link


# what is covered


COVERAGE = sorted((DOCS / "coverage").glob("*.csv"))
PARTS = "introduction rl-introduction algorithms essay key-papers exercises benchmarks user-pages"
PARTS += " added-topics added-papers added-ppo-details added-corrections"


def test_coverage_has_all_parts():
    assert {path.stem for path in COVERAGE} == set(PARTS.split())


@pytest.mark.parametrize("path", COVERAGE, ids=[path.stem for path in COVERAGE])
def test_coverage_points_at_what_is_there(path, site):
    shown = soup(site / "coverage.html").select_one("article").get_text().replace("’", "'")
    with open(path, newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    assert rows
    for row in rows:
        assert row["item"].strip(), row
        assert row["item"].split()[0].strip("`*$") in shown, row
        if row["where"] == "left out":
            assert row["remark"].strip(), f"{row['item']}: left out, and why?"
        else:
            page, _, anchor = row["where"].partition("#")
            html = site / page.replace(".md", ".html")
            assert html.is_file(), row
            assert anchor and soup(html).find(id=anchor), row


# the annotated scripts


def pseudocode(name):
    """{number: text} of a script's docstring."""
    lines, number = {}, None
    for line in ast.get_docstring(ast.parse(SOURCE[name])).split("\n\n")[1].splitlines():
        m = re.match(r" ?(\d+[a-z]?): *(.*)", line)
        number, text = m.groups() if m else (number, f"{lines[number]} {line.strip()}")
        lines[number] = text
    return lines


def citing(name, number):
    """(lines that cite a number, lines of the functions whose docstrings cite it)."""
    lines = set()
    for n, comment in comment_lines(SOURCE[name]).items():
        if re.fullmatch(rf"#.* ?\({number}\).*", comment):
            lines.add(n)
    parts = set()
    functions = [x for x in ast.parse(SOURCE[name]).body if isinstance(x, ast.FunctionDef)]
    for f in functions:
        if re.match(rf"(\(\w+\) )*\({number}\)", ast.get_docstring(f) or ""):
            lines.add(f.body[0].lineno)
            first = min([f.lineno, *(d.lineno for d in f.decorator_list)])
            parts |= set(range(first, f.end_lineno + 1))
    return lines, parts


def annotated(site, name):
    return soup(site / "algorithms" / f"{name}-annotated.html").select_one(".annotated")


@pytest.mark.parametrize("name", SCRIPTS)
def test_annotated_script_says_what_the_script_says(name, site):
    box = annotated(site, name)
    for number, text in pseudocode(name).items():
        step = box.find(id=f"{name}-{number}").select_one(".step")
        shown = step.get_text().removesuffix(step.select_one(".places").get_text())
        assert shown.split() == unicodedata.normalize("NFC", text).split()
    code = "".join(x.get_text() for x in box.select(".right .src"))
    assert code.strip() == SOURCE[name].split('"""\n', 1)[1].strip()  # what is below the docstring


@pytest.mark.parametrize("name", SCRIPTS)
def test_annotated_lines_are_linked_both_ways(name, site):
    box = annotated(site, name)
    for number in pseudocode(name):
        lines, parts = citing(name, number)
        marked, within = set(), set()
        for x in box.select(".line"):
            n = int(x["id"].split("-L")[1])
            if number in x.get("data-cites", "").split():
                marked.add(n)
            if number in x.get("data-part", "").split():
                within.add(n)
        assert (marked, within) == (lines, parts)
        places = [a["href"] for a in box.find(id=f"{name}-{number}").select(".places a")]
        assert {f"#{name}-L{n}" for n in lines} == set(places)
        for n in lines:
            assert box.find(id=f"{name}-L{n}").select_one(f'.src a[href="#{name}-{number}"]')


@pytest.mark.parametrize(
    "old, new", [("vpg", "ppo"), ("vpg", "trpo"), ("ddpg", "td3"), ("td3", "sac")]
)
def test_sibling_diff_turns_one_script_into_the_other(old, new, site):
    page = soup(site / "algorithms" / f"{new}-annotated.html")
    rows = page.select(f'[data-pair="{old}-{new}"] .line')
    before, after = SOURCE[old].splitlines(), SOURCE[new].splitlines()
    old_lines, new_lines = dict(enumerate(before, 1)), dict(enumerate(after, 1))
    for row in rows:
        for label in row.select(".visually-hidden"):
            label.extract()
        i, j = (x.get_text() for x in row.select(".ln"))
        text = row.select_one(".src").get_text().rstrip("\n")
        if i:
            assert text == old_lines.pop(int(i))
        if j:
            assert text == new_lines.pop(int(j))
    # what the diff leaves out is the same in both
    assert list(old_lines.values()) == list(new_lines.values())


@pytest.mark.parametrize(
    "text, parts",
    [
        ("execute a in the environment", ["execute ", "$a$", " in the environment"]),
        ("a batch of a path's steps", ["a batch of a path's steps"]),
        ("a ~ π_θ(·|s); then", [r"$a \sim \pi _{\theta}{(\cdot \mid s)}$", "; then"]),
        ("TD3's Q-function Q_{φ_{targ,1}}", ["TD3's Q-function ", r"$Q_{\phi _{\text{targ},1}}$"]),
        (
            "with Ĥ_k⁻¹ ĝ_k (line search)",
            ["with ", r"$\hat{H}_{k}^{-1} \hat{g}_{k}$", " (line search)"],
        ),
        ("√(2δ / x̂_kᵀ x̂_k)", [r"$\sqrt{2\delta / \hat{x}_{k}^{\top } \hat{x}_{k}}$"]),
        ("the first start_steps", ["the first ", "`start_steps`"]),
        (
            "ε ~ N(0, σ²), D",
            [r"$\varepsilon \sim \mathcal N (0, \sigma ^{2})$", ", ", r"$\mathcal D$"],
        ),
        ("mean KL ≤ δ", ["mean ", r"$\operatorname{KL} \le \delta$"]),
        ("L = mean min(x, y)", [r"$L = \operatorname{mean} \min (x, y)$"]),
    ],
)
def test_unicode_becomes_latex(text, parts):
    marks = {"math": "${}$", "code": "`{}`", "text": "{}"}
    merged = []
    for what, x in typeset.segments(text):
        part = marks[what].format(typeset.latex(x) if what == "math" else x)
        if merged and part[0] not in "$`" and merged[-1][0] not in "$`":
            merged[-1] += part
        else:
            merged.append(part)
    assert merged == parts


def test_an_unknown_symbol_is_named():
    with pytest.raises(ValueError, match="no LaTeX for '☃'"):
        typeset.latex("☃_t")


# what is generated


def test_help_is_the_scripts_own(site):
    shown = {}
    for page in pages(site):
        for block in soup(page).select("div.script-help pre"):
            shown[re.match(r"usage: (\w+)\.py", block.get_text())[1]] = block.get_text()
    env = os.environ | {"COLUMNS": "88", "NO_COLOR": "1", "PYTHONUTF8": "1"}
    assert shown
    for name in set(shown) & {"ppo", "sac"}:
        command = [sys.executable, f"{name}.py", "--help"]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
        assert shown[name].split() == done.stdout.split()


def test_every_paper_is_listed(site):
    text = soup(site / "papers.html").select_one("article").get_text().replace("’", "'")
    for papers in yaml.safe_load((DOCS / "papers.yaml").read_text(encoding="utf-8")).values():
        for paper in papers:
            assert str(paper["year"]) in text and paper["authors"] in text


def test_terms_lead_to_the_glossary_and_say_what_they_mean(site):
    page = site / "algorithms" / "ppo.html"
    terms = {a.get_text(): a for a in soup(page).select("article a.term")}
    assert {"on-policy", "surrogate"} <= terms.keys()
    assert terms["surrogate"]["title"].startswith("An objective that stands for the return")
    glossary = soup(site / "rl" / "notation.html")
    for name, a in terms.items():
        assert glossary.find(id=unquote(a["href"].partition("#")[2])), name
        assert a["title"] and "$" not in a["title"] and "\\" not in a["title"]


def test_films_are_small_and_wait_until_they_are_seen(site):
    films = [video for page in pages(site) for video in soup(page).select(".film video")]
    assert films
    for video in films:
        assert video["preload"] == "none" and video["aria-label"] and "controls" in video.attrs
    for path in (DOCS / "_static" / "films").iterdir():
        assert path.stat().st_size < 400_000, path


def test_every_figure_has_its_still_and_its_words(site):
    figures = {x["data-figure"]: x for x in soup(site / "figures.html").select("figure")}
    names = {p.stem for p in (DOCS / "_static" / "figures").glob("*.js")} - {"figures"}
    assert figures.keys() == names and len(names) >= 6
    for figure in figures.values():
        drawing = figure.select_one(".drawing")
        assert drawing.select("svg path")
        assert drawing["role"] == "img" and len(drawing["aria-label"]) > 100
        assert figure.select_one(".reading").get_text()
        assert figure.find("figcaption").get_text().strip()
