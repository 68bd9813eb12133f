"""docs/papers.yaml: every paper has a well-formed source and a sentence on why to read it, and no
paper is missing that a page cites."""

import difflib
import itertools
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

pytestmark = pytest.mark.fast

LIST = Path(__file__).parent.parent / "docs" / "papers.yaml"
TOPICS = yaml.safe_load(LIST.read_text(encoding="utf-8"))
PAPERS = [paper for papers in TOPICS.values() for paper in papers]
LINK = re.compile(r"arxiv(?:\.org/(?:abs|html|pdf)/|: ?)([^\s)>\]\"'#?]+)", re.IGNORECASE)
# a number alone is an id only if it has five digits: 1912.4567 may have been measured
BARE = re.compile(r"(?<![\w./-])(\d\d(?:0[1-9]|1[0-2])\.\d{5})(?:v\d+)?(?![\w/-]|\.\d)")


def words(text):
    return re.findall(r"\w+", text.lower())


def cited(text):
    """The arXiv ids in a page's text, as links or as bare numbers."""
    links = {re.sub(r"(\.pdf|v\d+)+$", "", link.rstrip(".,;")) for link in LINK.findall(text)}
    return links | set(BARE.findall(text))


def test_ids_are_found_in_links_and_in_text():
    link = "[1](https://arxiv.org/abs/1312.5602), <https://arxiv.org/pdf/1707.06347v2.pdf> and"
    assert cited(f"{link} HL-Gauss, 2403.03950v1.") == {"1312.5602", "1707.06347", "2403.03950"}
    assert cited("https://arxiv.org/abs/cs/0601001, arXiv:1312.5602.") == {
        "cs/0601001",
        "1312.5602",
    }
    assert cited("1312.5602, 1913.12345, 0.2403.12345, 12403.12345 and 2403.123456") == set()


def test_papers_that_the_pages_cite_are_in_the_list():
    listed = {paper["arxiv"] for paper in PAPERS if "arxiv" in paper}
    pages = sorted(LIST.parent.rglob("*.md"))
    assert len(pages) > 50
    missing = [
        f"{page.relative_to(LIST.parent)}: {arxiv}"
        for page in pages
        for arxiv in sorted(cited(page.read_text(encoding="utf-8")) - listed)
    ]
    assert not missing, "\n".join(missing)


def test_the_list_is_complete_and_nothing_is_in_it_twice():
    assert len(PAPERS) == 212
    assert sum(paper.get("star", False) for paper in PAPERS) == 106
    assert all(TOPICS.values())
    for key in ("title", "arxiv", "url"):
        values = [" ".join(words(paper[key])) for paper in PAPERS if key in paper]
        assert len(values) == len(set(values)), key


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper["title"][:40])
def test_paper(paper):
    assert paper.keys() - {"star"} in (
        {"title", "authors", "year", "why", "arxiv"},
        {"title", "authors", "year", "why", "url"},
    )
    assert paper.get("star", True) is True
    assert all(paper[key] == paper[key].strip() for key in ("title", "authors", "why"))
    assert re.search(r"[^\W\d]", paper["authors"])
    assert type(paper["year"]) is int and 1950 < paper["year"] < 2030

    if "arxiv" in paper:  # yymm.nnnnn, with five digits since 2015, no later than the paper's year
        month = re.fullmatch(r"(\d\d)(0[1-9]|1[0-2])\.(\d{4,5})", paper["arxiv"])
        assert month and len(month[3]) == (5 if int(month[1]) >= 15 else 4), paper["arxiv"]
        assert 0 <= paper["year"] - 2000 - int(month[1]) <= 5
    else:
        url = urlsplit(paper["url"])
        assert url.scheme == "https"
        assert "." in url.netloc
        assert len(url.path + url.query) > 5
        assert " " not in paper["url"]

    why = paper["why"]
    assert 80 <= len(why) <= 240, len(why)
    assert re.match(r"[A-Z]", why) and re.search(r"[^.]\.$", why)  # one sentence
    assert not re.search(r"[.!?] [A-Z]", why), "more than one sentence"
    title = set(words(paper["title"]))
    new = [word for word in words(why) if word not in title]
    assert len(new) > 0.6 * len(words(why)), "says little more than the title"


def test_no_two_sentences_are_alike():
    for a, b in itertools.combinations(PAPERS, 2):
        x, y = words(a["why"]), words(b["why"])
        assert x[:4] != y[:4], (a["title"], b["title"])
        # the last comparison is slow, so only pairs that share many words get that far
        if len(set(x) & set(y)) > 0.5 * min(len(set(x)), len(set(y))):
            assert difflib.SequenceMatcher(None, x, y).ratio() < 0.6, (a["title"], b["title"])
