"""The two examples of the introduction's part 3: short, alike, and they learn."""

import difflib
import runpy

import numpy as np
import pytest
from helpers import ROOT, run

EXAMPLES = ROOT / "docs" / "rl" / "examples"
FILES = ["simplest_pg.py", "reward_to_go.py"]
# mean return of the last ten epochs; a random policy gets about 20. Seeds 0 to 5 reached 155 to 406, and 402 to 483
BARS = {"simplest_pg.py": 120, "reward_to_go.py": 300}


@pytest.mark.parametrize("name", FILES)
def test_is_short(name):
    lines = (EXAMPLES / name).read_text().splitlines()
    assert len(lines) < 80 and max(map(len, lines)) <= 120


@pytest.mark.parametrize("name", FILES)
def test_learns(name, capsys):
    history = runpy.run_path(str(EXAMPLES / name))["train"](seed=0)
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["epoch", "loss", "return"] and len(table) == 51
    assert np.mean(history[-10:]) > BARS[name]


@pytest.mark.parametrize("name", FILES)
def test_starts_from_the_shell(name, tmp_path):
    done = run(
        f"docs/rl/examples/{name}", *"--seed 1 --epochs 2 --batch-size 100".split(), cwd=tmp_path
    )
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 3, done.stderr


def test_differ_by_the_weights_alone():
    a, b = ((EXAMPLES / name).read_text().splitlines() for name in FILES)
    changed = [line[1:].strip() for line in difflib.ndiff(a, b) if line[0] in "+-"]
    assert len(changed) == 10  # title, pseudocode, command, docstring and code of compute_weights
    code = [line for line in changed if line.startswith("return ")]
    assert code == [
        "return np.full(len(rewards), np.sum(rewards))",
        "return np.cumsum(rewards[::-1])[::-1]",
    ]


def test_reward_to_go_by_hand():
    weights = [
        runpy.run_path(str(EXAMPLES / name))["compute_weights"]([1.0, 2.0, 4.0]).tolist()
        for name in FILES
    ]
    assert weights == [[7, 7, 7], [7, 6, 4]]
