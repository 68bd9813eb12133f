"""Starts many runs, several at a time: every combination of the values given, ours and Stable-Baselines3's.

    python benchmark/run.py ppo --env-id Hopper-v4 --clip-ratio 0.1 0.2 --seed 1 2 3 --jobs 2
    python benchmark/run.py ppo trpo --impl ours sb3 --seed 0 1 2 --results benchmark/results

Takes every knob of the scripts, with one value or more (--hidden-sizes 64,64 256,256), and its own flags:

    --impl     ours (default), sb3 (with our settings), sb3-defaults (with its own)
    --jobs     runs at a time (default: the number of cores); each gets its share of the cores as threads
    --results  folder to collect finished runs in, as IMPL/ALGO/ENV_ID/SEED.csv; what is there already is skipped

Runs go to runs/, named after what varies. The same command again skips what is done and goes on with what was
interrupted, but for Stable-Baselines3's, which begin anew. A run that fails, or is refused, does not stop the others;
its log is named at the end, and the exit code is 1.
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

import gymnasium as gym
import torch
import tyro
from tqdm import tqdm

import logx
from benchmark.sb3 import CLASSES, ON_POLICY, final_returns

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
        algo = self.algo if self.impl == "ours" else CLASSES[self.algo].__name__.lower()
        prefix = "" if self.impl == "ours" else self.impl + "-"
        self.variant = ",".join([algo, *(f"{k}={'-'.join(self.knobs[k])}" for k in self.varied)])
        self.name = prefix + self.variant
        self.place = self.env_id.replace("/", "-").replace(":", "-")  # in names of files
        self.label = f"{self.place}__{self.name}__{self.seed}"
        self.flags = ["--env-id", self.env_id, "--seed", self.seed]
        for knob, words in self.knobs.items():
            self.flags += ["--" + knob.replace("_", "-"), *words]
        self.args = self.check()
        self.steps = self.args.total_timesteps
        self.folder = self.process = None

    def check(self):
        """The arguments of the script. Raises Refused."""
        try:
            module, _, name = self.env_id.rpartition(":")
            if module:
                importlib.import_module(module)
            gym.spec(name)
        except (gym.error.Error, ImportError) as e:
            raise Refused(f"{self.env_id}: {' '.join(str(e).split())}") from e
        Args, box = importlib.import_module(self.algo).Args, io.StringIO()
        for knob in self.knobs:
            if knob in ("resume", "exp_name") or knob not in Args.__dataclass_fields__:
                raise Refused(f"{self.algo}.py has no --{knob.replace('_', '-')} for a grid")
        try:
            with contextlib.redirect_stderr(box):
                return tyro.cli(Args, args=self.flags)
        except SystemExit as e:
            words = [
                w for line in box.getvalue().splitlines()[1:-1] for w in line.strip("│ ").split() if set(w) != {"─"}
            ]
            raise Refused(f"{self.algo}.py {' '.join(self.flags)}: {' '.join(words)}") from e

    def result(self, results):
        return Path(results, self.impl, self.variant, self.place, f"{self.seed}.csv")

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
        try:
            made = json.loads((folder / "config.json").read_text())["args"]
        except (OSError, ValueError, KeyError):
            return False
        mine = json.loads(json.dumps(vars(self.args)))  # tuples are lists there
        return all(made.get(k) == v for k, v in mine.items() if k not in ("exp_name", "resume"))

    def start(self, threads):
        """Starts the run, or goes on with it."""
        if self.impl != "ours":
            command = [ROOT / "benchmark" / "sb3.py", self.algo, *self.flags, "--exp-name", self.name]
            command += ["--defaults"] if self.impl == "sb3-defaults" else []
            self.folder = None
        elif self.step() and Path(self.folder, "checkpoint.pt").exists():
            command = [ROOT / f"{self.algo}.py", "--resume", self.folder, "--total-timesteps", str(self.steps)]
        else:
            command = [ROOT / f"{self.algo}.py", *self.flags, "--exp-name", self.name]
            self.folder = None
        Path("runs").mkdir(exist_ok=True)
        self.log = Path("runs", f"{self.label}.log")
        with open(self.log, "w") as log:
            env = os.environ | {"OMP_NUM_THREADS": str(threads)}
            self.process = subprocess.Popen([sys.executable, *map(str, command)], stdout=log, stderr=log, env=env)

    def finish(self):
        """Adds the last episodes of an on-policy run, where they are missing."""
        if self.algo in ON_POLICY and not (self.folder / "final.json").exists():
            script = runpy.run_path(str(self.folder / f"{self.algo}.py"))
            env = script["make_env"](self.args)
            ac = script["ActorCritic"](env.observation_space, env.action_space, self.args)
            ac.load_state_dict(logx.read_checkpoint(self.folder)["ac"])
            torch.manual_seed(self.args.seed)
            returns = final_returns(lambda s: script["get_action"](ac, s), env, self.args.seed)
            (self.folder / "final.json").write_text(json.dumps(returns) + "\n")

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


def grid(given, everything):
    """The jobs, and a sentence for each that is refused. everything: name knobs that do not vary, too."""
    algos, impls = given.pop("algo"), given.pop("impl", ["ours"])
    envs, seeds = given.pop("env_id", ["HalfCheetah-v4"]), given.pop("seed", ["0"])
    varied = [k for k, values in given.items() if len(values) > 1 or (everything and k != "total_timesteps")]
    jobs, refused = [], []
    for algo, impl in itertools.product(algos, impls):
        if algo not in CLASSES or impl not in IMPLS:
            refused.append(f"{algo} {impl}: algorithms are {', '.join(CLASSES)}, implementations {', '.join(IMPLS)}")
            continue
        for env_id, *values, seed in itertools.product(envs, *given.values(), seeds):
            knobs = {k: v.split(",") for k, v in zip(given, values, strict=True)}
            try:
                jobs.append(Job(impl, algo, env_id, seed, knobs, varied))
            except Refused as e:
                refused.append(str(e))
    return jobs, list(dict.fromkeys(refused))


def work(jobs, at_a_time, threads, results):
    """Runs the jobs behind one bar. Returns those that failed."""
    waiting, running, failed = list(jobs), [], []
    steps = sum(job.steps for job in jobs)
    with tqdm(total=steps, unit=" steps", unit_scale=True, smoothing=0.05, disable=None) as bar:
        try:
            done = 0
            while waiting or running:
                while waiting and len(running) < at_a_time:
                    running.append(waiting.pop(0))
                    running[-1].start(threads)
                bar.set_description(f"{len(jobs) - len(waiting) - len(running)} of {len(jobs)} runs done")
                time.sleep(1)
                for job in [job for job in running if job.process.poll() is not None]:
                    running.remove(job)
                    job.folder = None
                    if job.process.returncode or job.step() < job.steps:
                        failed.append(job)
                        continue
                    job.finish()
                    if results:
                        job.collect(results)
                    done += job.steps
                bar.update(done + sum(min(job.step(), job.steps) for job in running) - bar.n)
        except KeyboardInterrupt:
            for job in running:
                job.process.terminate()
            print("Stopped. The same command goes on from the last checkpoints.", file=sys.stderr)
            sys.exit(130)
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
    jobs, refused = grid(given, everything=bool(results))
    for sentence in refused:
        print(f"run.py: left out: {sentence}", file=sys.stderr)
    todo = []
    for job in jobs:
        if results and job.result(results).exists():
            continue
        if job.step() >= job.steps:
            job.finish()
            if results:
                job.collect(results)
            continue
        todo.append(job)
    print(f"{len(todo)} runs to make, {len(jobs) - len(todo)} are there, {at_a_time} at a time", file=sys.stderr)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` ends the runs as Ctrl-C does
    failed = work(todo, at_a_time, max(1, cores // at_a_time), results)
    for job in failed:
        lines = job.log.read_text().strip().splitlines() or ["(nothing was printed)"]
        run = f"{job.name} on {job.env_id}, seed {job.seed}"
        print(f"run.py: failed: {run}; {job.log} ends: {lines[-1]}", file=sys.stderr)
    return 2 if refused and not jobs else 1 if refused or failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
