"""docs/rl/examples: the two scripts are short, differ only in their weights, and learn."""

import difflib
import runpy

import numpy as np
import pytest
from helpers import ROOT, run

EXAMPLES = ROOT / "docs" / "rl" / "examples"
FILES = ["simplest_pg.py", "reward_to_go.py"]
# Mean return of the last ten epochs. A random policy gets about 20; with seeds 0 to 5 the first
# script reached 155 to 406, the second 402 to 483.
BARS = {"simplest_pg.py": 120, "reward_to_go.py": 300}


@pytest.mark.parametrize("name", FILES)
def test_is_short(name):
    lines = (EXAMPLES / name).read_text(encoding="utf-8").splitlines()
    assert len(lines) < 85 and max(map(len, lines)) <= 100


@pytest.mark.parametrize("name", FILES)
def test_learns(name, capsys):
    history = runpy.run_path(str(EXAMPLES / name))["train"](seed=0)
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["epoch", "loss", "return"] and len(table) == 51
    assert np.mean(history[-10:]) > BARS[name]


@pytest.mark.parametrize("name", FILES)
def test_starts_from_the_shell(name, tmp_path):
    args = "--seed 1 --epochs 2 --batch-size 100".split()
    done = run(f"docs/rl/examples/{name}", *args, cwd=tmp_path)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 3, done.stderr


def test_differ_by_the_weights_alone():
    a, b = ((EXAMPLES / name).read_text(encoding="utf-8").splitlines() for name in FILES)
    changed = [line[1:].strip() for line in difflib.ndiff(a, b) if line[0] in "+-"]
    assert len(changed) == 10  # title, pseudocode, command, docstring and code of compute_weights
    code = [line for line in changed if line.startswith("return ")]
    assert code == [
        "return np.full(len(rewards), np.sum(rewards))",
        "return np.cumsum(rewards[::-1])[::-1]",
    ]


def test_reward_to_go_by_hand():
    weights = []
    for name in FILES:
        example = runpy.run_path(str(EXAMPLES / name))
        weights.append(example["compute_weights"]([1.0, 2.0, 4.0]).tolist())
    assert weights == [[7, 7, 7], [7, 6, 4]]
