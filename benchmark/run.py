"""Starts many runs, several at a time: every combination of the values given, ours and Stable-Baselines3's.

    python benchmark/run.py ppo --env-id Hopper-v4 --clip-ratio 0.1 0.2 --seed 1 2 3 --jobs 2
    python benchmark/run.py ppo trpo --impl ours sb3 --seed 0 1 2 --results benchmark/results

Takes every knob of the scripts, with one value or more (--hidden-sizes 64,64 256,256; --learn-alpha True False), and
its own flags:

    --impl     ours (default), sb3 (with our settings), sb3-defaults (with its own)
    --jobs     runs at a time (default: the number of cores)
    --results  folder to collect finished runs in, as IMPL/ALGO/ENV_ID/SEED.csv; what is there already is skipped

Runs go to runs/, named after what varies. The same command again skips what the same code has done and goes on with
what was interrupted, but for Stable-Baselines3's, which begin anew. A run that fails, is refused, or is at work in
another launcher does not stop the others; it is named at the end, and the exit code is 1.
"""

import contextlib
import dataclasses
import importlib
import io
import itertools
import json
import os
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
from benchmark.report import bare
from benchmark.sb3 import CLASSES, IGNORED, ON_POLICY, TAKEN, final_returns, write_final

ROOT = Path(__file__).resolve().parent.parent
IMPLS = ("ours", "sb3", "sb3-defaults")


class Refused(Exception):
    """A combination that cannot run, in a sentence."""


@dataclasses.dataclass
class Job:
    """One run. knobs: {flag without dashes: its words}, all that was given but env_id and seed."""

    impl: str
    algo: str
    env_id: str
    seed: str
    knobs: dict
    varied: list  # names of the knobs that the run's name tells

    def __post_init__(self):
        self.theirs = CLASSES[self.algo].__name__
        algo = self.algo if self.impl == "ours" else self.theirs.lower()
        told = {k: f"{k}={'-'.join(words)}" for k, words in self.knobs.items()}
        prefix = "" if self.impl == "ours" else self.impl + "-"
        self.name = prefix + ",".join([algo, *(told[k] for k in self.varied)])
        self.cell = ",".join([algo, *(x for k, x in told.items() if k in self.varied or k != "total_timesteps")])
        self.place = self.env_id.replace("/", "-").replace(":", "-")  # in names of files
        self.label = f"{self.place}__{self.name}__{self.seed}"
        self.flags = ["--env-id", self.env_id, "--seed", self.seed]
        for knob, words in self.knobs.items():
            switch = words in (["True"], ["False"])
            self.flags += [f"--{'no-' * (words == ['False'])}{knob.replace('_', '-')}", *words * (not switch)]
        self.args = self.check()
        self.script = ROOT / (f"{self.algo}.py" if self.impl == "ours" else "benchmark/sb3.py")
        self.steps = self.args.total_timesteps
        self.log = Path("runs", f"{self.label}.log")
        self.lock = filelock.FileLock(Path("runs", f".{self.label}.lock"))
        self.folder = self.process = None

    def check(self):
        """The arguments of the script. Raises Refused."""
        try:
            module, _, name = self.env_id.rpartition(":")
            if module:
                importlib.import_module(module)
            limit = gym.spec(name).max_episode_steps
        except (gym.error.Error, ImportError) as e:
            raise Refused(f"{self.env_id}: {' '.join(str(e).split())}") from e
        Args, box = importlib.import_module(self.algo).Args, io.StringIO()
        for knob in self.knobs:
            if knob in ("resume", "exp_name") or knob not in Args.__dataclass_fields__:
                raise Refused(f"{self.algo}.py has no --{knob.replace('_', '-')} for a grid")
            own = self.impl == "sb3-defaults" or (self.impl, self.algo) == ("sb3", "vpg")
            if (own and knob not in TAKEN) or (self.impl == "sb3" and knob in IGNORED.get(self.algo, ())):
                raise Refused(f"SB3's {self.theirs} cannot be given --{knob.replace('_', '-')} here")
        try:
            with contextlib.redirect_stderr(box):
                args = tyro.cli(Args, args=self.flags)
        except SystemExit as e:
            words = [
                w for line in box.getvalue().splitlines()[1:-1] for w in line.strip("│ ").split() if set(w) != {"─"}
            ]
            raise Refused(f"{self.algo}.py {' '.join(self.flags)}: {' '.join(words)}") from e
        if limit is None and args.max_episode_steps is None:
            raise Refused(f"{self.env_id} has no time limit, so an episode may never end: give --max-episode-steps")
        return args

    def result(self, results):
        return Path(results, self.impl, self.cell, self.place, f"{self.seed}.csv")

    def step(self):
        """Steps done so far, of the newest run folder of this name."""
        if self.folder is None:
            folders = sorted(Path("runs").glob(f"{self.label}__*"))
            fits = [f for f in folders if self.same(f)]
            self.folder = fits[-1] if fits else None
        with contextlib.suppress(OSError, ValueError, TypeError, IndexError):
            return int(Path(self.folder, "progress.csv").read_text().splitlines()[-1].split(",")[0])
        return 0

    def same(self, folder):
        """Whether a run's folder was made with these arguments, by the code as it is now."""
        try:
            made = json.loads((folder / "config.json").read_text())["args"]
            return self.fits(made) and bare((folder / self.script.name).read_text()) == bare(self.script.read_text())
        except (OSError, ValueError, KeyError, SyntaxError):
            return False

    def fits(self, made):
        mine = json.loads(json.dumps(vars(self.args)))  # tuples are lists there
        return all(made.get(k) == v for k, v in mine.items() if k not in ("exp_name", "resume"))

    def is_done(self):
        """Whether the run is at its end, and not only its last row, which is written first."""
        if self.step() < self.steps:
            return False
        if self.impl == "ours":
            with contextlib.suppress(logx.Stop):
                return logx.read_checkpoint(self.folder)["step"] >= self.steps
            return False
        return self.algo not in ON_POLICY or (self.folder / "final.json").exists()

    def start(self):
        """Starts the run, or goes on with it. Raises filelock.Timeout if another launcher is at it."""
        Path("runs").mkdir(exist_ok=True)
        self.lock.acquire(blocking=False)
        command = [self.script, *self.flags, "--exp-name", self.name]
        if self.impl != "ours":
            command[1:1] = [self.algo, *["--defaults"] * (self.impl == "sb3-defaults")]
        elif self.step() and Path(self.folder, "checkpoint.pt").exists():
            command[1:] = ["--resume", self.folder, "--total-timesteps", str(self.steps)]
        self.folder = None
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([sys.executable, *map(str, command)], stdout=log, stderr=log)

    def end(self, results):
        """Keeps the result of a run whose process has ended. Returns what went wrong, or None."""
        self.lock.release()
        self.folder = None
        if self.process.returncode or not self.is_done():
            lines = self.log.read_text().strip().splitlines() or ["(nothing was printed)"]
            return f"{self.log} ends: {lines[-1]}"
        return self.keep(results)

    def keep(self, results):
        """Writes the result of a run that is done. Returns what went wrong, or None."""
        try:
            self.finish()
            if results:
                self.collect(results)
        except (OSError, ValueError, KeyError, logx.Stop) as e:
            return f"its result cannot be kept: {e}"

    def finish(self):
        """Adds the last episodes of an on-policy run, where they are missing."""
        if self.algo in ON_POLICY and not (self.folder / "final.json").exists():
            script = runpy.run_path(str(self.folder / f"{self.algo}.py"))
            env = script["make_env"](self.args)
            ac = script["ActorCritic"](env.observation_space, env.action_space, self.args)
            ac.load_state_dict(logx.read_checkpoint(self.folder)["ac"])
            torch.manual_seed(self.args.seed)
            returns = final_returns(lambda s: script["get_action"](ac, s), env, self.args.seed)
            write_final(self.folder, returns)

    def collect(self, results):
        """Writes the result: a comment line with how it was made and the last episodes, then progress.csv, rounded."""
        made = json.loads((self.folder / "config.json").read_text())
        if self.algo in ON_POLICY:
            made["final"] = [round(x, 2) for x in json.loads((self.folder / "final.json").read_text())]
        head, *rows = (self.folder / "progress.csv").read_text().splitlines()
        rows = [",".join(x if x.isdigit() or not x else f"{float(x):.6g}" for x in row.split(",")) for row in rows]
        path = self.result(results)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".new").write_text("\n".join(["# " + json.dumps(made), head, *rows]) + "\n")
        path.with_suffix(".new").replace(path)


def parse(words):
    """The lists of values by flag, algorithms under "algo"."""
    given, flag = {"algo": []}, "algo"
    for word in words:
        if word.startswith("--"):
            flag, _, value = word[2:].replace("-", "_").partition("=")
            given[flag] = [value] if value else []
        else:
            given[flag].append(word)
    return given


def grid(given):
    """The jobs, and a sentence for each that is refused."""
    algos, impls = given.pop("algo"), given.pop("impl", ["ours"])
    envs, seeds = given.pop("env_id", ["HalfCheetah-v4"]), given.pop("seed", ["0"])
    varied = [k for k, values in given.items() if len(values) > 1]
    jobs, refused = [], []
    for algo, impl in itertools.product(algos, impls):
        if algo not in CLASSES or impl not in IMPLS:
            refused.append(f"{algo} {impl}: algorithms are {', '.join(CLASSES)}, implementations {', '.join(IMPLS)}")
            continue
        for env_id, *values, seed in dict.fromkeys(itertools.product(envs, *given.values(), seeds)):
            knobs = {k: v.split(",") for k, v in zip(given, values, strict=True)}
            try:
                jobs.append(Job(impl, algo, env_id, seed, knobs, varied))
            except Refused as e:
                refused.append(str(e))
    return jobs, list(dict.fromkeys(refused))


def work(jobs, at_a_time, results):
    """Runs the jobs behind one bar. Returns those that failed, each with what went wrong."""
    waiting, running, failed = list(jobs), [], []
    steps = sum(job.steps for job in jobs)
    with tqdm(total=steps, unit=" steps", unit_scale=True, smoothing=0.05, disable=None) as bar:
        try:
            done = 0
            while waiting or running:
                while waiting and len(running) < at_a_time:
                    job = waiting.pop(0)
                    try:
                        job.start()
                        running.append(job)
                    except filelock.Timeout:
                        failed.append((job, "another launcher is at it"))
                bar.set_description(f"{len(jobs) - len(waiting) - len(running)} of {len(jobs)} runs done")
                time.sleep(1)
                for job in [job for job in running if job.process.poll() is not None]:
                    running.remove(job)
                    if complaint := job.end(results):
                        failed.append((job, complaint))
                    done += job.steps
                bar.update(done + sum(min(job.step(), job.steps) for job in running) - bar.n)
        except KeyboardInterrupt:
            print("Stopped. The same command goes on from the last checkpoints.", file=sys.stderr)
            sys.exit(130)
        finally:
            for job in running:
                job.process.terminate()
    return failed


def main(words):
    if not words or {"-h", "--help"} & set(words):
        print(__doc__)
        return 0 if words else 2
    given = parse(words)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    at_a_time, results = given.pop("jobs", [str(cores)]), given.pop("results", [None])
    empty = [k for k, v in given.items() if not v]
    if empty or len(at_a_time) != 1 or not at_a_time[0].isdigit() or int(at_a_time[0]) < 1 or len(results) != 1:
        complaint = f"no value for {', '.join(empty)}" if empty else "--jobs and --results take one value"
        print("run.py:", complaint, file=sys.stderr)
        return 2
    at_a_time, results = int(at_a_time[0]), results[0]
    jobs, refused = grid(given)
    for sentence in refused:
        print(f"run.py: left out: {sentence}", file=sys.stderr)
    todo, failed = [], []
    for job in jobs:
        if results and (path := job.result(results)).exists():
            try:
                fits = job.fits(json.loads(path.read_text().splitlines()[0].removeprefix("# "))["args"])
            except (OSError, ValueError, IndexError, KeyError):
                fits = False
            if not fits:
                failed.append((job, f"{path} is damaged or was made with other arguments; move it away"))
        elif job.is_done():
            if complaint := job.keep(results):
                failed.append((job, complaint))
        else:
            todo.append(job)
    print(f"{len(todo)} runs to make, {len(jobs) - len(todo)} are there, {at_a_time} at a time", file=sys.stderr)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` ends the runs as Ctrl-C does
    failed += work(todo, at_a_time, results)
    for job, complaint in failed:
        print(f"run.py: failed: {job.name} on {job.env_id}, seed {job.seed}: {complaint}", file=sys.stderr)
    return 2 if refused and not jobs else 1 if refused or failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
