"""The bug hunts: broken copies of the six scripts, made by planting one of the bugs of tests/mutants.

The copies are not kept in git: written from the script and the patch as they are today, they cannot drift apart.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import patience

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
MUTANTS = ROOT / "tests" / "mutants"
TESTS = ["tests/test_losses.py", "tests/test_trpo.py", "tests/test_properties.py", "tests/test_against_sb3.py"]
SCRIPTS = ["vpg", "trpo", "ppo", "ddpg", "td3", "sac"]
SECONDS = 120  # for the tests of a mended script; they take about 5
STATE = "new_bug.json"


@dataclass
class Hunt:
    script: str  # whose copy is broken
    mutant: str  # by which patch of tests/mutants
    env: str  # where the committed learning curves were made, and how
    hints: tuple[str, str, str]  # of rising strength


HUNTS = {
    "hunt_vpg": Hunt(
        "vpg",
        "vpg_kl_from_before_the_step",
        "--env-id CartPole-v1 --pi-lr 1e-2 --total-timesteps 40000 --steps-per-epoch 2000",
        (
            "The agent learns as well as the right one. Compare the other columns.",
            "A policy that has just been changed is not the policy from before. "
            "Which one do the logged numbers describe?",
            "update_pi evaluates the loss twice. Which of the two times should give what is logged?",
        ),
    ),
    "hunt_trpo": Hunt(
        "trpo",
        "trpo_value_of_itself",
        "--env-id InvertedPendulum-v4 --total-timesteps 40000 --steps-per-epoch 2000",
        (
            "A critic that explains everything from the first epoch on: too good to be true.",
            "The loss of the value function is right, and so is its loop. Follow what "
            "it is compared with back to its origin.",
            "In compute_batch, look at what becomes of ret between its computation and the end of the function.",
        ),
    ),
    "hunt_ppo": Hunt(
        "ppo",
        "ppo_stale_log_prob",
        "--env-id CartPole-v1 --pi-lr 3e-3 --total-timesteps 40000 --steps-per-epoch 2000",
        (
            "Look at KL, and at the share of ratios that are clipped.",
            "The loss is right, and what it is called with is not. Which policy is the old "
            "one in the second step of an epoch?",
            "logp_old belongs to the policy that collected the data, for the whole "
            "update. Look at the end of update_pi's loop.",
        ),
    ),
    "hunt_ddpg": Hunt(
        "ddpg",
        "ddpg_targets_never_move",
        "--env-id Pendulum-v1 --total-timesteps 10000 --steps-per-epoch 1000 --start-steps 1000 --hidden-sizes 64 64",
        (
            "The values of Q stay small, as if only a reward or two were ever seen ahead.",
            "Everything that is trained is trained well. What is not trained, and should move all the same?",
            "In Python, `x = ...` gives a name to a new object; it changes nothing that had the name before.",
        ),
    ),
    "hunt_td3": Hunt(
        "td3",
        "td3_max_of_two_q",
        "--env-id Pendulum-v1 --total-timesteps 10000 --steps-per-epoch 1000 --start-steps 1000 --hidden-sizes 64 64",
        (
            "The returns hardly tell; a bug need not show in a short run. But its Q promises more than the right one.",
            "TD3 was invented against exactly this. Go through its three tricks.",
            "Read compute_targets aloud, next to line 12 of the pseudocode.",
        ),
    ),
    "hunt_sac": Hunt(
        "sac",
        "sac_state_overwritten",
        "--env-id Pendulum-v1 --total-timesteps 10000 --steps-per-epoch 1000 --start-steps 1000 --hidden-sizes 64 64",
        (
            "All losses are right, on the batches that they get. Are the batches right?",
            "Write down by hand which five things the buffer keeps of the first step of an episode.",
            "In train, the order of two lines matters: which s is it that is stored?",
        ),
    ),
}


class Stop(Exception):
    """What cannot be done, in a sentence."""


# Making broken copies


def read_patch(mutant):
    """A patch's first line, which says what is wrong; the script; and its hunks: (function, old lines, new lines)."""
    text = (MUTANTS / f"{mutant}.patch").read_text()
    script = re.search(r"^\+\+\+ b/(\w+)\.py", text, re.M)[1]
    hunks = []
    for line in text[text.index("@@ ") :].splitlines():
        if line.startswith("@@"):
            hunks.append((line.split("@@")[2].strip(), [], []))
        else:
            line = line or " "
            if line[0] in " -":
                hunks[-1][1].append(line[1:])
            if line[0] in " +":
                hunks[-1][2].append(line[1:])
    return text.splitlines()[0], script, hunks


def plant(mutant):
    """(script, its text with the bug in it). Hunks are found by their lines, so line numbers may have moved."""
    _, script, hunks = read_patch(mutant)
    text = (ROOT / f"{script}.py").read_text()
    for _, old, new in hunks:
        old, new = ("\n".join(lines).strip("\n") for lines in (old, new))
        if text.count(old) != 1:
            raise Stop(f"The bug {mutant} does not fit {script}.py as it is now; please report it.")
        text = text.replace(old, new)
    return script, text


def drawable():
    """The planted bugs that --new may draw: in one of the six scripts, seen by the fast tests, and not in a hunt."""
    used = {hunt.mutant for hunt in HUNTS.values()}
    paths = [path for path in sorted(MUTANTS.glob("*.patch")) if path.stem.split("_")[0] in SCRIPTS]
    return [path.stem for path in paths if path.stem not in used and "\nTests:" not in path.read_text()]


def write(name, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(plant(HUNTS[name].mutant)[1])


def draw(path, rng):
    """Writes a script with a fresh bug; returns what to say about it."""
    names = drawable()
    rng.shuffle(names)
    for mutant in names:
        with suppress(Stop):  # a script that has changed lately may be ahead of a patch
            script, text = plant(mutant)
            break
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    (path.parent / STATE).write_text(json.dumps({"mutant": mutant}) + "\n")  # peeking is up to you
    return (
        f"{os.path.relpath(path)} is a copy of {script}.py with a fresh bug in it. Find it, mend it there, and check:\n"
        "python exercises/check.py new_bug            (--hint 1, 2 or 3 if you are stuck; --new for another one)"
    )


def mutant_of(name, path):
    if name in HUNTS:
        return HUNTS[name].mutant
    try:
        return json.loads((path.parent / STATE).read_text())["mutant"]
    except (OSError, ValueError, KeyError):
        raise Stop("It is not known which bug this was; draw another: python exercises/check.py --new") from None


# What to say


def task(name, path):
    hunt = HUNTS[name]
    return (
        f"{os.path.relpath(path)} is now a copy of {hunt.script}.py, broken in one "
        "place as real code has been broken.\n"
        f"Learning curves of the right and the broken version (--hint 1 to 3 if you are stuck):\n\n{curves(name)}\n\n"
        f"Read it next to its pseudocode, find the place, and mend it there. You may run it, too:\n"
        f"PYTHONPATH=. python {os.path.relpath(path)} {hunt.env}"
    )


def has_curves(name):
    return (HERE / "set2" / "curves" / f"{name}.csv").is_file()


def curves(name):
    """A small table of the committed curves: means over the seeds."""
    path = HERE / "set2" / "curves" / f"{name}.csv"
    lines = [line.split(",") for line in path.read_text().splitlines() if not line.startswith("#")]
    columns = lines[0][3:]
    rows = {}
    for version, _, step, *cells in lines[1:]:
        rows.setdefault((int(step), version), []).append([float(x) if x else None for x in cells])
    steps, versions = sorted({step for step, _ in rows}), ("right", "broken")
    out = [f"{'':>8}" + "".join(f"{column:>26}" for column in columns)]
    out += [f"{'step':>8}" + "".join(f"{version:>13}" for version in versions * len(columns))]
    for step in steps[:: max(1, len(steps) // 8)]:
        out.append(f"{step:>8}")
        for i in range(len(columns)):
            for version in versions:
                xs = [x[i] for x in rows.get((step, version), []) if x[i] is not None]
                out[-1] += f"{sum(xs) / len(xs):13.4g}" if xs else f"{'':>13}"
    return "\n".join(out)


def hint(name, n, path):
    if n not in (1, 2, 3):
        return "There are three hints: --hint 1, --hint 2, --hint 3."
    if name in HUNTS:
        return HUNTS[name].hints[n - 1]
    try:
        what, _, hunks = read_patch(mutant_of(name, path))
    except Stop as e:
        return str(e)
    function = hunks[-1][0].removeprefix("def ").removeprefix("class ").split("(")[0].rstrip(":")
    number = re.findall(r"# \((\d+\w?)\)", "\n".join(hunks[-1][1]))
    if n == 1:
        if function in {"make_env", "get_action", "evaluate", "ReplayBuffer", "PathBuffer"}:
            return "Look where the agent meets the environment, or at what it keeps of it."
        if function in {"Actor", "GaussianActor", "CategoricalActor", "Critic"}:
            return "Look at the networks, and at how actions are drawn from them."
        if function == "train":
            return "Look at the run as a whole: what is made at its start, what happens when, what is kept."
        return "Look where the update is computed."
    if n == 2:
        return f"Look in `{function}`" + (
            f", near line {number[0]} of the pseudocode." if number else " or just below it."
        )
    return what


def praise(name, path):
    try:
        what = read_patch(mutant_of(name, path))[0]
    except Stop:
        return "Mended."
    return f"Mended. What was wrong: {what}"


# Checking a mended script

SAYS = {  # the property behind a test, for those whose names say too little
    "test_targets": "targets equal the numbers of a pen-and-paper calculation",
    "test_sac_targets": "targets equal the numbers of a pen-and-paper calculation",
    "test_td3_target_noise": "the noise on the target's action has the right distribution",
    "test_td3_target_noise_is_clipped": "the target's action and its noise stay within their limits",
    "test_loss_q": "the loss of Q, and its gradient, equal a calculation by hand",
    "test_critics_return_one_axis": "networks return arrays of the right shape",
    "test_shapes_on_policy": "networks and distributions return arrays of the right shape",
    "test_loss_pi_off_policy": "the policy's loss, and its gradient, equal a calculation by hand",
    "test_loss_pi_on_policy": "the policy's loss, and what is logged with it, equal a calculation by hand",
    "test_policy_step_leaves_q_alone": "the order and number of updates in a run are "
    "right, and each moves only its own part",
    "test_stored_transitions": "what the replay buffer gets is what happened in the environment",
    "test_replay_buffer": "the replay buffer holds the last transitions, whole, each as likely as any other",
    "test_returns_and_advantages": "returns and advantages equal their definition on random paths",
    "test_last_step_of_the_epoch": "the last step of an epoch is treated as its definition says",
    "test_nothing_leaks_across_a_path_end": "nothing of one path enters the numbers of another",
    "test_compute_batch": "the batch of an epoch equals a calculation by hand",
    "test_collected_epoch": "what an epoch collects is what happened in the environment",
    "test_update_targets": "the step of the target networks equals a calculation by hand",
    "test_update_v": "the steps of the value function equal a calculation by hand",
    "test_vpg_update_pi": "the step of the policy, and what is reported of it, equal a calculation by hand",
    "test_ppo_update_pi": "the policy's steps in an epoch, and what is reported of them, equal a calculation by hand",
    "test_ppo_clip": "the objective gives a gradient exactly where it should",
    "test_schedule": "random actions, policy actions and updates come when they should",
    "test_evaluation": "tests are deterministic, and start as the seed says",
    "test_evaluation_leaves_training_alone": "a run with tests in between is the same run as without",
    "test_logged_returns": "logged returns are those of the episodes that ended",
    "test_resuming_from_the_middle": "a resumed run equals the run that was never stopped",
    "test_get_action_noise": "actions are explored with the right noise",
    "test_get_action_gaussian": "sampled actions have the right distribution",
    "test_sac_get_action": "sampled actions have the right distribution",
    "test_get_action_deterministic": "deterministic actions are the policy's means",
    "test_gaussian": "log-probability and entropy equal a calculation by hand",
    "test_sac_logp": "log-probabilities are those of the actions that were drawn",
    "test_sac_logp_of_large_actions": "log-probabilities hold for large actions too",
    "test_off_policy": "an update gives the same parameters as Stable-Baselines3's",
    "test_on_policy": "an update gives the same parameters as Stable-Baselines3's",
    "test_gae": "advantages equal Stable-Baselines3's",
    "test_step": "the step has the length that the trust region allows",
    "test_trust_region": "no step leaves the trust region",
    "test_line_search": "the line search accepts what it should, and nothing else",
}


def in_words(test):
    """The property that a test stands for."""
    name = test.split("[")[0]
    return SAYS.get(name, name.removeprefix("test_").replace("_", " "))


def answer_of(text):
    """WRONG and RIGHT of a file that says what to mend instead of being the mended script, or None."""
    try:
        body = ast.parse(text).body
        values = {node.targets[0].id: ast.literal_eval(node.value) for node in body if isinstance(node, ast.Assign)}
    except (SyntaxError, ValueError, AttributeError):
        return None
    return (values["WRONG"], values["RIGHT"]) if {"WRONG", "RIGHT"} <= values.keys() and len(body) < 6 else None


def failing(script, text):
    """Tests that fail with this text in place of a script, in a copy of the repository: names, or raises Stop."""
    seconds = round(SECONDS * patience.factor())
    with tempfile.TemporaryDirectory() as folder:
        for name in [f"{s}.py" for s in (*SCRIPTS, "logx")] + ["pyproject.toml"]:
            shutil.copy(ROOT / name, folder)
        shutil.copytree(ROOT / "tests", Path(folder, "tests"), ignore=shutil.ignore_patterns("mutants", "__pycache__"))
        Path(folder, f"{script}.py").write_text(text)
        options = [
            "-q",
            "--tb=no",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "-o",
            "addopts=",
            "--maxfail=3",
            "--junitxml=report.xml",
        ]
        tests = [test for test in TESTS if Path(folder, test).is_file()]
        command = [sys.executable, "-m", "pytest", *options, "-k", script, *tests]
        env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(
                command, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds
            )
        except subprocess.TimeoutExpired:
            raise Stop(f"no end after {seconds} seconds. Is there a loop that never ends?") from None
        report = Path(folder, "report.xml")
        cases = ElementTree.parse(report).getroot().iter("testcase") if report.is_file() else []
        names = [
            case.get("name") for case in cases if case.find("failure") is not None or case.find("error") is not None
        ]
    if done.returncode == 0:
        return []
    if not names or any("::" not in name and not name.startswith("test_") for name in names):
        lines = [x for x in done.stdout.splitlines() if x.startswith("E ")] or ["it cannot be imported"]
        raise Stop(f"The script does not run any more: {lines[-1].removeprefix('E').strip()}")
    return names


def check(name, path):
    """The parts of a hunt, as judge.py gives those of other exercises."""

    def part(status, text, label="the script"):
        return [{"name": label, "status": status, "text": text}]

    if not path.is_file():
        return part("missing", f"not begun: python exercises/check.py {name} writes the broken script.")
    try:
        mutant = mutant_of(name, path)
        script, broken = plant(mutant)
        text = path.read_text()
        if answer := answer_of(text):
            if broken.count(answer[0]) != 1:
                return part("wrong", "WRONG is not to be found in the broken script, or more than once.")
            text = broken.replace(*answer)
        if text == broken:
            return part("missing", "still as it was: the bug is in it.")
        try:
            tree = ast.parse(text)
        except SyntaxError as e:
            return part("wrong", f"Python cannot read line {e.lineno}: {e.msg}")
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None)]
            if isinstance(node, ast.Import | ast.ImportFrom) and {*names} & {*SCRIPTS}:
                smile = "Nice try! Importing the script that is right would be a short hunt. Mend this one. :)"
                return part("refused", smile)
        if text != (ROOT / f"{script}.py").read_text() and (names := failing(script, text)):
            properties = list(dict.fromkeys(in_words(test) for test in names))
            return [p for says in properties for p in part("wrong", "does not hold yet.", says)]
    except Stop as e:
        return part("wrong", str(e))
    return part("done", "", f"every property of {script}.py that the tests know")
