"""Writes and checks the bug hunts: copies of the six scripts, each with a bug from tests/mutants.

The copies are not kept in git: made from today's script and patch, they cannot drift apart.
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
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import slowdown
from benchmark.scripts import SCRIPTS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
MUTANTS = ROOT / "tests" / "mutants"
TESTS = [
    "tests/test_losses.py",
    "tests/test_trpo.py",
    "tests/test_whole_runs.py",
    "tests/test_against_sb3.py",
]
SECONDS = 120  # for the tests of a fixed script, which take about 5
STATE = "new_bug.json"


@dataclass
class Hunt:
    script: str  # the script whose copy is broken
    mutant: str  # the patch of tests/mutants that breaks it
    flags: str  # of the runs behind the committed learning curves
    hints: tuple[str, str, str]  # from a nudge to the exact place


PENDULUM = (
    "--env-id Pendulum-v1 --total-timesteps 10000 --steps-per-epoch 1000 --start-steps 1000 "
    "--hidden-sizes 64 64"
)
HUNTS = {
    "hunt_vpg": Hunt(
        script="vpg",
        mutant="vpg_kl_from_before_the_step",
        flags="--env-id CartPole-v1 --pi-lr 1e-2 --total-timesteps 40000 --steps-per-epoch 2000",
        hints=(
            "The agent learns as well as the right one. Compare the other columns.",
            "A policy that has just been changed is not the policy from before. "
            "Which one do the logged numbers describe?",
            "update_pi calls compute_loss_pi twice. "
            "Which of the two should the logged numbers come from?",
        ),
    ),
    "hunt_trpo": Hunt(
        script="trpo",
        mutant="trpo_value_of_itself",
        flags="--env-id InvertedPendulum-v4 --total-timesteps 40000 --steps-per-epoch 2000",
        hints=(
            "A critic that explains everything from the first epoch on: too good to be true.",
            "The loss of the value function is right, and so is its loop. "
            "Trace what it is compared with back to its origin.",
            "In compute_batch, look at what happens to ret between its computation "
            "and the end of the function.",
        ),
    ),
    "hunt_ppo": Hunt(
        script="ppo",
        mutant="ppo_stale_log_prob",
        flags="--env-id CartPole-v1 --pi-lr 3e-3 --total-timesteps 40000 --steps-per-epoch 2000",
        hints=(
            "Look at KL, and at the share of ratios that are clipped.",
            "The loss is right, but what it is called with is not. "
            "Which policy is the old one in the second step of an epoch?",
            "logp_old belongs to the policy that collected the data, for the whole update. "
            "Look at the end of update_pi's loop.",
        ),
    ),
    "hunt_ddpg": Hunt(
        script="ddpg",
        mutant="ddpg_targets_never_move",
        flags=PENDULUM,
        hints=(
            "The values of Q stay small, as if it never looked more than a reward or two ahead.",
            "Everything that is trained is trained well. "
            "What is not trained, yet should move all the same?",
            "In Python, `x = ...` gives the name x to a new object; "
            "it does not change the object that had the name before.",
        ),
    ),
    "hunt_td3": Hunt(
        script="td3",
        mutant="td3_max_of_two_q",
        flags=PENDULUM,
        hints=(
            "The returns hardly tell; a bug need not show in a short run. "
            "But its Q promises more than the right one.",
            "TD3 was invented against exactly this. Go through its three tricks.",
            "Read compute_targets aloud, next to line 12 of the pseudocode.",
        ),
    ),
    "hunt_sac": Hunt(
        script="sac",
        mutant="sac_state_overwritten",
        flags=PENDULUM,
        hints=(
            "All losses are right for the batches that they get. Are the batches right?",
            "Write down by hand which five things the buffer keeps "
            "of the first step of an episode.",
            "In train, the order of two lines matters: which s is the one that is stored?",
        ),
    ),
}


class Stop(Exception):
    """Something that cannot be done, in a sentence."""


# Making broken copies -----------------------------------------------------------------------------


def read_patch(mutant):
    """(what is wrong, in a sentence; the script; the hunks: (function, old lines, new lines))."""
    text = (MUTANTS / f"{mutant}.patch").read_text(encoding="utf-8")
    script = re.search(r"^\+\+\+ b/(\w+)\.py", text, re.M)[1]
    hunks = []
    for line in text[text.index("@@ ") :].splitlines():
        if line.startswith("@@"):
            function = line.split("@@")[2].strip()
            old, new = [], []
            hunks.append((function, old, new))
            continue
        mark, rest = line[:1], line[1:]
        if mark in ("", " ", "-"):
            old.append(rest)
        if mark in ("", " ", "+"):
            new.append(rest)
    return text.splitlines()[0], script, hunks


def plant(mutant):
    """(script, its text with the bug). Hunks are found by their lines; line numbers may differ."""
    _, script, hunks = read_patch(mutant)
    text = (ROOT / f"{script}.py").read_text(encoding="utf-8")
    for _, old_lines, new_lines in hunks:
        old = "\n".join(old_lines).strip("\n")
        new = "\n".join(new_lines).strip("\n")
        if text.count(old) != 1:
            raise Stop(f"The bug {mutant} no longer fits {script}.py; please report it.")
        text = text.replace(old, new)
    return script, text


def drawable():
    """What --new may draw: bugs of the six scripts that the fast tests see and no hunt uses."""
    used = {hunt.mutant for hunt in HUNTS.values()}
    names = []
    for path in sorted(MUTANTS.glob("*.patch")):
        if path.stem in used or path.stem.split("_")[0] not in SCRIPTS:
            continue
        text = path.read_text(encoding="utf-8")
        if "\nTests:" not in text:  # a patch that needs other tests names them
            names.append(path.stem)
    return names


def write(name, path):
    _, text = plant(HUNTS[name].mutant)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def plant_any(mutants):
    """(mutant, script, text) of the first bug that fits; a script may be ahead of a patch."""
    for mutant in mutants:
        try:
            return mutant, *plant(mutant)
        except Stop:
            continue
    raise Stop("None of the bugs fits the scripts as they are now; please report it.")


def draw(path, rng):
    """Writes a script with a fresh bug; returns what to say about it."""
    names = drawable()
    rng.shuffle(names)
    mutant, script, text = plant_any(names)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    state = json.dumps({"mutant": mutant}) + "\n"  # peeking is up to you
    (path.parent / STATE).write_text(state, encoding="utf-8")
    return (
        f"{os.path.relpath(path)} is a copy of {script}.py with a fresh bug in it. "
        "Find it, fix it there, and check:\n"
        "python exercises/check.py new_bug            "
        "(--hint 1, 2 or 3 if you are stuck; --new for another bug)"
    )


def mutant_of(name, path):
    """The bug that is in a hunt or in new_bug.py."""
    if name in HUNTS:
        return HUNTS[name].mutant
    try:
        return json.loads((path.parent / STATE).read_text(encoding="utf-8"))["mutant"]
    except (OSError, ValueError, KeyError):
        raise Stop(
            "There is no record of which bug this was. "
            "Draw another: python exercises/check.py --new"
        ) from None


# What to say --------------------------------------------------------------------------------------


def task(name, path):
    hunt = HUNTS[name]
    place = os.path.relpath(path)
    return (
        f"{place} is now a copy of {hunt.script}.py, broken in one place, "
        "as real code has been broken.\n"
        "Learning curves of the right and the broken version "
        "(--hint 1 to 3 if you are stuck):\n\n"
        f"{curves(name)}\n\n"
        "Read it next to its pseudocode, find the place, and fix it there. You can run it, too:\n"
        f"PYTHONPATH=. python {place} {hunt.flags}"
    )


def curves_file(name):
    return HERE / "set2" / "curves" / f"{name}.csv"


def has_curves(name):
    return curves_file(name).is_file()


def read_curves(name):
    """(columns, {(step, version): a list of cells for each seed})."""
    text = curves_file(name).read_text(encoding="utf-8")
    lines = [line.split(",") for line in text.splitlines() if not line.startswith("#")]
    columns = lines[0][3:]
    cells = {}
    for version, _, step, *numbers in lines[1:]:
        cells.setdefault((int(step), version), []).append(numbers)
    return columns, cells


def mean_cell(seeds, column):
    """The mean of a column over the seeds, as a cell; blank where nothing was logged."""
    numbers = [float(cells[column]) for cells in seeds if cells[column]]
    if not numbers:
        return " " * 13
    return f"{sum(numbers) / len(numbers):13.4g}"


def curves(name):
    """A small table of the committed curves: means over the seeds, at about eight steps."""
    columns, cells = read_curves(name)
    versions = ("right", "broken")
    head = " " * 8
    subhead = f"{'step':>8}"
    for column in columns:
        head += f"{column:>26}"
        for version in versions:
            subhead += f"{version:>13}"
    lines = [head, subhead]
    steps = sorted({step for step, _ in cells})
    for step in steps[:: max(1, len(steps) // 8)]:
        line = f"{step:>8}"
        for i in range(len(columns)):
            for version in versions:
                line += mean_cell(cells.get((step, version), []), i)
        lines.append(line)
    return "\n".join(lines)


def nudge(function):
    """The first hint about a drawn bug: the part of the script that its function belongs to."""
    if function in {"make_env", "get_action", "evaluate", "ReplayBuffer", "PathBuffer"}:
        return "Look where the agent meets the environment, or at what it keeps of it."
    if function in {"Actor", "GaussianActor", "CategoricalActor", "Critic"}:
        return "Look at the networks, and at how actions are drawn from them."
    if function == "train":
        return (
            "Look at the run as a whole: "
            "what is made at its start, what happens when, what is kept."
        )
    return "Look where the update is computed."


def hint(name, n, path):
    if n not in (1, 2, 3):
        return "There are three hints: --hint 1, --hint 2, --hint 3."
    if name in HUNTS:
        return HUNTS[name].hints[n - 1]
    try:
        what, _, hunks = read_patch(mutant_of(name, path))
    except Stop as e:
        return str(e)
    head, old, _ = hunks[-1]
    function = head.removeprefix("def ").removeprefix("class ").split("(")[0].rstrip(":")
    if n == 1:
        return nudge(function)
    if n == 2:
        numbers = re.findall(r"# \((\d+\w?)\)", "\n".join(old))
        if numbers:
            return f"Look in `{function}`, near line {numbers[0]} of the pseudocode."
        return f"Look in `{function}` or just below it."
    return what


def praise(name, path):
    try:
        what = read_patch(mutant_of(name, path))[0]
    except Stop:
        return "Fixed."
    return f"Fixed. What was wrong: {what}"


# Checking a fixed script --------------------------------------------------------------------------

SAYS = {  # the property behind a test, where its name says too little
    "test_targets": "targets equal the numbers of a pen-and-paper calculation",
    "test_sac_targets": "targets equal the numbers of a pen-and-paper calculation",
    "test_td3_target_noise": "the noise on the target's action has the right distribution",
    "test_td3_target_noise_is_clipped": (
        "the target's action and its noise stay within their limits"
    ),
    "test_loss_q": "the loss of Q, and its gradient, equal a calculation by hand",
    "test_critics_return_one_axis": "networks return arrays of the right shape",
    "test_shapes_on_policy": "networks and distributions return arrays of the right shape",
    "test_loss_pi_off_policy": "the policy's loss, and its gradient, equal a calculation by hand",
    "test_loss_pi_on_policy": (
        "the policy's loss, and what is logged with it, equal a calculation by hand"
    ),
    "test_policy_step_leaves_q_alone": (
        "the order and number of updates in a run are right, and each moves only its own part"
    ),
    "test_stored_transitions": "what the replay buffer gets is what happened in the environment",
    "test_replay_buffer": (
        "the replay buffer holds the last transitions, whole, each as likely as any other"
    ),
    "test_returns_and_advantages": "returns and advantages equal their definition on random paths",
    "test_last_step_of_the_epoch": "the last step of an epoch is treated as its definition says",
    "test_nothing_leaks_across_a_path_end": "nothing of one path enters the numbers of another",
    "test_compute_batch": "the batch of an epoch equals a calculation by hand",
    "test_collected_epoch": "what an epoch collects is what happened in the environment",
    "test_update_targets": "the update of the target networks equals a calculation by hand",
    "test_update_v": "the steps of the value function equal a calculation by hand",
    "test_vpg_update_pi": (
        "the step of the policy, and what is reported of it, equal a calculation by hand"
    ),
    "test_ppo_update_pi": (
        "the policy's steps in an epoch, and what is reported of them, equal a calculation by hand"
    ),
    "test_ppo_clip": "the objective gives a gradient exactly where it should",
    "test_schedule": "random actions, policy actions and updates come when they should",
    "test_evaluation": "tests are deterministic, and start as the seed says",
    "test_evaluation_leaves_training_alone": (
        "a run with tests in between is the same run as without"
    ),
    "test_logged_returns": "logged returns are those of the episodes that have ended",
    "test_resuming_from_the_middle": "a resumed run equals one that was never stopped",
    "test_get_action_noise": "exploration adds the right noise to actions",
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
    """(WRONG, RIGHT) of a file that names the change instead of making it; None for a script."""
    try:
        body = ast.parse(text).body
        assignments = [node for node in body if isinstance(node, ast.Assign)]
        values = {node.targets[0].id: ast.literal_eval(node.value) for node in assignments}
    except (SyntaxError, ValueError, AttributeError):
        return None
    if len(body) >= 6 or not {"WRONG", "RIGHT"} <= values.keys():
        return None
    return values["WRONG"], values["RIGHT"]


def imported_modules(tree):
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    return names


def failed_cases(report):
    """Names of the tests that a report of pytest counts as failed."""
    if not report.is_file():
        return []
    names = []
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            names.append(case.get("name"))
    return names


def failing(script, text):
    """Names of the tests that fail with this text as the script, run in a copy of the repository.

    Raises Stop if the tests cannot run to their end.
    """
    seconds = round(SECONDS * slowdown.factor())
    with tempfile.TemporaryDirectory() as folder:
        for name in [*(f"{name}.py" for name in SCRIPTS), "logx.py", "pyproject.toml"]:
            shutil.copy(ROOT / name, folder)
        Path(folder, "benchmark").mkdir()
        shutil.copy(ROOT / "benchmark" / "scripts.py", Path(folder, "benchmark"))
        ignored = shutil.ignore_patterns("mutants", "__pycache__")
        shutil.copytree(ROOT / "tests", Path(folder, "tests"), ignore=ignored)
        Path(folder, f"{script}.py").write_text(text, encoding="utf-8")

        options = "-q --tb=no -p no:cacheprovider -p no:xdist -o addopts= --maxfail=3".split()
        options += ["--junitxml=report.xml", "-k", script]
        tests = [test for test in TESTS if Path(folder, test).is_file()]
        env = dict(os.environ)
        env["OMP_NUM_THREADS"] = "1"
        env["PYTHONDONTWRITEBYTECODE"] = "1"
        env["PYTHONIOENCODING"] = "utf-8"
        try:
            done = subprocess.run(
                [sys.executable, "-m", "pytest", *options, *tests],
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            text = f"still running after {seconds} seconds. Is there an infinite loop?"
            raise Stop(text) from None
        names = failed_cases(Path(folder, "report.xml"))

    if done.returncode == 0:
        return []
    # a report without tests, or with the name of a file in place of a test's
    if not names or any("::" not in name and not name.startswith("test_") for name in names):
        errors = [line for line in done.stdout.splitlines() if line.startswith("E ")]
        reason = errors[-1].removeprefix("E").strip() if errors else "it cannot be imported"
        raise Stop(f"The script does not run any more: {reason}")
    return names


def one_part(status, text, label="the script"):
    return [{"name": label, "status": status, "text": text}]


def check(name, path):
    """The parts of a hunt, in the form in which judge.py gives those of other exercises."""
    if not path.is_file():
        text = f"not started: python exercises/check.py {name} writes the broken script."
        return one_part("missing", text)
    try:
        return check_script(name, path.read_text(encoding="utf-8"), mutant_of(name, path))
    except Stop as e:
        return one_part("wrong", str(e))


def check_script(name, text, mutant):
    """The same for the text of a learner's script."""
    script, broken = plant(mutant)
    answer = answer_of(text)
    if answer is not None:
        wrong, right = answer
        if broken.count(wrong) != 1:
            return one_part("wrong", "WRONG should be found exactly once in the broken script.")
        text = broken.replace(wrong, right)
    if text == broken:
        return one_part("missing", "unchanged: the bug is still in it.")
    try:
        tree = ast.parse(text)
    except SyntaxError as e:
        return one_part("wrong", f"Python cannot read line {e.lineno}: {e.msg}")
    if imported_modules(tree) & {*SCRIPTS}:
        smile = "Nice try! Importing the right script would make a short hunt. Fix this one. :)"
        return one_part("refused", smile)
    original = (ROOT / f"{script}.py").read_text(encoding="utf-8")
    if text != original:
        names = failing(script, text)
        parts = []
        for words in dict.fromkeys(in_words(test) for test in names):
            parts += one_part("wrong", "does not hold yet.", words)
        if parts:
            return parts
    return one_part("done", "", f"every property of {script}.py that the tests know")
