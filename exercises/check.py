"""The command for learners: checks all exercises and prints a table, or one exercise with hints.

    python exercises/check.py                        what is done and what is left
    python exercises/check.py gaussian_logp          one exercise, part by part, with hints
    python exercises/check.py gaussian_logp --train  the same, then a short training run
    python exercises/check.py hunt_ppo               a bug hunt; the first call sets it up
    python exercises/check.py hunt_ppo --hint 1      a hint; 2 and 3 say more
    python exercises/check.py --new                  a fresh bug to hunt, drawn at random
    python exercises/check.py --list                 one line for each exercise

Your files are in exercises/set1 and exercises/set2, the solutions in exercises/solutions.
"""

# Its neighbours: for each exercise check.py starts judge.py, a process of its own, which runs the
# learner's file against checks/NAME.py; that file knows the right numbers and the usual mistakes.
# hunts.py writes and checks the bug hunts; slowdown.py stretches time limits on a busy machine.

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

import hunts
import slowdown

HERE = Path(__file__).resolve().parent
SET1 = {
    "gaussian_logp": "the log-likelihood of a Gaussian",
    "gaussian_policy": "the Gaussian policy that PPO trains",
    "td3": "targets and losses of TD3",
    "returns_and_gae": "rewards-to-go and advantages, where paths terminate or are cut",
    "trust_region": "Hessian-vector products and conjugate gradient for TRPO",
    "squashed_gaussian": "the log-probability of SAC's actions, for any action",
    "replay_buffer": "a replay buffer that wraps around",
    "ppo_objective": "PPO's clipped objective and its estimate of KL",
    "average_gradients": "averaging gradients over processes, under mpirun",
    "vpg_from_scratch": "vanilla policy gradient from an empty file",
}
SET2 = {
    "trpo_value_function": "what TRPO loses without a fitted value function",
    "ddpg_shapes": "DDPG's silent shape bug",
}
for name, hunt in hunts.HUNTS.items():
    SET2[name] = f"a bug hunt in a broken copy of {hunt.script}.py"
SET3 = {
    "seeds": "how many seeds are enough",
    "variance": "λ and the variance of the gradient",
    "clipping": "PPO without clipping",
    "exploration": "exploration noise, and SAC's temperature",
    "time_limits": "time limits treated as terminations",
    "challenges": "open problems that need no cluster",
}
TITLES = {"Set 1: basics of implementation": SET1, "Set 2: failure modes": SET2}
RANKS = {"average_gradients": 2}
SECONDS = {"vpg_from_scratch": 60, "train": 300}  # for the learner's code; 10 for all others
STARTUP = 300  # seconds that a slow machine may take to import torch
MARKS = {"done": "[x]", "missing": "[ ]", "wrong": "[!]", "refused": "[!]"}


@dataclass
class Args:
    name: tyro.conf.Positional[str | None] = None  # the exercise; without a name, all of them
    train: bool = False  # once its checks pass, run a short training with your code
    hint: int = 0  # for a bug hunt: 1, 2 or 3, from a nudge to the exact place
    new: bool = False  # draw a fresh bug, written to exercises/set2/new_bug.py
    list: Annotated[bool, tyro.conf.arg(name="list")] = False  # print one line for each exercise
    folder: Path = HERE  # where your set1 and set2 are


def path_of(name, folder):
    if name in SET1:
        return Path(folder, "set1", f"{name}.py")
    return Path(folder, "set2", f"{name}.py")


def is_hunt(name):
    return name in hunts.HUNTS or name == "new_bug"


# Running a learner's file -------------------------------------------------------------------------


def time_limit(name, train):
    """Seconds that the learner's code may take."""
    seconds = SECONDS["train"] if train else SECONDS.get(name, 10)
    return round(seconds * slowdown.factor())


def find_mpirun():
    """mpirun of this Python's environment, or else of the system; None if there is none."""
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    return shutil.which("mpirun", path=os.pathsep.join(places))


def wait_for(process, result, seconds):
    """Waits for the process to end or run out of time; returns whether it ended."""
    deadline = time.monotonic() + STARTUP
    started = False
    while process.poll() is None and time.monotonic() < deadline:
        if not started and result.exists():  # torch is imported: now the learner's time runs
            started = True
            deadline = time.monotonic() + seconds + 2
        time.sleep(0.02)
    return process.poll() is not None


def stop(process):
    """Ends a process and everything that it started."""
    if not hasattr(os, "killpg"):  # Windows has no process groups to signal
        process.kill()
        process.wait()
        return
    for sig in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sig)
        except (ProcessLookupError, PermissionError):
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2)


def read_result(path):
    """What judge.py has written so far; None if that is nothing."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def why_unfinished(name, seconds, ended, other):
    """Why a process did not get to its end; other: the result of the second rank, or None."""
    if ended:
        return "your code ended the whole process here (os._exit, or a crash inside a library)."
    if other is not None:
        for part in other["parts"]:
            if part["status"] == "wrong":
                return f"one process waits forever for the other, which failed: {part['text']}"
    text = f"still running after {seconds} seconds. Is there an infinite loop"
    if name in RANKS:
        text += ", or does one process wait for a message that the other never sends"
    return f"{text}?"


def run_judge(name, path, train=False):
    """Runs judge.py on a learner's file, in its own process and folder: (parts, printed text)."""
    seconds = time_limit(name, train)
    command = [sys.executable, str(HERE / "judge.py"), name, str(path.resolve())]
    if name in RANKS:
        mpirun = find_mpirun()
        if mpirun is None:
            text = "this exercise needs mpirun, which `pip install -r requirements.txt` installs."
            return [{"name": "two processes", "status": "missing", "text": text}], ""
        command = [mpirun, "-np", str(RANKS[name]), *command]
    env = dict(os.environ)
    env.setdefault("OMP_NUM_THREADS", "1")
    env["PYTHONDONTWRITEBYTECODE"] = "1"

    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result")
        printed = Path(folder, "printed")
        command.append(str(result))
        if train:
            command.append("train")
        with open(printed, "wb") as out:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
            ended = False
            try:
                ended = wait_for(process, result, seconds)
            finally:
                stop(process)
        state = read_result(result) or {"parts": [], "left": [], "finished": False}
        parts = state["parts"]
        if not state["finished"]:
            where = state["left"][0] if state["left"] else "the exercise"
            other = read_result(Path(folder, "result.1"))
            text = why_unfinished(name, seconds, ended, other)
            parts.append({"name": where, "status": "wrong", "text": text})
        output = printed.read_bytes()[-20_000:].decode("utf-8", errors="replace")
    lines = output.strip().splitlines()
    return parts, "\n".join(lines[-10:])


def try_one(name, folder, train=False):
    """(parts, printed text) of one exercise; a missing file counts as a missing part."""
    path = path_of(name, folder)
    if is_hunt(name):
        return hunts.check(name, path), ""
    if not path.is_file():
        return [{"name": "the file", "status": "missing", "text": f"{path} is not there."}], ""
    return run_judge(name, path, train)


# What to print ------------------------------------------------------------------------------------


def is_done(parts):
    return bool(parts) and all(part["status"] == "done" for part in parts)


def is_untouched(parts):
    return all(part["status"] == "missing" for part in parts)


def summary(parts):
    """One line about an exercise."""
    if is_done(parts):
        return "done"
    if is_untouched(parts):
        return "not started"
    unsolved = [part for part in parts if part["status"] != "done"]
    first = f"{unsolved[0]['name']}: {unsolved[0]['text'].splitlines()[0]}"
    if len(first) >= 90:
        first = first[:87] + "..."
    return f"{len(parts) - len(unsolved)} of {len(parts)} parts; {first}"


def check_all(folder):
    """Prints the table of all exercises; returns whether all are done."""
    names = [*SET1, *SET2]
    title_above = {next(iter(exercises)): title for title, exercises in TITLES.items()}
    done = 0
    with ThreadPoolExecutor(2) as pool:
        results = pool.map(lambda name: try_one(name, folder), names)
        for name, (parts, _) in zip(names, results):
            if name in title_above:
                print(title_above[name])
            mark = "[ ]"
            if is_done(parts):
                mark = "[x]"
                done += 1
            print(f"  {mark} {name:20} {summary(parts)}", flush=True)
    print(f"\n{done} of {len(names)} done.", end=" ")
    if done < len(names):
        print("One at a time: python exercises/check.py NAME")
        return False
    print("That was all of them. Set 3 and the challenges are in docs/exercises.")
    return True


def print_part(part):
    line = f"  {MARKS[part['status']]} {part['name']}"
    if part["text"]:
        line += ": " + part["text"].replace("\n", "\n        ")
    print(line)


def check_one(name, args):
    """Checks one exercise or gives a hint; returns whether it is done or the hint was given."""
    path = path_of(name, args.folder)
    if name == "new_bug" and not path.is_file():
        print("No bug has been drawn yet: python exercises/check.py --new")
        return False
    if is_hunt(name) and not path.is_file():
        hunts.write(name, path)
        print(hunts.task(name, path))
        print(f"\nHappy hunting. When you have fixed it: python exercises/check.py {name}")
        return False
    if args.hint:
        print(hunts.hint(name, args.hint, path))
        return True

    parts, printed = try_one(name, args.folder, args.train)
    title = (SET1 | SET2).get(name, "a fresh bug")
    print(f"{name}: {title}  ({os.path.relpath(path)})")
    for part in parts:
        print_part(part)
    if is_done(parts):
        if is_hunt(name):
            print(hunts.praise(name, path))
        else:
            print("Done. Well done.")
        return True
    if is_untouched(parts):
        if hunts.has_curves(name):
            print(f"\n{hunts.curves(name)}\n")
        task = "find the bug and fix it there" if is_hunt(name) else "fill in what is missing"
        print(f"Nothing is written yet. Open {os.path.relpath(path)}: {task}.")
    if printed:
        print("  Your code printed (its last lines):")
        for line in printed.splitlines():
            print(f"  | {line}")
    return False


def print_list():
    for title, exercises in TITLES.items():
        print(title)
        for name, what in exercises.items():
            print(f"  {name:20} {what}")
    print("Set 3: experiments, to run and argue about (docs/exercises)")
    for name, what in SET3.items():
        print(f"  {name:20} {what}")


def run(args):
    """Does what the command line asks for; returns the exit code."""
    known = [*SET1, *SET2, "new_bug"]
    if args.list:
        print_list()
        return 0
    if args.new:
        print(hunts.draw(path_of("new_bug", args.folder), random.SystemRandom()))
        return 0
    if args.name is None:
        return 0 if check_all(args.folder) else 1
    if args.name in SET3:
        print(
            f"Set 3 has no checker: docs/exercises/{args.name}.md has the task "
            "and, for an experiment, a model answer."
        )
        return 0
    if args.name not in known:
        print(
            f"There is no exercise {args.name}. The exercises are: {' '.join(known)}",
            file=sys.stderr,
        )
        return 2
    if args.hint and not is_hunt(args.name):
        print(
            "Only bug hunts have --hint; this exercise gives its hints when it checks your code.",
            file=sys.stderr,
        )
        return 2
    if args.train and args.name not in SET1:
        print("Only the exercises of set 1 have a training run.", file=sys.stderr)
        return 2
    return 0 if check_one(args.name, args) else 1


def main():
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # an old terminal shows "?" for a Greek letter
    args = tyro.cli(Args, description=__doc__)
    try:
        return run(args)
    except (hunts.Stop, OSError) as e:
        return str(e)  # which sys.exit prints


if __name__ == "__main__":
    sys.exit(main())
