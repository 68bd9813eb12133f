"""The built site in Debian's chromium.

Mathematics is typeset, pseudocode and code light each other up, and figures move. There is no
console error and no request to the network, and axe-core finds no breach of WCAG 2.1 A and AA.
"""

import functools
import http.server
import json
import os
import re
import shutil
import threading
from urllib.parse import urlsplit

import pytest
from helpers import ROOT
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from test_site import DOCS, PAGES, citing, pages, site  # noqa: F401 (site is a fixture)

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs Debian's chromium and chromium-driver"
)

FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars"
FLAGS += " --disable-background-networking --disable-component-update --disable-sync"
FLAGS += " --force-prefers-reduced-motion"
DESKTOP, PHONE = (1280, 900), (390, 844)
FIGURES = sorted(p.stem for p in (ROOT / "docs" / "_static" / "figures").glob("*.js"))
FIGURES.remove("figures")  # what all of them share


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    os.environ["SE_AVOID_STATS"] = "true"
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(300)
    yield driver
    driver.quit()


@pytest.fixture
def show(browser, site):  # noqa: F811
    """show(page, size) opens a page in a window of that size; the browser must not complain."""
    read_logs(browser)
    shown = []

    def go(page, size=DESKTOP, base=None):
        resize(browser, size)
        shown.append(page)
        browser.get("about:blank")
        browser.get(f"{base or site.as_uri()}/{page}")
        return browser

    yield go
    said, asked = read_logs(browser)
    assert not said
    network = [urlsplit(url) for url in asked if re.match("https?|wss?", url)]
    assert not [url for url in network if url.hostname != "127.0.0.1"]
    assert len(asked) >= len(shown)


def resize(browser, size):
    """Gives the window a size."""
    metrics = dict(width=size[0], height=size[1], deviceScaleFactor=1, mobile=size == PHONE)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def read_logs(browser):
    """What the console said and which addresses were asked for since the last call."""
    said, asked = browser.get_log("browser"), []
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated"):
            asked.append(message["params"].get("request", message["params"])["url"])
    return said, asked


@pytest.fixture(scope="module")
def server(site):  # noqa: F811
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


UNTYPESET = "return [...document.querySelectorAll('.math:not(:has(.katex))')].map(e => e.outerHTML)"
LOADED = "[...f].filter(x => x.family.startsWith('KaTeX') && x.status == 'loaded').length"
IN_VIEW = "const r = document.getElementById(arguments[0]).getBoundingClientRect(); "
IN_VIEW += "return r.top >= 0 && r.bottom < innerHeight"
WRONG = "return [...document.querySelectorAll('.katex-error')].map(e => e.title)"
TOO_WIDE = "return document.documentElement.scrollWidth - innerWidth"


def test_every_page_fits_a_phone_with_its_mathematics_typeset(show, site):  # noqa: F811
    formulas = 0
    for page in pages(site):
        browser = show(page.relative_to(site), PHONE)
        # it takes a while on a busy machine
        WebDriverWait(browser, 30).until(lambda b: not b.execute_script(UNTYPESET), page)
        assert browser.execute_script(WRONG) == [], page
        assert browser.execute_script(TOO_WIDE) <= 0, page
        formulas += len(browser.find_elements(By.CSS_SELECTOR, ".math .katex"))
    assert formulas > 500


@pytest.mark.parametrize("page", ["index.html", "algorithms/sac-annotated.html", "figures.html"])
def test_served_over_http(page, show, server):
    browser = show(page, base=server)
    assert browser.find_elements(By.CSS_SELECTOR, ".katex")
    assert browser.execute_script(UNTYPESET) == []
    assert browser.execute_script(f"return document.fonts.ready.then(f => {LOADED})") > 0


@pytest.mark.parametrize("name", ["ppo", "SAC", "dqn"])
def test_search_finds_the_page_of_that_name_first_and_shows_no_tex(name, show, server):
    browser = show(f"search.html?q={name}", base=server)
    first = "return document.querySelector('#search-results .search li a')?.getAttribute('href')"
    WebDriverWait(browser, 30).until(lambda b: b.execute_script(first))
    finished = (
        "return document.querySelector('#search-results h2')?.textContent == 'Search Results'"
    )
    WebDriverWait(browser, 30).until(lambda b: b.execute_script(finished))
    found = browser.execute_script(first).split("?")[0].split("#")[0]
    assert found == f"algorithms/{name.lower()}.html"
    text = browser.find_element(By.ID, "search-results").text
    assert "…" in text and "\\" not in text


# the annotated script


def lit(browser, kind):
    script = f"return [...document.querySelectorAll('.line.{kind}')].map(e => e.id)"
    found = browser.execute_script(script)
    return {int(x.split("-L")[1]) for x in found}


def lit_steps(browser):
    script = "return [...document.querySelectorAll('.pseudocode .lit')].map(e => e.dataset.cites)"
    return browser.execute_script(script)


def point_at(browser, css):
    element = browser.find_element(By.CSS_SELECTOR, css)
    scroll = "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})"
    browser.execute_script(scroll, element)
    ActionChains(browser, duration=0).move_to_element(element).perform()


@pytest.mark.parametrize(
    "name, number", [("sac", "12"), ("sac", "14"), ("ppo", "6"), ("trpo", "7b")]
)
def test_mouse_on_pseudocode_lights_the_code_and_back(name, number, show):
    lines, parts = citing(name, number)
    browser = show(f"algorithms/{name}-annotated.html")
    assert not lit(browser, "lit") and not lit(browser, "lit-part")
    point_at(browser, f"[id='{name}-{number}'] .number")
    assert (lit(browser, "lit"), lit(browser, "lit-part")) == (lines, parts)
    assert lit_steps(browser) == [number]
    point_at(browser, "h1")
    assert not lit(browser, "lit") and not lit_steps(browser)
    for line in lines:
        point_at(browser, f"[id='{name}-L{line}'] .src")
        assert number in lit_steps(browser)
    # the last line of a function whose docstring cites the number
    point_at(browser, f"[id='{name}-L{max(parts)}'] .src")
    assert number in lit_steps(browser)


def test_keyboard_on_pseudocode_lights_the_code_and_leads_there(show):
    lines, parts = citing("sac", "12")
    browser = show("algorithms/sac-annotated.html#sac-11")
    for _ in range(10):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        if lit_steps(browser) == ["12"]:
            break
    assert (lit(browser, "lit"), lit(browser, "lit-part")) == (lines, parts)
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    line = int(re.search(r"#sac-L(\d+)$", browser.current_url)[1])
    assert line in lines
    WebDriverWait(browser, 30).until(lambda _: browser.execute_script(IN_VIEW, f"sac-L{line}"))
    assert browser.execute_script(IN_VIEW, "sac-12")  # the pseudocode has stayed beside it
    browser.switch_to.active_element.send_keys(Keys.TAB)  # the number in the comment
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert browser.current_url.endswith("#sac-12")


def in_view(browser, ids):
    """Those of the lines that can be seen: in the window, and in their own pane."""
    script = """
      return arguments[0].filter(id => {
        const r = document.getElementById(id).getBoundingClientRect();
        const x = (r.left + r.right) / 2, y = (r.top + r.bottom) / 2;
        return document.elementFromPoint(x, y)?.closest("[id]")?.id == id;
      })
    """
    return browser.execute_script(script, ids)


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_the_code_opens_at_train(size, show):
    browser = show("algorithms/sac-annotated.html", size)
    source = (ROOT / "sac.py").read_text(encoding="utf-8").splitlines()
    line = source.index("def train(args):") + 1
    point_at(browser, ".annotated .right")
    assert in_view(browser, [f"sac-L{line}"])


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
@pytest.mark.parametrize("name, number", [("sac", "12"), ("trpo", "7b"), ("ppo", "3")])
def test_a_click_brings_the_other_side_into_view(name, number, size, show):
    browser = show(f"algorithms/{name}-annotated.html", size)
    click = "document.querySelector(`[id='${arguments[0]}'] ${arguments[1]}`).click()"
    step = f"{name}-{number}"
    browser.execute_script("document.getElementById(arguments[0]).scrollIntoView()", step)
    browser.execute_script(click, step, ".number")
    lines = [f"{name}-L{n}" for n in citing(name, number)[0]]
    assert in_view(browser, lines)
    assert in_view(browser, [step])

    # and back, from a line of code to its step
    browser.execute_script(click, f"{name}-L{max(citing(name, '1')[0])}", ".src")
    assert in_view(browser, [f"{name}-1"])


def test_the_keyboard_brings_the_code_into_view(show):
    browser = show("algorithms/sac-annotated.html#sac-11")
    for _ in range(10):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        if lit_steps(browser) == ["12"]:
            break
    assert in_view(browser, [f"sac-L{n}" for n in citing("sac", "12")[0]])


def test_a_tap_keeps_a_line_lit_on_a_phone(show):
    browser = show("algorithms/ddpg-annotated.html", PHONE)
    browser.execute_script("document.querySelector('[id=\"ddpg-15\"] .step').click()")
    assert lit(browser, "lit") == citing("ddpg", "15")[0]
    assert in_view(browser, [f"ddpg-L{n}" for n in citing("ddpg", "15")[0]])


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_columns_stand_side_by_side_or_stacked(size, show):
    browser = show("algorithms/td3-annotated.html", size)
    left = browser.find_element(By.CSS_SELECTOR, ".annotated .left").rect
    right = browser.find_element(By.CSS_SELECTOR, ".annotated .right").rect
    if size == DESKTOP:
        assert right["x"] >= left["x"] + left["width"] and right["y"] == left["y"]
    else:
        assert right["y"] >= left["y"] + left["height"] and right["x"] == left["x"]


def test_without_scripts_everything_can_be_read(show):
    browser = show("index.html")
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show("algorithms/sac-annotated.html")
        assert "π_θ(·|s)" in browser.find_element(By.ID, "sac-4").text
        code = "y = compute_targets(ac, ac_targ, batch, args)"
        lines = (ROOT / "sac.py").read_text(encoding="utf-8").splitlines()
        (number,) = [i for i, line in enumerate(lines, 1) if code in line]
        assert code in browser.find_element(By.ID, f"sac-L{number}").text
        show("figures.html")
        for name in FIGURES:
            assert browser.find_element(By.CSS_SELECTOR, f"#figure-{name} svg").rect["height"] > 100
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


# the figures


@pytest.mark.parametrize("name", FIGURES)
def test_figure_moves_under_the_keyboard(name, show):
    browser = show("figures.html")
    figure = browser.find_element(By.ID, f"figure-{name}")
    sliders = figure.find_elements(By.CSS_SELECTOR, "input[type=range]")
    assert len(sliders) >= 2

    def state():
        drawing = figure.find_element(By.CSS_SELECTOR, ".drawing").get_attribute("innerHTML")
        reading = figure.find_element(By.CSS_SELECTOR, ".reading").get_attribute("innerHTML")
        outputs = [x.text for x in figure.find_elements(By.TAG_NAME, "output")]
        return [drawing, reading, *outputs]

    readings = {state()[1]}
    for slider in sliders:
        for key in (Keys.ARROW_RIGHT, Keys.END, Keys.HOME):
            before = state()
            slider.send_keys(key)
            after = state()
            moved = before[0] != after[0] and before[2:] != after[2:]
            assert moved, f"{slider.get_attribute('name')}, {key}"
            assert not re.search("NaN|undefined|Infinity", "".join(after))
            readings.add(after[1])
    assert len(readings) > 3
    assert all(x.accessible_name.strip() for x in sliders)


@pytest.mark.parametrize("wish, plays", [("reduce", False), ("no-preference", True)])
def test_a_film_plays_when_seen_unless_motion_is_not_wanted(wish, plays, show, browser):
    features = [{"name": "prefers-reduced-motion", "value": wish}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    show("index.html")
    time = "return document.querySelector('.film video').currentTime"
    if plays:
        WebDriverWait(browser, 30).until(lambda b: b.execute_script(time) > 0)
    else:
        assert browser.execute_script("return document.querySelector('.film video').paused")
        assert not browser.execute_script(
            "return document.querySelector('.film video').buffered.length"
        )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


# WCAG

EVERY = [p.relative_to(DOCS).with_suffix("").as_posix() for p in PAGES]


@pytest.mark.parametrize("page", [*EVERY, "search", "genindex"])
def test_axe_core_finds_nothing(page, show):
    """On any page, wide and narrow, light and dark, with all folds open and all lines lit."""
    if not AXE.exists():
        install = "npm install --no-save --no-package-lock axe-core"
        pytest.skip(f"{AXE.relative_to(ROOT)} is missing: {install}")
    browser = show(f"{page}.html", (1400, 900))
    browser.execute_script(AXE.read_text(encoding="utf-8"))
    browser.execute_script("document.querySelectorAll('details').forEach(x => x.open = true)")
    for data, lit in (("cites", "lit"), ("part", "lit-part")):
        light = f"document.querySelectorAll('[data-{data}]').forEach(x => x.classList.add('{lit}'))"
        browser.execute_script(light)
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
    run = "axe.run({runOnly: arguments[0], preload: false}).then(r => arguments[1](r.violations))"
    for size in ((1400, 900), PHONE):
        resize(browser, size)
        for theme in ("light", "dark"):
            browser.execute_script("document.body.dataset.theme = arguments[0]", theme)
            found = browser.execute_async_script(run, tags)
            brief = [(v["id"], v["help"], [n["html"][:150] for n in v["nodes"][:3]]) for v in found]
            assert not brief, f"{size}, {theme}: {json.dumps(brief, indent=1)}"
