"""The exercises: solutions pass, untouched files get friendly lines, usual mistakes their hints."""

import ast
import importlib
import importlib.util
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from functools import cache

import gymnasium as gym
import numpy as np
import pytest
from helpers import ROOT

FOLDER = ROOT / "exercises"
sys.path.insert(0, str(FOLDER))

import check  # noqa: E402
import hunts  # noqa: E402
import judge  # noqa: E402
import slowdown  # noqa: E402

SOLUTIONS = FOLDER / "solutions"
PAGES = ROOT / "docs" / "exercises"
IN_PROCESS = [name for name in check.SET1 if name not in ("average_gradients", "vpg_from_scratch")]
LEARNERS = [*check.SET1, "trpo_value_function", "ddpg_shapes"]


def run_check(*args, cwd=ROOT, limit=300):
    """(exit code, what was printed, seconds) of the command."""
    command = [sys.executable, str(FOLDER / "check.py"), *map(str, args)]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=limit)
    assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    return done.returncode, done.stdout, time.perf_counter() - began


def read(path):
    return path.read_text(encoding="utf-8")


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def solution(name):
    return read(check.path_of(name, SOLUTIONS))


def changed(name, *changes):
    """A solution with changes (old, new), each of which must apply."""
    text = solution(name)
    for old, new in changes:
        assert old in text, (name, old)
        text = text.replace(old, new)
    return text


def examine(name, text):
    """The parts of an exercise, checked here and now."""
    module = importlib.import_module(f"checks.{name}")
    _, parts = judge.examine(module.EXERCISE, text, "file.py")
    return parts


def texts(parts):
    assert "Traceback" not in str(parts)
    return "\n".join(part["text"] for part in parts)


# Before and after ---------------------------------------------------------------------------------


def test_all_unsolved():
    code, out, seconds = run_check("--folder", FOLDER)
    assert code == 1
    assert seconds < 120 * slowdown.factor()
    rows = [line for line in out.splitlines() if line.startswith("  [")]
    assert len(rows) == len(check.SET1) + len(check.SET2)
    for line in rows:
        name = line.split()[2]
        assert line.startswith("  [ ]"), line
        assert line.endswith("not started") or name.startswith("hunt_"), line


def test_all_solved(tmp_path):
    """As a learner would: the solutions are copied over the untouched files."""
    for name in ("set1", "set2"):
        shutil.copytree(FOLDER / name, tmp_path / name)
        shutil.copytree(SOLUTIONS / name, tmp_path / name, dirs_exist_ok=True)
    code, out, seconds = run_check("--folder", tmp_path)
    assert code == 0, out
    assert "[ ]" not in out, out
    assert seconds < 300 * slowdown.factor(), out


def shape(text):
    """(the file's docstring, name, arguments and docstring of each function)."""
    tree = ast.parse(text)
    functions = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            functions.append((node.name, ast.unparse(node.args), ast.get_docstring(node)))
    return ast.get_docstring(tree), functions


@pytest.mark.parametrize("name", LEARNERS)
def test_unsolved_and_solution_ask_for_the_same(name):
    """The same names, signatures and texts; and no solution is left in the learner's file."""
    given = read(check.path_of(name, FOLDER))
    if name == "vpg_from_scratch":
        assert shape(given)[0] == shape(solution(name))[0]
    else:
        assert shape(given) == shape(solution(name))
        assert "your code here" in given
        assert "your code here" not in solution(name)
    assert given.startswith(('"""Exercise 1', '"""Exercise 2'))
    assert f"check.py {name}" in given


def test_list_and_unknown_names():
    code, out, _ = run_check("--list")
    assert code == 0
    assert all(name in out for name in [*check.SET1, *check.SET2])
    assert run_check("no_such_exercise")[0] == 2
    assert run_check("gaussian_logp", "--hint", 1)[0] == 2


@pytest.mark.parametrize("args", [["--help"], ["--list"], ["td3"]])
def test_a_terminal_without_greek_letters(args):
    """Letters that the encoding lacks are replaced, and stop neither the command nor its output."""
    env = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    command = [sys.executable, str(FOLDER / "check.py"), *args]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, timeout=300)
    printed = done.stdout.decode("cp1252")
    assert done.returncode == (1 if args == ["td3"] else 0)
    assert len(printed) > 100 and b"Traceback" not in done.stderr


# Usual mistakes -----------------------------------------------------------------------------------

ENTROPY = "(0.5 + 0.5 * math.log(2 * math.pi) + self.log_std).sum()"
CORRECTION = "2 * (math.log(2) - u - softplus(-2 * u))"
MISTAKES = {  # exercise: (changes to its solution, words of the hint)
    "gaussian_logp": [
        ([(".sum(dim=-1)", "")], "sum over the last axis"),
        ([(".sum(dim=-1)", ".mean(dim=-1)")], "mean over the dimensions"),
        ([(".sum(dim=-1)", ".sum(dim=0)")], "over the batch, axis 0"),
        ([(".sum(dim=-1)", ".sum()")], "(B,) is left"),
        ([("return (", "return -(")], "negative log-likelihood"),
        ([("- 0.5 * math.log(2 * math.pi)", "")], "−½ log 2π is missing"),
        ([("z**2 - log_std", "z**2")], "−log σ is missing"),
        ([("z**2 - log_std", "z**2 + log_std")], "log σ enters with a minus"),
        ([("/ log_std.exp()", "/ log_std")], "take exp first"),
        ([("-0.5 * z**2", "-(z**2)")], "factor ½"),
        (
            [
                ("(x - mu)", "(x - mu).detach()"),
                ("log_std.exp()", "log_std.detach().exp()"),
                ("z**2 - log_std", "z**2 - log_std.detach()"),
            ],
            "No gradient",
        ),
    ],
    "gaussian_policy": [
        ([("nn.Parameter(torch", "(torch")], "nn.Parameter"),
        (
            [("torch.full((act_dim,), -0.5)", "torch.full((act_dim,), 0.6065307)")],
            "log_std should be log σ",
        ),
        ([("*layers[:-1]", "*layers")], "activation after the last layer"),
        ([(", nn.Tanh()]", "]"), ("*layers[:-1]", "*layers")], "network is linear"),
        ([("nn.Tanh()", "nn.ReLU()")], "Tanh after every hidden one"),
        ([("torch.randn_like(mu)", "torch.randn(len(mu), 1)")], "All dimensions"),
        ([("torch.randn_like(mu)", "torch.randn_like(mu)[:, [0, 1, 0]]")], "All dimensions"),
        ([("torch.randn_like(mu)", "torch.randn(mu.shape[1])")], "All rows"),
        ([("self.log_std.exp() * torch", "(2 * self.log_std).exp() * torch")], "variance σ²"),
        ([("self.log_std.exp() * torch", "self.log_std * torch")], "take exp first"),
        ([(".sum(dim=-1)", "")], "last axis"),
        (
            [(ENTROPY, "(0.5 + 0.5 * math.log(2 * math.pi) + self.log_std.sum())")],
            "not once for all",
        ),
        ([(".sum().expand(len(s))", ".sum()")], "one for each state"),
        ([(".sum().expand(len(s))", "")], "entropy of all together"),
    ],
    "td3": [
        ([("torch.min(", "torch.max(")], "larger of the two Q"),
        ([("(1 - d) * ", "")], "(1 − d) is missing"),
        ([("(1 - d) * ", "d * ")], "wrong way round"),
        ([("r + gamma", "r + 1.0")], "γ is missing"),
        ([("torch.min(q1_targ(s2, a2), q2_targ(s2, a2))", "q1_targ(s2, a2)")], "Only the first Q"),
        ([("with torch.no_grad():", "if True:")], "gradient flows through the targets"),
        ([("torch.randn_like(a2)", "torch.randn(a2.shape[1])")], "whole batch"),
        ([("torch.randn_like(a2)", "torch.randn(len(a2), 1)")], "all dimensions"),
        ([("torch.randn_like(a2)", "torch.rand_like(a2)")], "torch.randn, not torch.rand"),
        ([(".clamp(-noise_clip, noise_clip)", "")], "not clipped to ±noise_clip"),
        ([("(a2 + noise).clamp(-1, 1)", "a2 + noise")], "leaves [−1, 1]"),
        ([("target_noise * torch", "torch")], "target_noise, σ, is missing"),
        ([(" + ((q2(s, a) - y) ** 2).mean()", "")], "Only Q_1 is trained"),
        (
            [
                ("(q1(s, a) - y)", "(q1(s, a)[:, None] - y)"),
                ("(q2(s, a) - y)", "(q2(s, a)[:, None] - y)"),
            ],
            "(B, B)",
        ),
        ([("return -q1", "return q1")], "Q should go up"),
        ([("q1(s, pi(s))", "q1(s, pi(s).detach())")], "No gradient reaches the policy"),
    ],
    "returns_and_gae": [
        ([("0.0 if d[t] else v2[t]", "0.0")], "A path that was cut is treated as terminated"),
        ([("0.0 if d[t] else v2[t]", "v2[t]")], "A terminal state is bootstrapped"),
        ([("if end[t]:", "if d[t] or t == len(r) - 1:")], "Only terminations stop the sum"),
        ([("if end[t]:", "if t == len(r) - 1:")], "into the next path"),
        ([("ret[t] = ahead", "ret[t] = gamma * ahead")], "off by one power of γ"),
        ([("r[t] + gamma * ahead", "r[t] + ahead")], "γ is missing"),
        (
            [
                (
                    "        ahead = r[t] + gamma * ahead\n        ret[t] = ahead",
                    "        ret[t] = ahead\n        ahead = r[t] + gamma * ahead",
                )
            ],
            "off by one",
        ),
        ([("np.where(d, 0.0, v2)", "np.where(end, 0.0, v2)")], "cut is treated as terminated"),
        ([("np.where(d, 0.0, v2)", "v2")], "terminal state is bootstrapped"),
        (
            [
                (
                    "        if end[t]:\n            ahead = 0.0\n",
                    "        if d[t]:\n            ahead = 0.0\n",
                )
            ],
            "Look at end",
        ),
        ([("v2) - v", "v)  - v")], "off by one step"),
        ([("delta[t] + gamma * lam", "delta[t] + lam")], "λ alone"),
        ([("r + gamma * np.where", "r + np.where")], "γ of V(s_{t+1}) is missing"),
        ([("ret = np.zeros(len(r))", "ret = r")], "input array was changed"),
    ],
    "trust_region": [
        ([(" + damping * v", "")], "damping is missing"),
        ([("create_graph=True", "retain_graph=True")], "create_graph=True"),
        (
            [
                ("create_graph=True", "create_graph=True, retain_graph=False"),
                ("slope, params, retain_graph=True", "slope, params"),
            ],
            "retain_graph=True",
        ),
        ([("for g in grads]) @ v", "for g in grads]).sum()")], "v was left out"),
        (
            [("return torch.cat([g.reshape(-1) for g in grads]) + damping * v", "return grads")],
            "torch.cat",
        ),
        ([("r_dot_r / last", "last / r_dot_r")], "β is upside down"),
        ([("r = r - step", "r = r + step")], "The residual grows"),
        ([("r + r_dot_r / last * p", "r")], "steepest descent"),
        ([("range(iters)", "range(iters - 1)")], "off by one in the loop"),
        ([("x = torch.zeros_like(g)", "x = g.clone()")], "Start from 0"),
        ([("            break", "            pass")], "divides 0 by 0"),
        ([("r = g.clone()", "r = g"), ("r = r - step * hp", "r -= step * hp")], "g was changed"),
        ([("if r_dot_r < 1e-10 * (g @ g) or r_dot_r == 0", "if r_dot_r < 1e-10")], "A small g"),
    ],
    "squashed_gaussian": [
        ([("(logp - log_slope)", "logp")], "correction for tanh is missing"),
        ([("logp - log_slope", "logp + log_slope")], "wrong sign"),
        ([(CORRECTION, "(1 - u.tanh() ** 2).log()")], "rounded to ±1"),
        ([(CORRECTION, "(1 - u.tanh() ** 2 + 1e-6).log()")], "makes it wrong for |u|"),
        ([(CORRECTION, "(1 - u.tanh() ** 2).clamp(min=1e-6).log()")], "An ε"),
        ([(CORRECTION, "(1.3862944 - 2 * (u.exp() + (-u).exp()).log())")], "eᵘ overflows"),
        ([("(u - mu)", "(u.detach() - mu)")], "the gradient by u"),
        ([(".sum(dim=-1)", "")], "last axis"),
        ([(".sum(dim=-1)", ".mean(dim=-1)")], "mean over the dimensions"),
        ([("(u - mu)", "(u.tanh() - mu)")], "u that was drawn"),
    ],
    "replay_buffer": [
        (
            [("self.n % self.capacity]", "self.n % (self.capacity - 1)]")],
            "off by one where it wraps",
        ),
        ([("min(self.n, self.capacity)", "self.capacity")], "never written"),
        ([("min(self.n, self.capacity)", "max(1, min(self.n, self.capacity) - 1)")], "off by one"),
        ([("self.n % self.capacity]", "self.n]")], "does not wrap around"),
        (
            [("self.n % self.capacity]", "min(self.n, self.capacity - 1)]")],
            "Off by one where it wraps",
        ),
        (
            [("x[idx] for x", "x[torch.randint(min(self.n, self.capacity), (batch_size,))] for x")],
            "Draw the indices once",
        ),
        (
            [
                (
                    "torch.randint(min(self.n, self.capacity), (batch_size,))",
                    "torch.randperm(min(self.n, self.capacity))[:batch_size]",
                )
            ],
            "should have",
        ),
        (
            [
                ("self.n = 0", "self.n = 0\n        self.rows = []"),
                (
                    "        self.n += 1",
                    ("        self.n += 1\n        self.rows.append((s.copy(), a, r, s2, d))"),
                ),
                (
                    "        idx =",
                    (
                        "        for i, row in enumerate(self.rows):\n"
                        "            for x, new in zip(self.data, row):\n"
                        "                x[i % self.capacity] = torch.as_tensor(new)\n"
                        "        idx ="
                    ),
                ),
            ],
            "stored transition changes",
        ),
        ([("(act_dim,), (), (obs_dim,), ()", "(act_dim,), (1,), (obs_dim,), (1,)")], "(B, B)"),
    ],
    "ppo_objective": [
        ([("return -torch.min", "return torch.min")], "sign is the wrong way round"),
        ([("torch.min(ratio * adv, ", "(")], "Only the clipped product"),
        ([("torch.min(", "torch.max(")], "protects nothing"),
        ([("(logp - logp_old).exp()", "(logp_old - logp).exp()")], "upside down"),
        ([("(logp - logp_old).exp()", "logp - logp_old")], "exp is missing"),
        ([("(logp - logp_old).exp()", "logp / logp_old")], "logarithms were divided"),
        (
            [("clamp(1 - clip_ratio, 1 + clip_ratio)", "clamp(max=1 + clip_ratio)")],
            "from above only",
        ),
        ([("clamp(1 - clip_ratio, 1 + clip_ratio)", "clamp(-clip_ratio, clip_ratio)")], "near 1"),
        ([("* adv).mean()", "* adv)")], "take the mean"),
        ([("(logp_old - logp).mean()", "(logp - logp_old).mean()")], "a negative KL"),
    ],
}


@pytest.mark.parametrize("name", IN_PROCESS)
def test_usual_mistakes_get_their_hints(name):
    assert len(MISTAKES[name]) >= 3
    parts = examine(name, solution(name))
    assert check.is_done(parts), parts
    for changes, hint in MISTAKES[name]:
        parts = examine(name, changed(name, *changes))
        assert hint in texts(parts), (changes, hint, parts)


def test_another_right_answer_is_accepted():
    noise = "torch.distributions.Normal(0.0, target_noise).sample(a2.shape)"
    parts = examine("td3", changed("td3", ("target_noise * torch.randn_like(a2)", noise)))
    assert check.is_done(parts), parts


ALLREDUCE = "MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, flat.numpy())"
DIVISION = "    flat /= MPI.COMM_WORLD.size\n"
ONLY_RANK_0_CALLS = "    if MPI.COMM_WORLD.rank: return\n"
RANK_1_FAILS = "    if MPI.COMM_WORLD.rank: raise ValueError('only here')\n"


@pytest.mark.parametrize(
    "changes, hint",
    [
        ([(DIVISION, "")], "sum over the processes"),
        ([("        p.grad.copy_(g.reshape(p.shape))", "        pass")], "its own gradients"),
        (
            [(ALLREDUCE, "MPI.COMM_WORLD.Bcast(flat.numpy())"), (DIVISION, "")],
            "that is a broadcast",
        ),
        ([("    flat = ", f"{ONLY_RANK_0_CALLS}    flat = ")], "wait for a message"),
        ([("    flat = ", f"{RANK_1_FAILS}    flat = ")], "only here"),
    ],
)
def test_usual_mistakes_of_mpi(changes, hint, tmp_path, monkeypatch):
    monkeypatch.setitem(check.SECONDS, "average_gradients", 1)
    path = tmp_path / "average_gradients.py"
    write(path, changed("average_gradients", *changes))
    parts, _ = check.run_judge("average_gradients", path)
    assert not check.is_done(parts) and hint in texts(parts), parts


IMPORT = "import gymnasium as gym\n"


@pytest.mark.parametrize(
    "changes, hint",
    [
        ([("loss = -(logp", "loss = (logp")], "steps the wrong way"),
        ([("    optimizer.step()\n", "")], "Nothing changes"),
        (
            [("s, r, terminated, truncated, _ = env", "s, r, terminated, truncated = env")],
            "returns five things",
        ),
        ([("s, _ = env.reset()", "s = env.reset()")], "env.reset"),
        ([("        while not ended:", "        for _ in range(50):")], "env.reset comes first"),
        ([("range(200)", "range(1)"), ("< 2000", "< 20")], "too few to learn from"),
        ([(IMPORT, f"{IMPORT}from stable_baselines3 import PPO\n")], "Nice try"),
        ([(IMPORT, IMPORT + "x = 0\n" * 100)], "fewer than 100"),
    ],
)
def test_usual_mistakes_of_the_script(changes, hint, monkeypatch):
    monkeypatch.setattr(importlib.import_module("checks.vpg_from_scratch"), "SECONDS", 6)
    parts = examine("vpg_from_scratch", changed("vpg_from_scratch", *changes))
    assert not check.is_done(parts) and hint in texts(parts), parts


NEXT_VALUE = "* q_targ(s2, pi_targ(s2))"


@pytest.mark.parametrize(
    "changes, hint",
    [
        ([('"y": (4, 4)', '"y": (4,)')], "aligned from the right"),
        ([(".squeeze(-1)", ""), (NEXT_VALUE, f"{NEXT_VALUE}.squeeze(-1)")], "critic"),
        ([("q_next[:, None]", "q_next[None, :]")], "mixes two rows"),
        (
            [
                ("r[None, :]", "r[:, None]"),
                ("d[None, :]", "d[:, None]"),
                ("q_next[:, None]", "q_next[None, :]"),
            ],
            "Which index",
        ),
    ],
)
def test_usual_mistakes_with_shapes(changes, hint):
    assert hint in texts(examine("ddpg_shapes", changed("ddpg_shapes", *changes)))


def test_untouched_shapes_are_missing():
    given = read(check.path_of("ddpg_shapes", FOLDER))
    assert {part["status"] for part in examine("ddpg_shapes", given)} == {"missing"}


@pytest.mark.parametrize(
    "change, hint",
    [
        (("gamma * lam * ahead", "gamma * ahead"), "λ is missing"),
        (("BEST_BASELINE = 100.5", "BEST_BASELINE = 0"), "about 2525"),
        (('SAME_KL = "c"', 'SAME_KL = "b"'), "not the same numbers"),
        (('SAME_KL = "c"', 'SAME_KL = "z"'), "should be one of"),
        (("score = {1: 1 - p, 0: -p}", "score = {1: 1, 0: 1}"), "1 − p"),
    ],
)
def test_usual_mistakes_with_trpo(change, hint):
    assert hint in texts(examine("trpo_value_function", changed("trpo_value_function", change)))


# Whatever a learner's file does -------------------------------------------------------------------

BODY = "    z = (x - mu) / log_std.exp()\n"
PPO = str(ROOT / "ppo")
SOLVED = str(SOLUTIONS / "set1" / "gaussian_")


def with_body(text):
    """The solution of exercise 1.1 with another body."""
    source = solution("gaussian_logp")
    return "import torch\n" + source[: source.index(BODY)] + text


@pytest.mark.parametrize(
    "text, says",
    [
        (BODY + "    while True: pass\n", "still running after"),
        ("    while True: print('x' * 1000)\n", "prints or writes without end"),
        ("    import os; os._exit(0)\n", "ended the whole process"),
        ("    return __import__('pp' + 'o')\n", "Nice try"),
        (f"    return open({PPO!r} + '.py').read()\n", "Nice try"),
        (f"    import runpy; runpy.run_path({SOLVED!r} + 'logp.py')\n", "Nice try"),
    ],
)
def test_whatever_a_learner_does(text, says, tmp_path, monkeypatch):
    """The checker gives a line for it, in time."""
    monkeypatch.setitem(check.SECONDS, "gaussian_logp", 1)
    path = tmp_path / "gaussian_logp.py"
    write(path, with_body(text))
    parts, printed = check.run_judge("gaussian_logp", path)
    assert says in texts(parts) and not check.is_done(parts), parts
    assert "Traceback" not in printed
    assert len(printed) < 30_000


@pytest.mark.parametrize(
    "text, says",
    [
        ("    import sys; sys.exit(0)\n", "sys.exit"),
        ("    return None\n", "`return` missing"),
        ("    return 'text'\n", "should be numbers"),
        ("    return object()\n", "should be numbers"),
        ("    return {1: 2}\n", "should be numbers"),
        ("    return [[1], [2, 3]]\n", "should be numbers"),
        ("    return 1 / 0\n", "ZeroDivisionError"),
        ("    return x @ mu\n", "two shapes do not fit"),
        ("    raise KeyboardInterrupt\n", "KeyboardInterrupt"),
        ("    return x +\n", "Python cannot read line"),
        ("    import ppo\n", "Nice try"),
        ("    from solutions.set1 import gaussian_logp\n", "Nice try"),
        ("    from torch import distributions\n", "Nice try"),
        (
            "    return torch.distributions.Normal(mu, log_std.exp()).log_prob(x).sum(-1)\n",
            "Nice try",
        ),
        ("    pass\ndel gaussian_logp\n", "is not there"),
    ],
)
def test_whatever_a_learner_writes(text, says):
    parts = examine("gaussian_logp", with_body(text))
    assert says.lower() in texts(parts).lower() and not check.is_done(parts), parts


def test_print_outs_are_shown_and_do_no_harm(tmp_path):
    shutil.copytree(SOLUTIONS, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "set1" / "gaussian_logp.py"
    printing = read(path) + "\n\nprint('hello there, Σ')\n"
    write(path, printing)
    assert run_check("gaussian_logp", "--folder", tmp_path)[0] == 0
    write(path, printing.replace("-0.5 * z", "-0.6 * z"))
    code, out, _ = run_check("gaussian_logp", "--folder", tmp_path)
    assert code == 1
    assert "| hello there" in out
    path.unlink()
    assert run_check("gaussian_logp", "--folder", tmp_path)[0] == 1


# Bug hunts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", hunts.HUNTS)
def test_hunts(name, tmp_path):
    """The first call writes the broken script; the checker tells it from the right one."""
    hunt = hunts.HUNTS[name]
    path = tmp_path / "set2" / f"{name}.py"
    code, out, _ = run_check(name, "--folder", tmp_path)
    assert code == 1 and path.is_file()
    assert "Happy hunting" in out and "broken" in out
    assert hunts.check(name, path)[0]["status"] == "missing"

    script, broken = hunts.plant(hunt.mutant)
    write(path, broken + "\n# looked at\n")
    parts = hunts.check(name, path)
    for part in parts:
        assert part["status"] == "wrong" and "does not hold" in part["text"], parts

    wrong, right = hunts.answer_of(solution(name))
    assert broken.count(wrong) == 1
    assert broken.replace(wrong, right) == read(ROOT / f"{script}.py")
    said = "\n".join(map(str, parts))
    assert len(set(hunt.hints)) == 3
    assert not any(hint in said for hint in hunt.hints)


def test_a_hunt_survives_anything(tmp_path):
    path = tmp_path / "hunt_vpg.py"
    for text, says in [
        ("def train(:\n", "cannot read line"),
        ("import sys\nsys.exit(0)\n", "does not"),
        ("from vpg import *\n", "Nice try"),
        ('WRONG = "nothing of the kind"\nRIGHT = ""\n', "exactly once"),
    ]:
        write(path, text)
        assert says in texts(hunts.check("hunt_vpg", path)), text


def test_bugs_that_may_be_drawn():
    """No bug that a hunt uses; nearly all patches fit the scripts, but some may lag behind."""
    names = hunts.drawable()
    assert not {hunt.mutant for hunt in hunts.HUNTS.values()} & {*names}
    fitting = 0
    for mutant in names:
        with suppress(hunts.Stop):
            script, text = hunts.plant(mutant)
            assert text != read(ROOT / f"{script}.py")
            ast.parse(text)
            fitting += 1
    assert fitting > 40


def test_a_fresh_bug(tmp_path):
    path = tmp_path / "set2" / "new_bug.py"
    assert run_check("new_bug", "--folder", tmp_path)[0] == 1
    code, out, _ = run_check("--new", "--folder", tmp_path)
    assert code == 0 and path.is_file()
    mutant = json.loads(read(path.parent / hunts.STATE))["mutant"]
    assert mutant in hunts.drawable()
    assert mutant not in out
    hints = [hunts.hint("new_bug", n, path) for n in (1, 2, 3)]
    assert len(set(hints)) == 3

    hunts.draw(path, random.Random(3))
    script, broken = hunts.plant(hunts.mutant_of("new_bug", path))
    write(path, broken + "\n")
    assert all(part["status"] == "wrong" for part in hunts.check("new_bug", path))
    write(path, read(ROOT / f"{script}.py"))
    assert check.is_done(hunts.check("new_bug", path))


def test_no_bug_fits(tmp_path, monkeypatch):
    """If no patch fits the scripts any more, one sentence says so."""

    def plant(mutant):
        raise hunts.Stop(mutant)

    monkeypatch.setattr(hunts, "plant", plant)
    with pytest.raises(hunts.Stop, match="None of the bugs fits"):
        hunts.draw(tmp_path / "new_bug.py", random.Random(3))


@pytest.mark.parametrize("name", [*hunts.HUNTS, "trpo_value_function", "ddpg_shapes"])
def test_curves(name):
    """Committed, small, with the command that made them, and both versions in them."""
    path = FOLDER / "set2" / "curves" / f"{name}.csv"
    lines = read(path).splitlines()
    assert path.stat().st_size < 8_000
    assert lines[0].startswith(f"# python exercises/set2/curves.py {name}")
    assert {line.split(",")[0] for line in lines[2:]} == {"right", "broken"}


def test_no_exercise_imports_a_solution():
    for path in FOLDER.rglob("*.py"):
        for name in hunts.imported_modules(ast.parse(read(path))):
            assert "solutions" not in str(name), path


@pytest.mark.parametrize("name", IN_PROCESS)
def test_training_runs_fit_the_scripts(name, tmp_path, monkeypatch):
    """--train with the solution, in a tiny run; its returns do not matter."""
    common = importlib.import_module("checks.common")
    module = importlib.import_module(f"checks.{name}")
    tiny = dict(hidden_sizes=(8,), max_episode_steps=20, total_timesteps=80, steps_per_epoch=40)
    on_policy = dict(tiny, train_v_iters=2)
    off_policy = dict(tiny, start_steps=10, update_after=20, num_test_episodes=1)
    reached = []

    def short_run(script, changes, bar, column="charts/episodic_return", last=3, **args):
        own = off_policy if script in ("td3", "sac") else on_policy
        reached.append(common.short_run(script, changes, -1e9, column, last, **args | own))
        return reached[-1]

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "short_run", short_run)
    scripts = [importlib.import_module(script) for script in hunts.SCRIPTS]
    before = [dict(vars(script)) for script in scripts]
    try:
        learner, parts = judge.examine(module.EXERCISE, solution(name), "file.py")
        assert check.is_done(parts)
        assert module.train(learner) == reached[0]
    finally:
        for script, names in zip(scripts, before):
            vars(script).update(names)


# Studies ------------------------------------------------------------------------------------------


@cache  # time_limits registers its environments once
def load(name):
    """A program of set 3 as a module."""
    path = FOLDER / "set3" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"study_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def made_up_run(lam, seed, level):
    """The text of a run of ten epochs: no episode in the first, returns of 0, then of `level`."""
    config = json.dumps({"args": {"exp_name": f"ppo,lam={lam}", "lam": lam, "seed": seed}})
    returns = ["", *[0] * 7, level, level]
    rows = [f"{1000 * (i + 1)},{x}" for i, x in enumerate(returns)]
    return "\n".join([f"# {config}", "global_step,charts/episodic_return", *rows]) + "\n"


def test_table_of_a_study(tmp_path, capsys):
    table = load("table")
    for lam, level in ((0.9, 100.0), (0.97, 200.0)):
        for seed in range(3):
            path = tmp_path / "ours" / f"ppo,lam={lam}" / "Hopper-v4" / f"{seed}.csv"
            write(path, made_up_run(lam, seed, level + seed))
    assert table.main("seeds", tmp_path) is None
    out = capsys.readouterr().out
    assert "| ppo | 0.9 | 3 | 101 | 100 | 102 | 0 |" in out
    assert "| ppo | 0.97 | 3 | 201 | 200 | 202 | 0 |" in out
    assert "| 3 | 100 % |" in out
    assert "There are no runs" in table.main("clipping", tmp_path / "nothing")
    assert "studies are" in table.main("what")
    assert {*table.STUDIES} < {*check.SET3}


@pytest.mark.parametrize("study", ["clipping", "exploration", "seeds", "time_limits", "variance"])
def test_the_answer_of_a_study_has_the_table_of_the_committed_runs(study, capsys):
    assert load("table").main(study) is None
    page = read(PAGES / f"{study}.md").splitlines()
    assert not {*capsys.readouterr().out.splitlines()} - {*page}


BALANCE = np.array([[1.0], [10.0], [1.0], [2.0]])  # keeps the pole up: pushes after it


def balance(s):
    return np.clip(s @ BALANCE, -3, 3)


def do_nothing(s):
    return 0 * s[:1]


@pytest.mark.parametrize(
    "name, act, ends",
    [
        ("PendulumCut-v0", do_nothing, (False, True)),
        ("PendulumTerminal-v0", do_nothing, (True, False)),
        ("InvertedPendulumCut-v0", balance, (False, True)),
        ("InvertedPendulumTerminal-v0", balance, (True, False)),
    ],
)
def test_environments_that_lie(name, act, ends):
    """After 100 steps: cut in the one, over in the other."""
    load("time_limits")
    env = gym.make(name)
    s, _ = env.reset(seed=0)
    terminated = truncated = False
    steps = 0
    while not (terminated or truncated):
        s, _, terminated, truncated, _ = env.step(act(s))
        steps += 1
    assert steps == 100
    assert (terminated, truncated) == ends


def test_pages_name_every_exercise():
    """A page for each, that names its file or command; the six hunts share one."""
    index = read(PAGES / "index.md")
    for name in [*check.SET1, "trpo_value_function", "ddpg_shapes", *check.SET3]:
        page = PAGES / f"{name}.md"
        assert f"({name}.md)" in index and page.is_file()
        assert name == "challenges" or name in read(page)
    for name in hunts.HUNTS:
        assert name in read(PAGES / "hunts.md")
    known = [*check.SET1, *check.SET2, "new_bug"]
    for page in PAGES.glob("*.md"):
        for command in re.findall(r"^python exercises/check\.py (\w+)", read(page), re.M):
            assert command in known, (page, command)


def test_grids_of_the_studies():
    """The pages' commands name flags that the scripts have, and make the runs the studies need."""
    sizes = {}
    for name in ("seeds", "variance", "clipping", "exploration", "time_limits"):
        text = read(PAGES / f"{name}.md").replace("\\\n", " ")
        sizes[name] = 0
        for line in re.findall(r"^python benchmark/run\.py (.*)$", text, re.M):
            script, *words = re.split(r" --", line)
            flags = {}
            for word in words:
                flag, *values = word.split()
                flags[flag.replace("-", "_")] = values
            assert flags.pop("results") == [f"my_results/{name}"]
            known = importlib.import_module(script.strip()).Args.__dataclass_fields__
            assert flags.keys() <= known.keys()
            sizes[name] += math.prod(len(values) for values in flags.values())
    assert sizes == {
        "seeds": 40,
        "variance": 25,
        "clipping": 20,
        "exploration": 30,
        "time_limits": 20,
    }


def test_runs_of_the_study_of_time_limits(tmp_path, capsys):
    flags = "--total-timesteps 200 --steps-per-epoch 100 --hidden-sizes 8 --train-v-iters 2"
    command = [sys.executable, ROOT / "benchmark" / "run.py", "ppo", *flags.split()]
    command += ["--results", "kept", "--env-id"]
    command.append("exercises.set3.time_limits:InvertedPendulumTerminal-v0")
    command.append("exercises.set3.time_limits:InvertedPendulumCut-v0")
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert list((tmp_path / "kept").rglob("*:*")) == []  # which Windows could not check out
    assert load("table").main("time_limits", tmp_path / "kept") is None
    shown = capsys.readouterr().out
    assert "| ppo | InvertedPendulumTerminal-v0 | 1 |" in shown
    assert "| ppo | InvertedPendulumCut-v0 | 1 |" in shown
