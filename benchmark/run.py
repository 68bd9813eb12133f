"""Starts a grid of runs, several at a time: every combination of the values given.

    python benchmark/run.py ppo --env-id Hopper-v4 --clip-ratio 0.1 0.2 --seed 1 2 3 --jobs 2
    python benchmark/run.py ppo trpo --impl ours sb3 --seed 0 1 2 --results benchmark/results

Takes every flag of the scripts, with one value or more. Several numbers that are one value are
joined by commas; a switch has the values True and False; JSON stands in quotes:

    --hidden-sizes 64,64 256,256
    --learn-alpha True False
    --env-kwargs '{}' '{"forward_reward_weight": 2}'

Its own flags:

    --impl     ours (default), sb3 (SB3 with our settings), sb3-defaults (with its own settings)
    --jobs     runs at a time (default: the number of cores)
    --results  folder to collect finished runs in, as IMPL/ALGO/ENV_ID/SEED.csv; runs whose
               result is already there are skipped
    --agents   folder to keep the agents in, of our runs of seed 0 with no other flag than the
               environment, the steps, and --compile; see benchmark/agents.py
    --no-shim  without the shim that makes torch faster on AMD's processors with AVX-512; it is used
               there if there is a C compiler (cc), and config.json says so ("mkl_shim")

Runs go to runs/, named after the flags that vary. The same command, given again, skips the runs
that the same code has finished, and resumes those that were interrupted, with or without the shim
as they began; only the runs of Stable-Baselines3 start over. A run that fails, is refused, or is
being made by another launcher does not stop the others; it is named at the end, and the exit code
is 1.
"""

import contextlib
import dataclasses
import importlib
import io
import itertools
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import filelock
import gymnasium as gym
import torch
import tyro
from tqdm import tqdm

import logx
from benchmark.agents import FILMED, keep_agent, keep_early
from benchmark.report import comparable_code
from benchmark.sb3 import CLASSES, IGNORED, TAKEN, final_returns, write_final
from benchmark.scripts import ON_POLICY, SCRIPTS
from benchmark.shim import shim_environment
from benchmark.terminal import replace_unprintable

ROOT = Path(__file__).resolve().parent.parent
IMPLS = ("ours", "sb3", "sb3-defaults")

# their results share a folder, unless they vary: results tell their total_timesteps, and compile
# changes the speed alone; other knobs are worth a folder of their own
WITHOUT_FOLDER = ("total_timesteps", "compile")


class Refused(Exception):
    """A run that cannot be made, in a sentence."""


# A run --------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Job:
    """One run. Raises Refused if it cannot be made."""

    impl: str
    algo: str
    env_id: str
    seed: str
    knobs: dict  # {name: value as given}: all that was given but env_id and seed
    varied: list  # names of the knobs that have several values in the grid

    def __post_init__(self):
        self.theirs = CLASSES[self.algo].__name__
        self.fields = importlib.import_module(self.algo).Args.__dataclass_fields__
        self.script = ROOT / f"{self.algo}.py"
        if self.impl != "ours":
            self.script = ROOT / "benchmark" / "sb3.py"

        spec = find_environment(self.env_id)
        self.check_knobs()
        self.flags = self.make_flags()
        self.args = self.parse_flags()
        if spec.max_episode_steps is None and self.args.max_episode_steps is None:
            never = "has no time limit, so an episode may never end"
            raise Refused(f"{self.env_id} {never}: give --max-episode-steps")
        self.steps = self.args.total_timesteps

        self.make_names()
        self.log = Path("runs", f"{self.label}.log")
        self.lock = filelock.FileLock(Path("runs", f".{self.label}.lock"))
        self.folder = None
        self.process = None

    def check_knobs(self):
        """Raises Refused if the script, or SB3's version of it, cannot take one of the knobs."""
        # A2C always runs with its own settings
        theirs_only = self.impl == "sb3-defaults" or (self.impl == "sb3" and self.algo == "vpg")
        ignored = set()
        if self.impl == "sb3":
            ignored = IGNORED.get(self.algo, set()) | {"compile"}

        for knob in self.knobs:
            if knob in ("resume", "exp_name") or knob not in self.fields:
                raise Refused(f"{self.algo}.py has no --{spell(knob)} for a grid")
            if knob in ignored or (theirs_only and knob not in TAKEN):
                raise Refused(f"SB3's {self.theirs} cannot be given --{spell(knob)} here")

    def words(self, knob):
        """A knob's value as the words of a command line."""
        value = self.knobs[knob]
        # only a tuple has commas between its elements; those of JSON belong to the text
        if isinstance(self.fields[knob].default, tuple):
            return value.split(",")
        return [value]

    def make_flags(self):
        """The script's command line."""
        flags = ["--env-id", self.env_id, "--seed", self.seed]
        for knob, value in self.knobs.items():
            is_switch = isinstance(self.fields[knob].default, bool)
            if is_switch and value == "True":
                flags.append(f"--{spell(knob)}")
            elif is_switch and value == "False":
                flags.append(f"--no-{spell(knob)}")
            else:
                flags += [f"--{spell(knob)}", *self.words(knob)]
        return flags

    def parse_flags(self):
        """The script's arguments."""
        Args = importlib.import_module(self.algo).Args
        box = io.StringIO()
        try:
            with contextlib.redirect_stderr(box):
                return tyro.cli(Args, args=self.flags)
        except SystemExit as e:
            complaint = without_frame(box.getvalue())
            raise Refused(f"{self.algo}.py {' '.join(self.flags)}: {complaint}") from e

    def make_names(self):
        """The names of the run, of its files, and of the folder for its result."""
        algo = self.algo if self.impl == "ours" else self.theirs.lower()
        name = [algo]
        cell = [algo]
        for knob in self.knobs:
            part = f"{knob}={file_name('-'.join(self.words(knob)))}"
            if knob in self.varied:
                name.append(part)
            if knob in self.varied or knob not in WITHOUT_FOLDER:
                cell.append(part)
        self.name = ",".join(name)
        if self.impl != "ours":
            self.name = f"{self.impl}-{self.name}"
        self.cell = ",".join(cell)

        # as logx names the run folder
        self.place = self.env_id.replace("/", "-").replace(":", "-")
        self.label = f"{self.place}__{self.name}__{self.seed}"

    def result(self, results):
        """The path of the run's result."""
        return Path(results, self.impl, self.cell, self.place, f"{self.seed}.csv")

    def fits(self, made):
        """Whether a run was made with these arguments."""
        # a run from before the script had a knob did what the default does now
        defaults = {name: field.default for name, field in self.fields.items()}
        # both as JSON, where tuples are lists
        made = json.loads(json.dumps(defaults | made))
        mine = json.loads(json.dumps(vars(self.args)))
        compared = mine.keys() - {"exp_name", "resume"}
        return all(made[knob] == mine[knob] for knob in compared)

    def same(self, folder):
        """Whether a run folder was made with these arguments, by the present code."""
        try:
            made = json.loads((folder / "config.json").read_text(encoding="utf-8"))["args"]
            then = (folder / self.script.name).read_text(encoding="utf-8")
            now = self.script.read_text(encoding="utf-8")
            return self.fits(made) and comparable_code(then) == comparable_code(now)
        except (OSError, ValueError, KeyError, SyntaxError):
            return False

    def step(self):
        """Steps done so far by the newest such run."""
        if self.folder is None:
            for folder in sorted(Path("runs").glob(f"{self.label}__*")):
                if self.same(folder):
                    self.folder = folder
        if self.folder is None:
            return 0
        try:
            lines = (self.folder / "progress.csv").read_text(encoding="utf-8").splitlines()
            return int(lines[-1].split(",")[0])
        except (OSError, ValueError, IndexError):
            return 0

    def is_done(self):
        """Whether the run has finished. Its last row is no proof: that is written first."""
        if self.step() < self.steps:
            return False
        if self.impl == "ours":
            try:
                return logx.read_checkpoint(self.folder)["step"] >= self.steps
            except logx.Stop:
                return False
        return self.algo not in ON_POLICY or (self.folder / "final.json").exists()

    def had_shim(self):
        """Whether the run to be resumed began with the shim."""
        config = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        # runs from before it was recorded had none
        return config.get("mkl_shim", False)

    def start(self, shim=True):
        """Starts or resumes the run, a new one with the shim for MKL where that is needed.

        Raises filelock.Timeout if another launcher is making it.
        """
        Path("runs").mkdir(exist_ok=True)
        self.lock.acquire(blocking=False)
        command = [sys.executable, self.script]
        if self.impl != "ours":
            command.append(self.algo)
        if self.impl == "sb3-defaults":
            command.append("--defaults")

        if self.impl == "ours" and self.step() and (self.folder / "checkpoint.pt").exists():
            command += ["--resume", self.folder, "--total-timesteps", self.steps]
            shim = self.had_shim()
        else:
            command += [*self.flags, "--exp-name", self.name]

        self.folder = None
        command = [str(word) for word in command]
        env = os.environ | {"PYTHONIOENCODING": "utf-8"}
        if shim:
            env |= shim_environment()
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=env)

    def agent(self, agents):
        """The path of the run's agent among those kept in a folder; None if it is not kept."""
        wanted = self.impl == "ours" and self.seed == "0" and self.cell == self.algo
        return Path(agents, f"{self.algo}-{self.place}") if agents and wanted else None

    def is_kept(self, results, agents):
        """Whether the run's result, and its agent, have been collected."""
        agent = self.agent(agents)
        there = results and self.result(results).exists()
        return there and (agent is None or (agent / "score.json").exists())

    def watch(self, agents):
        """Keeps the policies that a run under way has come to, where films are made."""
        agent = self.agent(agents)
        if agent and self.env_id in FILMED and self.step():
            with contextlib.suppress(OSError, logx.Stop):  # the next second tries again
                keep_early(self.folder, agent, self.step() / self.steps)

    def end(self, results, agents):
        """Keeps the result of a run whose process has ended. Returns what went wrong, or None."""
        self.lock.release()
        self.folder = None
        if self.process.returncode == 0 and self.is_done():
            return self.keep(results, agents)
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        if not lines:
            return f"{self.log} is empty"
        return f"{self.log} ends: {lines[-1]}"

    def keep(self, results, agents):
        """Completes and collects a run that is done. Returns what went wrong, or None."""
        try:
            self.finish()
            if results:
                self.collect(results)
            if self.agent(agents):
                keep_agent(self.folder, self.agent(agents))
        except (OSError, ValueError, KeyError, logx.Stop) as e:
            return f"its result cannot be kept: {e}"
        return None

    def finish(self):
        """Plays the last episodes of an on-policy run, if that was not done yet."""
        if self.algo not in ON_POLICY or (self.folder / "final.json").exists():
            return
        write_final(self.folder, play_last_episodes(self))

    def collect(self, results):
        """Writes the result: how it was made, as a comment line, then progress.csv, rounded."""
        made = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        if self.algo in ON_POLICY:
            returns = json.loads((self.folder / "final.json").read_text(encoding="utf-8"))
            made["final"] = [round(x, 2) for x in returns]

        lines = (self.folder / "progress.csv").read_text(encoding="utf-8").splitlines()
        head = lines.pop(0)
        kept = ["# " + json.dumps(made), head]
        for line in lines:
            kept.append(",".join(rounded(cell) for cell in line.split(",")))

        path = self.result(results)
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text("\n".join(kept) + "\n", encoding="utf-8")
        new.replace(path)


@logx.closing
def play_last_episodes(job):
    """The returns of the final policy of one of our runs, acting as in training."""
    script = runpy.run_path(str(job.folder / f"{job.algo}.py"))
    state = logx.read_checkpoint(job.folder)
    env = script["make_env"](job.args)
    logx.set_statistics(env, state["statistics"][0])
    logx.freeze_statistics(env)
    ac = script["ActorCritic"](env.observation_space, env.action_space, job.args)
    ac.load_state_dict(state["ac"])

    def get_action(s):
        return script["get_action"](ac, s)

    torch.manual_seed(job.args.seed)
    return final_returns(get_action, env, job.args.seed)


def spell(knob):
    """A knob's name as in its flag."""
    return knob.replace("_", "-")


def file_name(text):
    """The text with dashes for what some system does not allow in a file name."""
    return re.sub(r"[^A-Za-z0-9._=+-]+", "-", text)


def rounded(cell):
    """A cell of progress.csv with six digits; counts and empty cells as they are."""
    if cell == "" or cell.isdigit():
        return cell
    return f"{float(cell):.6g}"


def without_frame(box):
    """The words of tyro's error message, without the box around them."""
    words = []
    for word in box.split():
        if not set(word) <= set("─│╭╮╰╯-|+"):
            words.append(word)
    return " ".join(words)


def find_environment(env_id):
    """The environment's specification. Raises Refused if there is none."""
    module, _, name = env_id.rpartition(":")
    try:
        if module:
            importlib.import_module(module)
        return gym.spec(name)
    except (gym.error.Error, ImportError) as e:
        reason = " ".join(str(e).split())
        raise Refused(f"{env_id}: {reason}") from e


# The grid -----------------------------------------------------------------------------------------


def parse(words):
    """The command line as {flag: its values}, with the algorithms under "algo"."""
    given = {"algo": []}
    flag = "algo"
    for word in words:
        if word.startswith("--"):
            name, _, value = word.removeprefix("--").partition("=")
            flag = name.replace("-", "_")
            given[flag] = [value] if value else []
        else:
            given[flag].append(word)
    return given


def grid(given):
    """The jobs, and a sentence for each run that is refused."""
    algos = given.pop("algo")
    impls = given.pop("impl", ["ours"])
    env_ids = given.pop("env_id", ["HalfCheetah-v4"])
    seeds = given.pop("seed", ["0"])
    varied = [knob for knob, values in given.items() if len(values) > 1]

    jobs = {}
    refused = []
    for algo, impl in itertools.product(algos, impls):
        if algo not in SCRIPTS or impl not in IMPLS:
            choices = f"algorithms are {', '.join(SCRIPTS)}, implementations {', '.join(IMPLS)}"
            refused.append(f"{algo} {impl}: {choices}")
            continue
        for env_id, *values, seed in itertools.product(env_ids, *given.values(), seeds):
            knobs = dict(zip(given, values, strict=True))
            try:
                job = Job(impl, algo, env_id, seed, knobs, varied)
            except Refused as e:
                refused.append(str(e))
                continue
            namesake = jobs.setdefault(job.label, job)
            if namesake.flags != job.flags:
                refused.append(f"{job.label}: two different runs would have this name")

    return list(jobs.values()), list(dict.fromkeys(refused))


# Work ---------------------------------------------------------------------------------------------


def sort_out(jobs, results, agents):
    """The jobs that are yet to be done, and [(job, what is wrong with its result), ...]."""
    todo = []
    failed = []
    for job in jobs:
        if results and job.result(results).exists() and not has_result(job, results):
            wrong = "is damaged or was made with other arguments; move it away"
            failed.append((job, f"{job.result(results)} {wrong}"))
        elif job.is_kept(results, agents):
            continue
        elif job.is_done():
            complaint = job.keep(results, agents)
            if complaint:
                failed.append((job, complaint))
        else:
            todo.append(job)
    return todo, failed


def has_result(job, results):
    """Whether the job's result can be read, and was made with its arguments."""
    try:
        lines = job.result(results).read_text(encoding="utf-8").splitlines()
        made = json.loads(lines[0].removeprefix("# "))
        return job.fits(made["args"])
    except (OSError, ValueError, IndexError, KeyError):
        return False


def work(jobs, at_a_time, results, agents, shim=True):
    """Runs the jobs behind one progress bar. Returns [(job, what went wrong), ...]."""
    waiting = list(jobs)
    running = []
    failed = []
    steps_ended = 0
    total = sum(job.steps for job in jobs)
    bar = tqdm(total=total, unit=" steps", unit_scale=True, smoothing=0.05, disable=None)
    try:
        while waiting or running:
            start_next(waiting, running, failed, at_a_time, shim)
            ended = len(jobs) - len(waiting) - len(running)
            bar.set_description(f"{ended} of {len(jobs)} runs done")
            time.sleep(1)

            for job in list(running):
                job.watch(agents)
                if job.process.poll() is not None:
                    running.remove(job)
                    steps_ended += job.steps
                    complaint = job.end(results, agents)
                    if complaint:
                        failed.append((job, complaint))
            steps_running = sum(min(job.step(), job.steps) for job in running)
            bar.update(steps_ended + steps_running - bar.n)
    except KeyboardInterrupt:
        stopped = "Stopped. The same command resumes the runs from their last checkpoints."
        print(stopped, file=sys.stderr)
        sys.exit(130)
    finally:
        bar.close()
        for job in running:
            job.process.terminate()
    return failed


def start_next(waiting, running, failed, at_a_time, shim):
    """Moves jobs from waiting to running as long as there is room, or to failed."""
    while waiting and len(running) < at_a_time:
        job = waiting.pop(0)
        try:
            job.start(shim)
            running.append(job)
        except filelock.Timeout:
            failed.append((job, "another launcher is making it"))


# Command line -------------------------------------------------------------------------------------


def check(given):
    """What is wrong with the command line, or None."""
    if not given["algo"]:
        return f"name an algorithm: {', '.join(SCRIPTS)}"
    if given.get("no_shim"):
        return "--no-shim takes no value"
    empty = []
    for flag, values in given.items():
        if flag != "no_shim" and not values:
            empty.append(spell(flag))
    if empty:
        return f"no value for {', '.join(empty)}"
    jobs = given.get("jobs", ["1"])
    if len(jobs) != 1 or not jobs[0].isdigit() or int(jobs[0]) < 1:
        return "--jobs takes one number, 1 or more"
    for flag in ("results", "agents"):
        if len(given.get(flag, [""])) != 1:
            return f"--{flag} takes one folder"
    return None


def count_cores():
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def main(words):
    """Runs the grid; returns the exit code."""
    if "-h" in words or "--help" in words:
        print(__doc__)
        return 0
    if not words:
        print(__doc__)
        return 2

    given = parse(words)
    complaint = check(given)
    if complaint:
        print(f"run.py: {complaint}", file=sys.stderr)
        return 2
    (at_a_time,) = given.pop("jobs", [count_cores()])
    (results,) = given.pop("results", [None])
    (agents,) = given.pop("agents", [None])
    shim = given.pop("no_shim", None) is None
    at_a_time = int(at_a_time)

    jobs, refused = grid(given)
    for sentence in refused:
        print(f"run.py: refused: {sentence}", file=sys.stderr)
    if not jobs:
        return 2

    todo, failed = sort_out(jobs, results, agents)
    there = len(jobs) - len(todo)
    print(f"{len(todo)} runs to do, {there} already there; {at_a_time} at a time", file=sys.stderr)

    # `kill` ends the runs as Ctrl-C does
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    failed += work(todo, at_a_time, results, agents, shim)
    for job, complaint in failed:
        run = f"{job.name} on {job.env_id}, seed {job.seed}"
        print(f"run.py: failed: {run}: {complaint}", file=sys.stderr)
    return 1 if refused or failed else 0


if __name__ == "__main__":
    replace_unprintable()
    sys.exit(main(sys.argv[1:]))
