"""The exercises: solutions pass, unsolved files end in friendly lines, each usual mistake gets the hint made for it."""

import ast
import importlib
import importlib.util
import json
import math
import random
import re
import shutil
import subprocess
import sys
import time
from contextlib import suppress

import gymnasium as gym
import numpy as np
import pytest
from helpers import ROOT

FOLDER = ROOT / "exercises"
sys.path.insert(0, str(FOLDER))

import check  # noqa: E402
import hunts  # noqa: E402
import judge  # noqa: E402
import patience  # noqa: E402

SOLUTIONS = FOLDER / "solutions"
IN_PROCESS = [name for name in check.SET1 if name not in ("average_gradients", "vpg_from_scratch")]
LEARNERS = [*check.SET1, "trpo_value_function", "ddpg_shapes"]


def run_check(*args, cwd=ROOT, limit=300):
    command = [sys.executable, str(FOLDER / "check.py"), *map(str, args)]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=limit)
    assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    return done.returncode, done.stdout, time.perf_counter() - began


def solution(name):
    return check.path_of(name, SOLUTIONS).read_text()


def changed(name, *changes):
    """A solution with changes (old, new), each of which must apply."""
    text = solution(name)
    for old, new in changes:
        assert old in text, (name, old)
        text = text.replace(old, new)
    return text


def texts(parts):
    assert "Traceback" not in str(parts)
    return "\n".join(part["text"] for part in parts)


# Before and after -----------------------------------------------------------------------------------------------------


def test_all_unsolved():
    code, out, seconds = run_check("--folder", FOLDER)
    assert code == 1 and seconds < 120 * patience.factor()
    rows = [line for line in out.splitlines() if line.startswith("  [")]
    assert len(rows) == len(check.SET1) + len(check.SET2)
    for line in rows:
        name = line.split()[2]
        assert line.startswith("  [ ]") and (line.endswith("not begun") or name.startswith("hunt_")), line


def test_all_solved(tmp_path):
    """As a learner would: unsolved files, and the solutions copied over them."""
    for name in ("set1", "set2"):
        shutil.copytree(FOLDER / name, tmp_path / name)
        shutil.copytree(SOLUTIONS / name, tmp_path / name, dirs_exist_ok=True)
    code, out, seconds = run_check("--folder", tmp_path)
    assert code == 0 and "[ ]" not in out and seconds < 300 * patience.factor(), out


@pytest.mark.parametrize("name", LEARNERS)
def test_unsolved_and_solution_ask_for_the_same(name):
    """The same names, signatures and texts; and no solution is left in the learner's file."""

    def shape(text):
        tree = ast.parse(text)
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        return ast.get_docstring(tree), [(f.name, ast.unparse(f.args), ast.get_docstring(f)) for f in functions]

    given = check.path_of(name, FOLDER).read_text()
    if name == "vpg_from_scratch":
        assert ast.get_docstring(ast.parse(given)) == ast.get_docstring(ast.parse(solution(name)))
    else:
        assert shape(given) == shape(solution(name))
        assert "your code here" in given and "your code here" not in solution(name)
    assert given.startswith(('"""Exercise 1', '"""Exercise 2')) and f"check.py {name}" in given


def test_list_and_unknown_names():
    code, out, _ = run_check("--list")
    assert code == 0 and all(name in out for name in [*check.SET1, *check.SET2])
    assert run_check("no_such_exercise")[0] == 2
    assert run_check("gaussian_logp", "--hint", 1)[0] == 2


# Usual mistakes -------------------------------------------------------------------------------------------------------

ENTROPY = "(0.5 + 0.5 * math.log(2 * math.pi) + self.log_std).sum()"
CORRECTION = "2 * (math.log(2) - u - softplus(-2 * u))"
MISTAKES = [  # exercise, what to change in its solution, words of the hint
    ("gaussian_logp", [(".sum(dim=-1)", "")], "sum over the last axis"),
    ("gaussian_logp", [(".sum(dim=-1)", ".mean(dim=-1)")], "mean over the dimensions"),
    ("gaussian_logp", [(".sum(dim=-1)", ".sum(dim=0)")], "over the batch, axis 0"),
    ("gaussian_logp", [(".sum(dim=-1)", ".sum()")], "(B,) is left"),
    ("gaussian_logp", [("return (", "return -(")], "negative log-likelihood"),
    ("gaussian_logp", [("- 0.5 * math.log(2 * math.pi)", "")], "−½ log 2π is missing"),
    ("gaussian_logp", [("z**2 - log_std", "z**2")], "−log σ is missing"),
    ("gaussian_logp", [("z**2 - log_std", "z**2 + log_std")], "log σ enters with a minus"),
    ("gaussian_logp", [("/ log_std.exp()", "/ log_std")], "take exp first"),
    ("gaussian_logp", [("-0.5 * z**2", "-(z**2)")], "factor ½"),
    ("gaussian_logp", [("(x - mu)", "(x - mu).detach()"), ("log_std.exp()", "log_std.detach().exp()"),
                       ("z**2 - log_std", "z**2 - log_std.detach()")], "No gradient"),
    ("gaussian_policy", [("nn.Parameter(torch", "(torch")], "nn.Parameter"),
    ("gaussian_policy", [("torch.full((act_dim,), -0.5)", "torch.full((act_dim,), 0.6065307)")], "log σ is asked for"),
    ("gaussian_policy", [("*layers[:-1]", "*layers")], "activation after the last layer"),
    ("gaussian_policy", [(", nn.Tanh()]", "]"), ("*layers[:-1]", "*layers")], "network is linear"),
    ("gaussian_policy", [("nn.Tanh()", "nn.ReLU()")], "Tanh after every hidden one"),
    ("gaussian_policy", [("torch.randn_like(mu)", "torch.randn(len(mu), 1)")], "All dimensions"),
    ("gaussian_policy", [("torch.randn_like(mu)", "torch.randn_like(mu)[:, [0, 1, 0]]")], "All dimensions"),
    ("gaussian_policy", [("torch.randn_like(mu)", "torch.randn(mu.shape[1])")], "All rows"),
    ("gaussian_policy", [("self.log_std.exp() * torch", "(2 * self.log_std).exp() * torch")], "variance σ²"),
    ("gaussian_policy", [("self.log_std.exp() * torch", "self.log_std * torch")], "take exp first"),
    ("gaussian_policy", [(".sum(dim=-1)", "")], "last axis"),
    ("gaussian_policy", [(ENTROPY, "(0.5 + 0.5 * math.log(2 * math.pi) + self.log_std.sum())")], "not once for all"),
    ("gaussian_policy", [(".sum().expand(len(s))", ".sum()")], "one for each state"),
    ("gaussian_policy", [(".sum().expand(len(s))", "")], "entropy of all together"),
    ("td3", [("torch.min(", "torch.max(")], "larger of the two Q"),
    ("td3", [("(1 - d) * ", "")], "(1 − d) is missing"),
    ("td3", [("(1 - d) * ", "d * ")], "wrong way round"),
    ("td3", [("r + gamma", "r + 1.0")], "γ is missing"),
    ("td3", [("torch.min(q1_targ(s2, a2), q2_targ(s2, a2))", "q1_targ(s2, a2)")], "Only the first Q"),
    ("td3", [("with torch.no_grad():", "if True:")], "gradient flows through the targets"),
    ("td3", [("torch.randn_like(a2)", "torch.randn(a2.shape[1])")], "whole batch"),
    ("td3", [("torch.randn_like(a2)", "torch.randn(len(a2), 1)")], "all dimensions"),
    ("td3", [("torch.randn_like(a2)", "torch.rand_like(a2)")], "torch.randn, not torch.rand"),
    ("td3", [(".clamp(-noise_clip, noise_clip)", "")], "not clipped to ±noise_clip"),
    ("td3", [("(a2 + noise).clamp(-1, 1)", "a2 + noise")], "leaves [−1, 1]"),
    ("td3", [("target_noise * torch", "torch")], "target_noise, σ, is missing"),
    ("td3", [(" + ((q2(s, a) - y) ** 2).mean()", "")], "Only Q_1 is trained"),
    ("td3", [("(q1(s, a) - y)", "(q1(s, a)[:, None] - y)"), ("(q2(s, a) - y)", "(q2(s, a)[:, None] - y)")], "(B, B)"),
    ("td3", [("return -q1", "return q1")], "Q should go up"),
    ("td3", [("q1(s, pi(s))", "q1(s, pi(s).detach())")], "No gradient reaches the policy"),
    ("returns_and_gae", [("0.0 if d[t] else v2[t]", "0.0")], "A path that was cut is treated as terminated"),
    ("returns_and_gae", [("0.0 if d[t] else v2[t]", "v2[t]")], "A terminal state is bootstrapped"),
    ("returns_and_gae", [("if end[t]:", "if d[t] or t == len(r) - 1:")], "Only terminations stop the sum"),
    ("returns_and_gae", [("if end[t]:", "if t == len(r) - 1:")], "into the next path"),
    ("returns_and_gae", [("ret[t] = ahead = r[t] + gamma * ahead", "ahead = r[t] + gamma * ahead; ret[t] = gamma * "
    "ahead")], "off by one power of γ"),
    ("returns_and_gae", [("r[t] + gamma * ahead", "r[t] + ahead")], "γ is missing"),
    ("returns_and_gae", [("ret[t] = ahead =", "ret[t], ahead = ahead,")], "off by one"),
    ("returns_and_gae", [("np.where(d, 0.0, v2)", "np.where(end, 0.0, v2)")], "cut is treated as terminated"),
    ("returns_and_gae", [("np.where(d, 0.0, v2)", "v2")], "terminal state is bootstrapped"),
    ("returns_and_gae", [("0.0 if end[t] else ahead", "0.0 if d[t] else ahead")], "Look at end"),
    ("returns_and_gae", [("v2) - v", "v)  - v")], "off by one step"),
    ("returns_and_gae", [("delta[t] + gamma * lam", "delta[t] + lam")], "λ alone"),
    ("returns_and_gae", [("r + gamma * np.where", "r + np.where")], "γ of V(s_{t+1}) is missing"),
    ("returns_and_gae", [("ret, ahead = np.zeros(len(r)), 0.0", "ret, ahead = r, 0.0")], "input array was changed"),
    ("trust_region", [(" + damping * v", "")], "damping is missing"),
    ("trust_region", [("create_graph=True", "retain_graph=True")], "create_graph=True"),
    ("trust_region", [("create_graph=True", "create_graph=True, retain_graph=False"),
                      ("slope, params, retain_graph=True", "slope, params")], "retain_graph=True"),
    ("trust_region", [("for g in grads]) @ v", "for g in grads]).sum()")], "v was left out"),
    ("trust_region", [("return torch.cat([g.reshape(-1) for g in grads]) + damping * v", "return grads")], "torch.cat"),
    ("trust_region", [("r_dot_r / last", "last / r_dot_r")], "β is upside down"),
    ("trust_region", [("r = r - step", "r = r + step")], "The residual grows"),
    ("trust_region", [("r + r_dot_r / last * p", "r")], "steepest descent"),
    ("trust_region", [("range(iters)", "range(iters - 1)")], "off by one in the loop"),
    ("trust_region", [("x = torch.zeros_like(g)", "x = g.clone()")], "Start from 0"),
    ("trust_region", [("            break", "            pass")], "divides 0 by 0"),
    ("trust_region", [("r, p = g.clone(), g.clone()", "r, p = g, g.clone()"), ("r = r - step * hp", "r -= step * hp")],
     "g was changed"),
    ("trust_region", [("if r_dot_r < 1e-10 * (g @ g) or r_dot_r == 0", "if r_dot_r < 1e-10")], "A small g"),
    ("squashed_gaussian", [(f"(logp - {CORRECTION})", "logp")], "correction for tanh is missing"),
    ("squashed_gaussian", [(f"logp - {CORRECTION}", f"logp + {CORRECTION}")], "wrong sign"),
    ("squashed_gaussian", [(CORRECTION, "(1 - u.tanh() ** 2).log()")], "rounded to ±1"),
    ("squashed_gaussian", [(CORRECTION, "(1 - u.tanh() ** 2 + 1e-6).log()")], "makes it wrong for |u|"),
    ("squashed_gaussian", [(CORRECTION, "(1 - u.tanh() ** 2).clamp(min=1e-6).log()")], "An ε"),
    ("squashed_gaussian", [(CORRECTION, "(1.3862944 - 2 * (u.exp() + (-u).exp()).log())"), ], "eᵘ overflows"),
    ("squashed_gaussian", [("(u - mu)", "(u.detach() - mu)")], "the gradient by u"),
    ("squashed_gaussian", [(".sum(dim=-1)", "")], "last axis"),
    ("squashed_gaussian", [(".sum(dim=-1)", ".mean(dim=-1)")], "mean over the dimensions"),
    ("squashed_gaussian", [("(u - mu)", "(u.tanh() - mu)")], "u that was drawn"),
    ("replay_buffer", [("self.n % self.capacity]", "self.n % (self.capacity - 1)]")], "off by one where it wraps"),
    ("replay_buffer", [("min(self.n, self.capacity)", "self.capacity")], "never written"),
    ("replay_buffer", [("min(self.n, self.capacity)", "max(1, min(self.n, self.capacity) - 1)")], "off by one"),
    ("replay_buffer", [("self.n % self.capacity]", "self.n]")], "does not wrap around"),
    ("replay_buffer", [("self.n % self.capacity]", "min(self.n, self.capacity - 1)]")], "Off by one where it wraps"),
    ("replay_buffer", [("x[idx] for x", "x[torch.randint(min(self.n, self.capacity), (batch_size,))] for x")],
     "Draw the indices once"),
    ("replay_buffer", [("torch.randint(min(self.n, self.capacity), (batch_size,))",
                        "torch.randperm(min(self.n, self.capacity))[:batch_size]")], "should have"),
    ("replay_buffer", [("self.n, self.capacity = 0, capacity", "self.n, self.capacity, self.rows = 0, capacity, []"),
                       ("        self.n += 1", "        self.rows.append((s.copy(), a, r, s2, d)); self.n += 1"),
                       ("        idx =", "        for i, row in enumerate(self.rows):\n"
                        "            for x, new in zip(self.data, row):\n"
                        "                x[i % self.capacity] = torch.as_tensor(new)\n        idx =")],
     "stored transition changes"),
    ("replay_buffer", [("(act_dim,), (), (obs_dim,), ()", "(act_dim,), (1,), (obs_dim,), (1,)")], "(B, B)"),
    ("ppo_objective", [("return -torch.min", "return torch.min")], "sign is the wrong way round"),
    ("ppo_objective", [("torch.min(ratio * adv, ", "(")], "Only the clipped product"),
    ("ppo_objective", [("torch.min(", "torch.max(")], "protects nothing"),
    ("ppo_objective", [("(logp - logp_old).exp()", "(logp_old - logp).exp()")], "upside down"),
    ("ppo_objective", [("(logp - logp_old).exp()", "logp - logp_old")], "exp is missing"),
    ("ppo_objective", [("(logp - logp_old).exp()", "logp / logp_old")], "logarithms were divided"),
    ("ppo_objective", [("clamp(1 - clip_ratio, 1 + clip_ratio)", "clamp(max=1 + clip_ratio)")], "from above only"),
    ("ppo_objective", [("clamp(1 - clip_ratio, 1 + clip_ratio)", "clamp(-clip_ratio, clip_ratio)")], "near 1"),
    ("ppo_objective", [("* adv).mean()", "* adv)")], "take the mean"),
    ("ppo_objective", [("(logp_old - logp).mean()", "(logp - logp_old).mean()")], "a negative KL"),
]  # fmt: skip


@pytest.mark.parametrize("name", IN_PROCESS)
def test_usual_mistakes_get_their_hints(name):
    module, variants = importlib.import_module(f"checks.{name}"), [m[1:] for m in MISTAKES if m[0] == name]
    assert len(variants) >= 3
    _, parts = judge.examine(module, solution(name), "file.py")
    assert check.is_done(parts), parts
    for changes, hint in variants:
        _, parts = judge.examine(module, changed(name, *changes), "file.py")
        assert hint in texts(parts), (changes, hint, parts)


def test_another_right_answer_is_accepted():
    noise = "torch.distributions.Normal(0.0, target_noise).sample(a2.shape)"
    text = changed("td3", ("target_noise * torch.randn_like(a2)", noise))
    _, parts = judge.examine(importlib.import_module("checks.td3"), text, "file.py")
    assert check.is_done(parts), parts


@pytest.mark.parametrize(
    "changes, hint",
    [
        ([("    flat /= MPI.COMM_WORLD.size\n", "")], "sum over the processes"),
        ([("        p.grad.copy_(g.reshape(p.shape))", "        pass")], "its own gradients"),
        ([("MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, flat.numpy())", "MPI.COMM_WORLD.Bcast(flat.numpy())"),
          ("    flat /= MPI.COMM_WORLD.size\n", "")], "that is a broadcast"),
        ([("    flat = ", "    if MPI.COMM_WORLD.rank: return\n    flat = ")], "wait for a message"),
        ([("    flat = ", "    if MPI.COMM_WORLD.rank: raise ValueError('only here')\n    flat = ")], "only here"),
    ],
)  # fmt: skip
def test_usual_mistakes_of_mpi(changes, hint, tmp_path, monkeypatch):
    monkeypatch.setitem(check.SECONDS, "average_gradients", 1)
    path = tmp_path / "average_gradients.py"
    path.write_text(changed("average_gradients", *changes))
    parts, _ = check.judge("average_gradients", path)
    assert not check.is_done(parts) and hint in texts(parts), parts


@pytest.mark.parametrize(
    "changes, hint",
    [
        ([("loss = -(logp", "loss = (logp")], "steps the wrong way"),
        ([("    optimizer.step()\n", "")], "Nothing changes"),
        ([("s, r, terminated, truncated, _ = env", "s, r, terminated, truncated = env")], "returns five things"),
        ([("(s, _), ended, rewards = env.reset(seed=0 if epoch == 0 and not states else None), False, []",
           "s, ended, rewards = env.reset(), False, []")], "env.reset"),
        ([("        while not ended:", "        for _ in range(50):")], "env.reset comes first"),
        ([("range(200)", "range(1)"), ("< 2000", "< 20")], "too few to learn from"),
        ([("import gymnasium as gym\n", "import gymnasium as gym\nfrom stable_baselines3 import PPO\n")], "Nice try"),
        ([("import gymnasium as gym\n", "import gymnasium as gym\n" + "x = 0\n" * 100)], "fewer than 100"),
    ],
)  # fmt: skip
def test_usual_mistakes_of_the_script(changes, hint, monkeypatch):
    module = importlib.import_module("checks.vpg_from_scratch")
    monkeypatch.setattr(module, "SECONDS", 6)
    _, parts = judge.examine(module, changed("vpg_from_scratch", *changes), "file.py")
    assert not check.is_done(parts) and hint in texts(parts), parts


def test_questions_of_set_2():
    module = importlib.import_module("checks.ddpg_shapes")
    given = check.path_of("ddpg_shapes", FOLDER).read_text()
    assert {part["status"] for part in judge.examine(module, given, "file.py")[1]} == {"missing"}
    for changes, hint in [
        ([('"y": (4, 4)', '"y": (4,)')], "aligned from the right"),
        ([(".squeeze(-1)", ""), ("* q_targ(s2, pi_targ(s2))", "* q_targ(s2, pi_targ(s2)).squeeze(-1)")], "critic"),
        ([("q_next[:, None]", "q_next[None, :]")], "mixes two rows"),
        (
            [("r[None, :]", "r[:, None]"), ("d[None, :]", "d[:, None]"), ("q_next[:, None]", "q_next[None, :]")],
            "Which index",
        ),
    ]:
        assert hint in texts(judge.examine(module, changed("ddpg_shapes", *changes), "file.py")[1]), changes
    module = importlib.import_module("checks.trpo_value_function")
    for changes, hint in [
        ([("gamma * lam * ahead", "gamma * ahead")], "λ is missing"),
        ([("BEST_BASELINE = 100.5", "BEST_BASELINE = 0")], "about 2525"),
        ([('SAME_KL = "c"', 'SAME_KL = "b"')], "not the same numbers"),
        ([('SAME_KL = "c"', 'SAME_KL = "z"')], "is asked for"),
        ([("score = {1: 1 - p, 0: -p}", "score = {1: 1, 0: 1}")], "1 − p"),
    ]:
        assert hint in texts(judge.examine(module, changed("trpo_value_function", *changes), "file.py")[1]), changes


# Whatever a learner's file does ---------------------------------------------------------------------------------------

BODY = "    z = (x - mu) / log_std.exp()\n"


def with_body(text):
    source = solution("gaussian_logp")
    return "import torch\n" + source[: source.index(BODY)] + text


@pytest.mark.parametrize(
    "text, says",
    [
        (BODY + "    while True: pass\n", "no end after"),
        ("    while True: print('x' * 1000)\n", "prints, or writes, without end"),
        ("    import os; os._exit(0)\n", "ended the whole process"),
        ("    return __import__('pp' + 'o')\n", "Nice try"),
        (f"    return open('{ROOT}/ppo' + '.py').read()\n", "Nice try"),
        (f"    import runpy; runpy.run_path('{SOLUTIONS}/set1/gaussian_' + 'logp.py')\n", "Nice try"),
    ],
)
def test_whatever_a_learner_does(text, says, tmp_path, monkeypatch):
    """The checker gives a line for it, in time."""
    monkeypatch.setitem(check.SECONDS, "gaussian_logp", 1)
    path = tmp_path / "gaussian_logp.py"
    path.write_text(with_body(text))
    parts, printed = check.judge("gaussian_logp", path)
    assert says in texts(parts) and not check.is_done(parts), parts
    assert "Traceback" not in printed and len(printed) < 30_000


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
        ("    return torch.distributions.Normal(mu, log_std.exp()).log_prob(x).sum(-1)\n", "Nice try"),
        ("    pass\ndel gaussian_logp\n", "is not there"),
    ],
)
def test_whatever_a_learner_writes(text, says):
    module = importlib.import_module("checks.gaussian_logp")
    _, parts = judge.examine(module, with_body(text), "file.py")
    assert says.lower() in texts(parts).lower() and not check.is_done(parts), parts


def test_print_outs_are_shown_and_do_no_harm(tmp_path):
    shutil.copytree(SOLUTIONS, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "set1" / "gaussian_logp.py"
    path.write_text(path.read_text() + "\n\nprint('hello there')\n")
    assert run_check("gaussian_logp", "--folder", tmp_path)[0] == 0
    path.write_text(path.read_text().replace("-0.5 * z", "-0.6 * z"))
    code, out, _ = run_check("gaussian_logp", "--folder", tmp_path)
    assert code == 1 and "| hello there" in out
    path.unlink()
    assert run_check("gaussian_logp", "--folder", tmp_path)[0] == 1


# Bug hunts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", hunts.HUNTS)
def test_hunts(name, tmp_path):
    """The first call writes the broken script; it is seen to be broken, and the right script is seen to be right."""
    hunt, path = hunts.HUNTS[name], tmp_path / "set2" / f"{name}.py"
    code, out, _ = run_check(name, "--folder", tmp_path)
    assert code == 1 and path.is_file() and "Happy hunting" in out and "broken" in out
    assert hunts.check(name, path)[0]["status"] == "missing"
    script, broken = hunts.plant(hunt.mutant)
    path.write_text(broken + "\n# looked at\n")
    parts = hunts.check(name, path)
    assert all(part["status"] == "wrong" and "does not hold" in part["text"] for part in parts), parts
    wrong, right = hunts.answer_of(solution(name))
    assert broken.count(wrong) == 1 and broken.replace(wrong, right) == (ROOT / f"{script}.py").read_text()
    assert len(set(hunt.hints)) == 3 and not any(hint in "\n".join(map(str, parts)) for hint in hunt.hints)


def test_a_hunt_survives_anything(tmp_path):
    path = tmp_path / "hunt_vpg.py"
    for text, says in [
        ("def train(:\n", "cannot read line"),
        ("import sys\nsys.exit(0)\n", "does not"),
        ("from vpg import *\n", "Nice try"),
        ('WRONG = "nothing of the kind"\nRIGHT = ""\n', "not to be found"),
    ]:
        path.write_text(text)
        assert says in texts(hunts.check("hunt_vpg", path)), text


def test_bugs_that_may_be_drawn():
    """Not those of the six hunts; and nearly all fit the scripts as they are (a patch may lag behind for a while)."""
    names, fitting = hunts.drawable(), 0
    assert not {hunt.mutant for hunt in hunts.HUNTS.values()} & {*names}
    for mutant in names:
        with suppress(hunts.Stop):
            script, text = hunts.plant(mutant)
            assert text != (ROOT / f"{script}.py").read_text()
            ast.parse(text)
            fitting += 1
    assert fitting > 40


def test_a_fresh_bug(tmp_path):
    path = tmp_path / "set2" / "new_bug.py"
    assert run_check("new_bug", "--folder", tmp_path)[0] == 1
    code, out, _ = run_check("--new", "--folder", tmp_path)
    assert code == 0 and path.is_file()
    mutant = json.loads((path.parent / hunts.STATE).read_text())["mutant"]
    assert mutant in hunts.drawable() and mutant not in out
    hints = [hunts.hint("new_bug", n, path) for n in (1, 2, 3)]
    assert len(set(hints)) == 3
    hunts.draw(path, random.Random(3))
    mutant = hunts.mutant_of("new_bug", path)
    path.write_text(hunts.plant(mutant)[1] + "\n")
    assert all(part["status"] == "wrong" for part in hunts.check("new_bug", path))
    path.write_text((ROOT / f"{hunts.plant(mutant)[0]}.py").read_text())
    assert check.is_done(hunts.check("new_bug", path))


@pytest.mark.parametrize("name", [*hunts.HUNTS, "trpo_value_function", "ddpg_shapes"])
def test_curves(name):
    """Committed, small, with the command that made them, and both versions in them."""
    path = FOLDER / "set2" / "curves" / f"{name}.csv"
    lines = path.read_text().splitlines()
    assert path.stat().st_size < 8_000 and lines[0].startswith(f"# python exercises/set2/curves.py {name}")
    assert {line.split(",")[0] for line in lines[2:]} == {"right", "broken"}


def test_no_exercise_imports_a_solution():
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", "") or ""]
            )
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert not any("solutions" in name for name in names), path


@pytest.mark.parametrize("name", IN_PROCESS)
def test_training_runs_fit_the_scripts(name, tmp_path, monkeypatch):
    """--train with the solution: a run of a moment, whatever it reaches."""
    common, module = importlib.import_module("checks.common"), importlib.import_module(f"checks.{name}")
    tiny = dict(hidden_sizes=(8,), max_episode_steps=20)
    on_policy = dict(tiny, total_timesteps=80, steps_per_epoch=40, train_v_iters=2)
    off_policy = dict(
        tiny, total_timesteps=80, steps_per_epoch=40, start_steps=10, update_after=20, num_test_episodes=1
    )
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
        learner, parts = judge.examine(module, solution(name), "file.py")
        assert check.is_done(parts) and module.train(learner) == reached[0]
    finally:
        for script, names in zip(scripts, before):
            vars(script).update(names)


# Studies --------------------------------------------------------------------------------------------------------------


def load(name):
    """A program of set 3 as a module."""
    spec = importlib.util.spec_from_file_location(f"study_{name}", FOLDER / "set3" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_table_of_a_study(tmp_path, capsys):
    table = load("table")
    for lam, level in ((0.9, 100.0), (0.97, 200.0)):
        for seed in range(3):
            path = tmp_path / "ours" / f"ppo,lam={lam}" / "Hopper-v4" / f"{seed}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            config = json.dumps({"args": {"exp_name": f"ppo,lam={lam}", "lam": lam, "seed": seed}})
            rows = [f"{1000 * (i + 1)},{'' if i == 0 else 0 if i < 8 else level + seed}" for i in range(10)]
            path.write_text("\n".join([f"# {config}", "global_step,charts/episodic_return", *rows]) + "\n")
    assert table.main("seeds", tmp_path) is None
    out = capsys.readouterr().out
    assert "| ppo | 0.9 | 3 | 101 | 100 | 102 | 0 |" in out and "| ppo | 0.97 | 3 | 201 | 200 | 202 | 0 |" in out
    assert "| 3 | 100 % |" in out
    assert "There are no runs" in table.main("clipping", tmp_path / "nothing") and "studies are" in table.main("what")
    assert {*table.STUDIES} < {*check.SET3}


@pytest.mark.parametrize("study", ["clipping", "exploration", "seeds", "time_limits", "variance"])
def test_the_answer_of_a_study_has_the_table_of_the_committed_runs(study, capsys):
    assert load("table").main(study) is None
    page = (ROOT / "docs" / "exercises" / f"{study}.md").read_text().splitlines()
    assert not {*capsys.readouterr().out.splitlines()} - {*page}


def test_environments_that_lie():
    """After 100 steps: cut in the one, over in the other."""
    load("time_limits")
    for name, act in (("Pendulum", lambda s: 0 * s[:1]), ("InvertedPendulum", lambda s: np.clip(s @ BALANCE, -3, 3))):
        for ending, ends in (("Cut", (False, True)), ("Terminal", (True, False))):
            env = gym.make(f"{name}{ending}-v0")
            s, over, steps = env.reset(seed=0)[0], (False, False), 0
            while not any(over):
                s, _, *over, _ = env.step(act(s))
                steps += 1
            assert (steps, *over) == (100, *ends), name


BALANCE = np.array([[1.0], [10.0], [1.0], [2.0]])  # keeps the pole up: pushes after it


def test_pages_name_every_exercise():
    """A page for each, that names its file or command; the six hunts share one."""
    pages = ROOT / "docs" / "exercises"
    for name in [*check.SET1, "trpo_value_function", "ddpg_shapes", *check.SET3]:
        assert f"({name}.md)" in (pages / "index.md").read_text() and (pages / f"{name}.md").is_file()
        assert name == "challenges" or f"{name}" in (pages / f"{name}.md").read_text()
    assert all(name in (pages / "hunts.md").read_text() for name in hunts.HUNTS)
    for page in pages.glob("*.md"):
        for command in re.findall(r"^python exercises/check\.py (\w+)", page.read_text(), re.M):
            assert command in [*check.SET1, *check.SET2, "new_bug"], (page, command)


def test_grids_of_the_studies():
    """The pages' commands name flags that the scripts have, and make as many runs as the studies need."""
    sizes = {}
    for name in ("seeds", "variance", "clipping", "exploration", "time_limits"):
        text = (ROOT / "docs" / "exercises" / f"{name}.md").read_text().replace("\\\n", " ")
        for line in re.findall(r"^python benchmark/run\.py (.*)$", text, re.M):
            script, *flags = re.split(r" --", line)
            flags = {flag.split()[0].replace("-", "_"): flag.split()[1:] for flag in flags}
            assert flags.pop("results") == [f"my_results/{name}"]
            assert flags.keys() <= importlib.import_module(script.strip()).Args.__dataclass_fields__.keys()
            sizes[name] = sizes.get(name, 0) + math.prod(len(values) for values in flags.values())
    assert sizes == {"seeds": 40, "variance": 25, "clipping": 20, "exploration": 30, "time_limits": 20}


def test_runs_of_the_study_of_time_limits(tmp_path, capsys):
    command = [sys.executable, ROOT / "benchmark" / "run.py", "ppo", "--results", "kept", "--total-timesteps", "200"]
    command += ["--steps-per-epoch", "100", "--hidden-sizes", "8", "--train-v-iters", "2", "--env-id"]
    command += [f"exercises.set3.time_limits:InvertedPendulum{ending}-v0" for ending in ("Terminal", "Cut")]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert not [path for path in (tmp_path / "kept").rglob("*:*")]  # which Windows could not check out
    assert load("table").main("time_limits", tmp_path / "kept") is None
    shown = capsys.readouterr().out
    assert "| ppo | InvertedPendulumTerminal-v0 | 1 |" in shown and "| ppo | InvertedPendulumCut-v0 | 1 |" in shown
