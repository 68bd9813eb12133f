"""docs/rl/examples: the scripts are short and learn; the first two differ only in their weights."""

import difflib
import runpy

import numpy as np
import pytest
import torch
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


@pytest.fixture(scope="module")
def brackets():
    return runpy.run_path(str(EXAMPLES / "verifiable_rewards.py"))


def test_brackets_is_short():
    lines = (EXAMPLES / "verifiable_rewards.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) < 100 and max(map(len, lines)) <= 100


# With seeds 0 to 5 it ended at 0.983 to 0.996, and at 0.58 to 0.78 on longer prompts.
def test_brackets_learns(brackets, capsys):
    success, on_longer = brackets["train"](seed=0)
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in table] == ["step", "0", "50", "100", "150", "200", "250", "300"]
    assert float(table[1][1]) < 0.03 and float(table[1][2]) < 0.03
    assert success > 0.95 and on_longer > 0.4


def test_brackets_repeats_itself(brackets, capsys):
    printed = []
    for seed in (0, 0, 1):
        brackets["train"](seed=seed, steps=50, group_size=4)
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] != printed[2]


def test_brackets_starts_from_the_shell(tmp_path):
    args = "--seed 1 --steps 0 --group-size 2".split()
    done = run("docs/rl/examples/verifiable_rewards.py", *args, cwd=tmp_path)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 2, done.stderr


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("____().....", 1),
        ("__([]).....", 1),
        ("_([[)]]).__", 0),
        ("___([]).)(_", 1),  # what follows the full stop does not count
        ("__(()()).[[", 1),  # brackets of its own, closed
        ("___([)]....", 0),
        ("___([]]....", 0),
        ("___([])____", 0),  # no full stop
        ("___([_])...", 0),
        ("___([......", 0),
    ],
)
def test_brackets_checker(brackets, text, reward):
    assert brackets["check"](text) == reward


def test_brackets_loss_by_hand(brackets):
    """Every next token has the probabilities p: log π(y|x) sums over ")" and ".", not beyond."""
    p = torch.tensor([0.1, 0.2, 0.3, 0.1, 0.1, 0.2])

    def pi(tokens):
        return p.log().expand(*tokens.shape, 6), None

    texts = torch.tensor([["_()[].".index(token) for token in "____().(_.)"]] * 2)
    loss = brackets["compute_loss"](pi, texts, torch.tensor([1.0, -3.0]))
    assert loss.item() == pytest.approx(-(1 - 3) / 2 * np.log(0.3 * 0.2), rel=1e-5)
