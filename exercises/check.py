"""Checks the exercises: all of them as a table, or one with hints.

    python exercises/check.py                        what is done, and what is not yet
    python exercises/check.py gaussian_logp          one exercise, part by part, with hints
    python exercises/check.py gaussian_logp --train  and then a short training run with your code in it
    python exercises/check.py hunt_ppo               a bug hunt; the first time, this writes the broken script
    python exercises/check.py hunt_ppo --hint 1      a hint; 2 and 3 say more
    python exercises/check.py --new                  a fresh bug to hunt, drawn by chance
    python exercises/check.py --list                 a line for each exercise

Your files are in exercises/set1 and exercises/set2, solutions under the same names in exercises/solutions.
"""

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
import patience

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
} | {name: f"a bug hunt in a broken copy of {hunt.script}.py" for name, hunt in hunts.HUNTS.items()}
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
    train: bool = False  # when its checks pass, train a short time with your code
    hint: int = 0  # for a bug hunt: 1, 2 or 3, from a nudge to the place
    new: bool = False  # draw a fresh bug, into exercises/set2/new_bug.py
    list: Annotated[bool, tyro.conf.arg(name="list")] = False  # a line for each exercise
    folder: Path = HERE  # where your set1 and set2 are


def path_of(name, folder):
    return Path(folder, "set1" if name in SET1 else "set2", f"{name}.py")


def stop(process):
    """Ends a process and all that it has started."""
    for sig in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sig)
        except (ProcessLookupError, PermissionError):
            return
        try:
            process.wait(2)
        except subprocess.TimeoutExpired:
            continue


def read_result(path):
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def judge(name, path, train=False):
    """Runs judge.py on a learner's file, in a process and a folder of its own: (parts, what was printed)."""
    seconds = round((SECONDS["train"] if train else SECONDS.get(name, 10)) * patience.factor())
    command = [sys.executable, str(HERE / "judge.py"), name, str(path.resolve())]
    if name in RANKS:
        places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        mpirun = shutil.which("mpirun", path=places)
        if mpirun is None:
            text = "this one needs mpirun, which `pip install -r requirements.txt` brings along."
            return [{"name": "two processes", "status": "missing", "text": text}], ""
        command = [mpirun, "-np", str(RANKS[name]), *command]
    with tempfile.TemporaryDirectory() as folder:
        result, printed = Path(folder, "result"), Path(folder, "printed")
        command += [str(result), "train" if train else ""]
        env = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"), "PYTHONDONTWRITEBYTECODE": "1"}
        with open(printed, "wb") as out:
            process = subprocess.Popen(
                command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
            began, limit, ended = time.monotonic(), STARTUP, False
            try:
                while process.poll() is None and time.monotonic() - began < limit:
                    if limit == STARTUP and result.exists():  # torch is there; now the learner's time runs
                        began, limit = time.monotonic(), seconds + 2
                    time.sleep(0.02)
                ended = process.poll() is not None
            finally:
                stop(process)
        state = read_result(result) or {"parts": [], "left": [], "finished": False}
        parts, others = state["parts"], read_result(Path(folder, "result.1")) or {"parts": []}
        if not state["finished"]:
            where = state["left"][0] if state["left"] else "the exercise"
            stuck = [part for part in others["parts"] if part["status"] == "wrong"]
            if ended:
                text = "your code ended the whole process here (os._exit, a crash of a library)."
            elif stuck:
                text = f"one process waits for ever for the other, which failed: {stuck[0]['text']}"
            else:
                text = f"no end after {seconds} seconds. Is there a loop that never ends"
                text += ", or does one process wait for a message that the other never sends?" if name in RANKS else "?"
            parts.append({"name": where, "status": "wrong", "text": text})
        lines = printed.read_bytes()[-20_000:].decode(errors="replace").strip().splitlines()
    return parts, "\n".join(lines[-10:])


def try_one(name, folder, train=False):
    """(parts, printed) for one exercise, whatever its kind; a missing file is a part that is missing."""
    path = path_of(name, folder)
    if name in hunts.HUNTS or name == "new_bug":
        return hunts.check(name, path), ""
    if not path.is_file():
        return [{"name": "the file", "status": "missing", "text": f"{path} is not there."}], ""
    return judge(name, path, train)


def is_done(parts):
    return bool(parts) and all(part["status"] == "done" for part in parts)


def summary(parts):
    """One line about an exercise that is not done."""
    open_ = [part for part in parts if part["status"] != "done"]
    if all(part["status"] == "missing" for part in parts):
        return "not begun"
    first = f"{open_[0]['name']}: {open_[0]['text'].splitlines()[0]}"
    return f"{len(parts) - len(open_)} of {len(parts)} parts; {first if len(first) < 90 else first[:87] + '...'}"


def check_all(folder):
    """The table of all exercises; True if all are done."""
    names = [*SET1, *SET2]
    with ThreadPoolExecutor(2) as pool:
        results = pool.map(lambda name: try_one(name, folder), names)
        done = 0
        for name, (parts, _) in zip(names, results):
            for title, exercises in TITLES.items():
                if name == next(iter(exercises)):
                    print(title)
            done += is_done(parts)
            print(
                f"  {'[x]' if is_done(parts) else '[ ]'} {name:20} {'done' if is_done(parts) else summary(parts)}",
                flush=True,
            )
    print(f"\n{done} of {len(names)} done.", end=" ")
    print("That was all of them. Set 3 and the challenges are in docs/exercises." if done == len(names) else
          "One at a time: python exercises/check.py NAME")  # fmt: skip
    return done == len(names)


def check_one(name, args):
    """Checks one exercise, or gives a hint about it; True if it is done, or the hint given."""
    path, is_hunt = path_of(name, args.folder), name in hunts.HUNTS or name == "new_bug"
    if name == "new_bug" and not path.is_file():
        print("No bug is drawn yet: python exercises/check.py --new")
        return False
    if is_hunt and not path.is_file():
        hunts.write(name, path)
        print(f"{hunts.task(name, path)}\n\nHappy hunting. When you have mended it: python exercises/check.py {name}")
        return False
    if args.hint:
        print(hunts.hint(name, args.hint, path))
        return True
    parts, printed = try_one(name, args.folder, args.train)
    print(f"{name}: {(SET1 | SET2).get(name, 'a fresh bug')}  ({os.path.relpath(path)})")
    for part in parts:
        text = part["text"].replace("\n", "\n        ")
        print(f"  {MARKS[part['status']]} {part['name']}{f': {text}' if text else ''}")
    if is_done(parts):
        print(hunts.praise(name, path) if is_hunt else "Done. Well done.")
        return True
    if all(part["status"] == "missing" for part in parts):
        if hunts.has_curves(name):
            print(f"\n{hunts.curves(name)}\n")
        what = "find the bug, and mend it there" if is_hunt else "fill in what it asks for"
        print(f"Nothing is written yet. Open {os.path.relpath(path)}: {what}.")
    if printed:
        print("  Your code printed (its last lines):")
        print("\n".join(f"  | {line}" for line in printed.splitlines()))
    return False


def main(args):
    known = [*SET1, *SET2, "new_bug"]
    if args.list:
        for title, names in TITLES.items():
            print(title, *(f"  {name:20} {what}" for name, what in names.items()), sep="\n")
        print("Set 3: experiments, to run and argue about (docs/exercises)")
        print(*(f"  {name:20} {what}" for name, what in SET3.items()), sep="\n")
        return 0
    if args.new:
        path = path_of("new_bug", args.folder)
        print(hunts.draw(path, random.SystemRandom()))
        return 0
    if args.name is None:
        return 0 if check_all(args.folder) else 1
    if args.name in SET3:
        print(f"Set 3 has no checker: docs/exercises/{args.name}.md has the task, and a model answer.")
        return 0
    if args.name not in known:
        print(f"There is no exercise {args.name}; there are: {' '.join(known)}", file=sys.stderr)
        return 2
    if args.hint and args.name not in hunts.HUNTS and args.name != "new_bug":
        print("The bug hunts have hints; this one gives its hints when it checks your code.", file=sys.stderr)
        return 2
    if args.train and args.name not in SET1:
        print("Only the exercises of set 1 have a training run.", file=sys.stderr)
        return 2
    return 0 if check_one(args.name, args) else 1


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(Args, description=__doc__)))
    except (hunts.Stop, OSError) as e:
        sys.exit(str(e))
