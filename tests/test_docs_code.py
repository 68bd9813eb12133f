"""The documentation's ```python blocks run, and print what the page says.

The blocks of a page run in order and share their names. An ```output block right after one says
what it prints.
"""

import contextlib
import io
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
NUMBER = re.compile(r"[-+]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?")
PAGES = [
    page for page in sorted(DOCS.rglob("*.md")) if "```python\n" in page.read_text(encoding="utf-8")
]


def alike(printed, promised):
    """The same words; numbers may differ by 2 %, or by one in the last digit shown."""
    if NUMBER.sub("#", printed).split() != NUMBER.sub("#", promised).split():
        return False
    for x, y in zip(NUMBER.findall(printed), NUMBER.findall(promised), strict=True):
        digits = len(y.partition("e")[0].partition(".")[2])
        x, y = float(x.replace(",", "")), float(y.replace(",", ""))
        if abs(x - y) > max(0.02 * abs(y), 1.01 * 10**-digits if digits else 0):
            return False
    return True


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(DOCS)) for page in PAGES])
def test_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # conftest.py has put the repository's root on sys.path
    monkeypatch.syspath_prepend(tmp_path)
    text, names = page.read_text(encoding="utf-8"), {"__name__": "page"}
    fences = list(FENCE.finditer(text))
    found = [fence[1] for fence in fences].count("python")
    assert found == text.count("```python"), "a block is indented"
    for i, fence in enumerate(fences):
        if fence[1] != "python":
            continue
        if saved := re.search(r" as `(\w+\.py)`:\s*$", text[: fence.start()]):
            Path(saved[1]).write_text(fence[2], encoding="utf-8")
        printed = io.StringIO()
        # so that a traceback has the page's line numbers
        above = "\n" * text.count("\n", 0, fence.start(2))
        with contextlib.redirect_stdout(printed):
            exec(compile(above + fence[2], str(page), "exec"), names)
        after = fences[i + 1] if i + 1 < len(fences) else None
        if after and after[1] == "output" and not text[fence.end() : after.start()].strip():
            printed = printed.getvalue()
            assert alike(printed, after[2]), f"{page} promises\n{after[2]}\nbut prints\n{printed}"


def test_alike_sees_a_difference():
    assert alike("a 1.23  b\n", "a 1.24 b")
    assert not alike("a 1.23 b", "a 1.33 b")
    assert not alike("a 1.23 b", "a 1.23 c")
    assert not alike("12", "13") and alike("1000", "1,010")
