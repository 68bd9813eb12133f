"""Finds the mathematics in a line of pseudocode, and turns its plain Unicode into LaTeX."""

import re
import unicodedata
from html import escape

GREEK = "alpha beta gamma delta varepsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma"
GREEK += " tau upsilon phi chi psi omega"
SYMBOLS = dict(zip("αβγδεζηθικλμνξπρστυφχψω", GREEK.split()))
SYMBOLS |= {"∇": "nabla", "Σ": "sum", "Π": "prod", "∞": "infty", "∂": "partial"}
SYMBOLS |= {"←": "leftarrow", "→": "rightarrow", "~": "sim", "≈": "approx", "∈": "in"}
SYMBOLS |= {"≤": "le", "≥": "ge", "≠": "ne", "±": "pm", "·": "cdot", "×": "times"}
SYMBOLS |= {"|": "mid", "‖": "parallel", "{": "{", "}": "}", "…": "ldots"}
SYMBOLS |= {"D": "mathcal D", "N": "mathcal N"}
POWERS = str.maketrans("⁻⁺⁰¹²³⁴⁵⁶⁷⁸⁹", "-+0123456789") | {ord("ᵀ"): r"\top "}
HAT = "\u0302"
NAMES = {"min", "max", "log", "exp", "tanh", "mean", "clip", "KL", "mod", "sum", "var", "std"}
ARTICLES = {"a", "A", "I"}  # words of English, unless they stand where only a symbol can
OWN_COMMAND = {"min", "max", "log", "exp", "tanh"}

CODE = r"[a-z]{2,}(?:_[a-z]{2,})+(?![\w{])"
BRACES = r"\{(?:[^{}]|\{[^{}]*\})*\}"  # of at most two levels
SCRIPTS = rf"(?:[_^](?:{BRACES}|[A-Za-z]+|\d+|[α-ω])|[⁻⁺⁰-⁹²³¹ᵀ]+|'(?![A-Za-z]))*"
TOKEN = re.compile(
    rf"(?P<code>{CODE})"
    r"|(?P<word>[A-Za-z]+\d*(?:['-][A-Za-z]+)+|[A-Za-z]{2,}(?![A-Za-z_^]))"
    rf"|(?P<symbol>(?:[A-Za-z]{{2,}}|[A-Za-zα-ωΣΠ∇]{HAT}?|\d+(?:\.\d+)?){SCRIPTS})"
    rf"|(?P<close>[)\]}}]{SCRIPTS})|(?P<open>√?[(\[{{])|(?P<op>[←→=≤≥≈≠~+−·|‖/±×∈])"
    r"|(?P<dots>\.\.\.)|(?P<comma>,)|(?P<space>\s+)|(?P<other>.)"
)


def tokens(text):
    """[kind, text, is it mathematics] of every token of a line."""
    found = [[m.lastgroup, m[0], False] for m in TOKEN.finditer(unicodedata.normalize("NFD", text))]
    solid = [t for t in found if t[0] != "space"]
    padded = [["", "", False], *solid, ["", "", False]]
    for before, token, after in zip(padded, solid, padded[2:]):
        kind, word, _ = token
        if kind == "symbol":
            token[2] = word not in ARTICLES or "op" in (before[0], after[0])
            token[2] |= after[1] in {"", "in", "and", ",", ";"}
        elif kind == "word" and word in NAMES:
            token[2] = word in {"log", "mod"} or after[0] == "open" or before[0] == "op"
            token[2] |= word == "KL" and after[0] == "op"
        elif kind == "code":
            token[2] = "op" in (before[0], after[0])
        elif kind == "op":
            token[2] = True
    stack = []
    for i, token in enumerate(solid):
        if token[0] == "open":
            stack.append(i)
        elif token[0] == "close" and stack:
            start = stack.pop()
            inside = solid[start + 1 : i]
            # words in brackets make them a remark
            if all(t[2] or t[0] in ("comma", "dots") or t[1] in ARTICLES for t in inside):
                for t in solid[start : i + 1]:
                    t[2] = True
    return found


def segments(text):
    """The line cut into ("text" | "code" | "math", string)."""
    runs = []
    for kind, word, is_math in tokens(text):
        what = "math" if is_math else "code" if kind == "code" else "text"
        if kind == "space" and runs:
            what = runs[-1][0]
        if runs and runs[-1][0] == what:
            runs[-1][1] += word
        else:
            runs.append([what, word])
    out = []
    for what, word in runs:  # a space at the end of a formula belongs to the text
        stripped = word.rstrip() if what != "text" else word
        out.append((what, unicodedata.normalize("NFC", stripped)))
        if stripped != word:
            out.append(("text", " "))
    return out


def latex(formula):
    """LaTeX of a formula in the docstrings' Unicode: Q_{φ_1}(s', a') and the like."""
    rest, out = unicodedata.normalize("NFD", formula), []

    def take(pattern):
        nonlocal rest
        m = re.match(pattern, rest)
        rest = rest[m.end() :] if m else rest
        return m

    while rest:
        if take(r"\s+"):
            out.append(" ")
        elif take("√"):
            depth = 0
            for end, c in enumerate(rest):
                depth += (c in "({") - (c in ")}")
                if depth == 0:
                    out.append(rf"\sqrt{{{latex(rest[1:end])}}}")
                    rest = rest[end + 1 :]
                    break
        elif m := take(rf"([_^])({BRACES}|[A-Za-z]+|\d+|[α-ω])"):
            inner = m[2][1:-1] if m[2].startswith("{") else m[2]
            out.append(f"{m[1]}{{{latex(inner)}}}")
        elif not (out and out[-1].startswith("\\")) and (m := take(r"\(([^()√]{1,12})\)")):
            # in braces, a short pair of brackets is not broken over two lines
            out.append(f"{{({latex(m[1])})}}")
        elif m := take("[⁻⁺⁰-⁹²³¹ᵀ]+"):
            out.append(f"^{{{m[0].translate(POWERS)}}}")
        elif m := take(CODE):
            out.append(r"\texttt{" + m[0].replace("_", r"\_") + "}")
        elif m := take(r"[A-Za-z]{2,}"):
            word = m[0]
            if word in OWN_COMMAND:
                out.append(rf"\{word} ")
            elif word == "mod":
                out.append(r"\bmod ")
            else:
                out.append(rf"\operatorname{{{word}}}" if word in NAMES else rf"\text{{{word}}}")
        elif take(r"\.\.\."):
            out.append(r"\ldots ")
        elif m := take(rf"([A-Za-zα-ω]){HAT}"):
            out.append(rf"\hat{{{latex(m[1])}}}")
        else:
            c, rest = rest[0], rest[1:]
            if c in SYMBOLS:
                out.append(rf"\{SYMBOLS[c]} ")
            elif c == "−":
                out.append("-")
            elif c.isascii():
                out.append(c)
            else:
                raise ValueError(
                    f"no LaTeX for {c!r} in {formula!r}; add it to SYMBOLS in docs/_ext/typeset.py"
                )
    return re.sub(r"\s+", " ", "".join(out)).strip()


def html(text):
    """HTML of a line: its formulas are spans that hold LaTeX, and show Unicode until typeset."""
    parts = []
    for what, word in segments(text):
        if what == "math":
            kind = (
                "math short" if len(word) < 16 else "math"
            )  # a short one is not broken over lines
            tex = escape(latex(word))
            parts.append(f'<span class="{kind}" data-tex="{tex}">{escape(word)}</span>')
        else:
            parts.append(f"<code>{escape(word)}</code>" if what == "code" else escape(word))
    return "".join(parts)
