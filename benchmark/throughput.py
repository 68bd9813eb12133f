"""Speed: the scripts against Stable-Baselines3, in turns, and against a floor. Prints Markdown.

    python benchmark/throughput.py                     every table but sbx
    python benchmark/throughput.py peers --algos sac   one table, for one script
    python benchmark/throughput.py sbx                 against SBX, Stable-Baselines3 in JAX

Every figure is measured in a process of its own, in HalfCheetah-v4, with --threads threads and
without test episodes; the first epoch does not count. What is compared runs in turns, A B A B, and
each turn gives a ratio; a cell is the median (min to max) of the turns.

SBX needs a virtual environment of its own:

    python -m venv .venv-sbx
    .venv-sbx/bin/python -m pip install -r benchmark/requirements-sbx.txt

In its table every process pins itself to one core, where the system can do that, since JAX takes
all cores whatever --threads says. The first two epochs do not count, since SBX and --compile
compile in them; how long the first takes is in columns of its own. torch's compiler keeps its
results in a cache, which is empty when the table begins: only a row's first turn compiles anew.

Where torch's matrix products need the shim for MKL (benchmark/shim.py), everything is measured with
it, and the rows of peers and sbx also without it.
"""

import importlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

try:
    import resource
except ImportError:
    # Windows has none: peak memory is not measured there
    resource = None

import gymnasium as gym
import numpy as np
import torch
import tyro
from torch.utils._python_dispatch import TorchDispatchMode

import logx
from benchmark.scripts import OFF_POLICY, ON_POLICY, SCRIPTS
from benchmark.shim import describe_shim, shim_environment
from benchmark.terminal import replace_unprintable

ROOT = Path(__file__).resolve().parent.parent

# arguments that make a run short
SHORT_ON_POLICY = {"total_timesteps": 48_000}
SHORT_OFF_POLICY = {"total_timesteps": 4_000, "steps_per_epoch": 1_000, "start_steps": 1_000}


# for the table with SBX
SHORT_ON_POLICY_SBX = {"total_timesteps": 24_000}
SHORT_OFF_POLICY_SBX = {"num_test_episodes": 0}


# Measurements, each in a process of its own -------------------------------------------------------


def short(algo):
    """Arguments that make a script's run short."""
    if algo in ON_POLICY:
        return SHORT_ON_POLICY
    return SHORT_OFF_POLICY


def short_for_sbx(algo):
    """The same, for the table with SBX."""
    if algo in ON_POLICY:
        return short(algo) | SHORT_ON_POLICY_SBX
    return short(algo) | SHORT_OFF_POLICY_SBX


def measure_ours(algo, flags):
    """Steps and seconds of a script's epochs after the first, from progress.csv."""
    script = importlib.import_module(algo)
    knobs = short(algo) | flags
    if algo in OFF_POLICY:
        knobs = {"num_test_episodes": 0} | knobs
    folder = script.train(script.Args(**knobs))
    if script.logx.rank > 0:
        # rank 0 prints the figures
        sys.exit()
    rows = np.genfromtxt(folder / "progress.csv", delimiter=",", names=True)
    steps = rows["global_step"][-1] - rows["global_step"][0]
    seconds = rows["time"][-1] - rows["time"][0]
    return steps, seconds


def measure_pinned(algo, flags):
    """Steps and seconds of a script's epochs after the second, on one core; then its start-up.

    Start-up is from the command to the end of the first epoch, in which the updates are compiled.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    script = importlib.import_module(algo)
    times = []

    class Logger(logx.Logger):
        def end_epoch(self, step):
            super().end_epoch(step)
            times.append((step, time.time()))

    logx.Logger = Logger
    script.train(script.Args(**short_for_sbx(algo) | flags))

    _, first_end = times[0]
    begin_step, begin = times[1]
    last_step, end = times[-1]
    return last_step - begin_step, end - begin, first_end - float(os.environ["BEGUN"])


def measure_sb3(algo, flags):
    """Steps and seconds of SB3's rollouts that begin after our first epoch."""
    import sb3
    from stable_baselines3.common.callbacks import BaseCallback

    script = importlib.import_module(algo)
    a = script.Args(**short(algo) | flags)
    # PPO is compared with both at their defaults, except over hidden sizes
    a.defaults = algo == "ppo" and "hidden_sizes" not in flags
    times = []

    class Clock(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_start(self):
            times.append((self.num_timesteps, time.perf_counter()))

        def _on_training_end(self):
            times.append((self.num_timesteps, time.perf_counter()))

    model = sb3.make_model(algo, a, sb3.make_env(algo, a))
    model.learn(a.total_timesteps, Clock())

    times = [(step, clock) for step, clock in times if step >= a.steps_per_epoch]
    first_step, begin = times[0]
    last_step, end = times[-1]
    return last_step - first_step, end - begin


def measure_env(algo, flags):
    """Steps and seconds of the environment alone, with actions drawn beforehand."""
    env = gym.make("HalfCheetah-v4")
    actions = np.random.uniform(-1, 1, (1_000, 6)).astype(np.float32)
    steps = 20_000
    begin = time.perf_counter()
    for t in range(steps):
        if t % 1_000 == 0:
            env.reset()
        env.step(actions[t % 1_000])
    return steps, time.perf_counter() - begin


def measure_rollout(algo, flags):
    """Steps and seconds of an on-policy script that collects, but does not learn."""

    def do_nothing(*args):
        return {}

    script = importlib.import_module(algo)
    script.compute_batch = do_nothing
    script.update_pi = do_nothing
    script.update_v = do_nothing
    return measure_ours(algo, flags)


class Products(TorchDispatchMode):
    """Notes the matrix products made under it, as (function, [(shape, strides) of each tensor])."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, f, types, args=(), kwargs=None):
        if f.overloadpacket.__name__ in ("mm", "addmm", "bmm", "baddbmm"):
            tensors = [x for x in args if isinstance(x, torch.Tensor)]
            self.seen.append((f, [(x.shape, x.stride()) for x in tensors]))
        return f(*args, **(kwargs or {}))


def measure_update(algo, flags, stored=10_000):
    """Gradient steps, their seconds, and the seconds of one step's matrix products alone."""
    script = importlib.import_module(algo)
    times = []
    products = Products()

    class Buffer(script.ReplayBuffer):
        """Holds random transitions, and notes when each batch is drawn."""

        def __init__(self, *sizes):
            super().__init__(*sizes)
            rng = np.random.default_rng(0)
            self.n = stored
            for x in (self.s, self.a, self.r, self.s2, self.d):
                x[:stored] = rng.random(x[:stored].shape, np.float32)

        def sample(self, batch_size):
            times.append(time.perf_counter())
            # notes those of four steps: a multiple of TD3's policy delay
            if len(times) == 501:
                products.__enter__()
            elif len(times) == 505:
                products.__exit__(None, None, None)
            return super().sample(batch_size)

    script.ReplayBuffer = Buffer
    knobs = {"total_timesteps": 2_000, "start_steps": 0, "num_test_episodes": 0}
    script.train(script.Args(**knobs | flags))

    updates = np.diff(times)[600:990]
    return len(updates), updates.sum(), time_products(products.seen) / 4


def time_products(seen):
    """The seconds of all the products together: the median of 50 times."""
    calls = []
    for f, tensors in seen:
        operands = []
        for shape, stride in tensors:
            size = 1 + sum((n - 1) * m for n, m in zip(shape, stride))
            operands.append(torch.rand(size).as_strided(shape, stride))
        calls.append((f, operands))

    seconds = []
    with torch.no_grad():
        for _ in range(50):
            begin = time.perf_counter()
            for f, operands in calls:
                f(*operands)
            seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds))


def measure_stored(algo, flags):
    """As measure_update, with flags["stored"] transitions in the buffer."""
    knobs = dict(flags)
    stored = knobs.pop("stored")
    return measure_update(algo, knobs, stored)


MEASURES = {
    "ours": measure_ours,
    "pinned": measure_pinned,
    "sb3": measure_sb3,
    "env": measure_env,
    "rollout": measure_rollout,
    "update": measure_update,
    "stored": measure_stored,
}


def child(kind, algo, flags):
    """Measures in this process, and prints the figures, with its peak memory, as the last line."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        figures = MEASURES[kind](algo, flags)
        # Windows does not remove a folder that a process is in
        os.chdir(ROOT)
    print(json.dumps([*(float(x) for x in figures), peak_memory()]))


def peak_memory():
    """This process's peak memory in MiB, or NaN where it cannot be measured."""
    if resource is None:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # bytes on macOS, KiB elsewhere
    if sys.platform == "darwin":
        return peak / 1024**2
    return peak / 1024


# Turns --------------------------------------------------------------------------------------------


@dataclass
class Job:
    """A measurement to make: which, of which script, with which arguments, and how to launch it."""

    kind: str
    algo: str
    flags: dict
    launcher: tuple = ()
    shim: bool = True  # where it is needed

    def command(self):
        """The command line of the process that makes it."""
        if self.kind == "sbx":
            # the launcher is the Python of SBX's environment
            program = [str(ROOT / "benchmark" / "sbx_child.py"), self.algo]
        else:
            program = [sys.executable, __file__, "child", self.kind, self.algo]
        return [*self.launcher, *program, json.dumps(self.flags)]


def run(job, threads):
    """The figures of one measurement, made in a process of its own."""
    command = job.command()
    # mpirun is beside python
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = os.environ | {"OMP_NUM_THREADS": str(threads), "PATH": path}
    if job.shim:
        env |= shim_environment()
    env["BEGUN"] = str(time.time())
    done = subprocess.run(command, capture_output=True, env=env, encoding="utf-8", errors="replace")
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def turns(a, *jobs):
    """The figures of each job, (rounds, figures), measured in turns."""
    figures = [[] for _ in jobs]
    for _ in range(a.rounds):
        for job, rows in zip(jobs, figures):
            rows.append(run(job, a.threads))
    return [np.array(rows) for rows in figures]


def rate(figures):
    """Steps per second of each turn."""
    return figures[:, 0] / figures[:, 1]


# Tables -------------------------------------------------------------------------------------------


def spread(x, form="{:.2f}"):
    """Median (min to max)."""
    middle, low, high = (form.format(f(x)) for f in (np.median, np.min, np.max))
    return f"{middle} ({low} to {high})"


def whole(x):
    """Median (min to max) as integers."""
    return spread(x, "{:.0f}")


def table(title, *columns, note=None):
    """Prints a title, a note if there is one, and the head of a table."""
    print(f"\n### {title}\n")
    if note:
        print(f"{note}\n")
    row(*columns)
    print("|" + " --- |" * len(columns), flush=True)


def row(*cells):
    """Prints a row of a table."""
    print(f"| {' | '.join(cells)} |", flush=True)


def memory(ours, theirs):
    """The cell with the peak memory of both."""
    if resource is None:
        return "not measured: Python has no `resource` module here"
    return f"{ours[:, 2].max():.0f} / {theirs[:, 2].max():.0f}"


def compare(a, name, algo, flags):
    """Prints a row: a script against Stable-Baselines3."""
    ours, theirs = turns(a, Job("ours", algo, flags), Job("sb3", algo, flags))
    ratio = rate(ours) / rate(theirs)
    row(name, whole(rate(ours)), whole(rate(theirs)), spread(ratio), memory(ours, theirs))


def compare_compiled(a, name, algo, flags, shim=True):
    """Prints a row: a script, eager and compiled, against Stable-Baselines3."""
    jobs = [Job("ours", algo, flags, shim=shim), Job("sb3", algo, flags, shim=shim)]
    if has_compiler():
        jobs.append(Job("ours", algo, flags | {"compile": True}, shim=shim))
    ours, theirs, *compiled = turns(a, *jobs)

    ratio = rate(ours) / rate(theirs)
    cells = [whole(rate(ours)), whole(rate(theirs)), spread(ratio)]
    for figures in compiled:
        cells += [whole(rate(figures)), spread(rate(figures) / rate(theirs))]
    if not compiled:
        cells += ["no C++ compiler", "–"]
    row(name, *cells, memory(ours, theirs))


def has_compiler():
    """Whether there is the C++ compiler that torch looks for."""
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    return shutil.which(os.environ.get("CXX", usual)) is not None


def without_shim():
    """Whether it makes a difference to measure without the shim, and that can be done."""
    return bool(shim_environment())


PEERS = ("", "ours, steps/s", "SB3, steps/s", "ratio")
MEMORY = "peak memory, MiB, ours / SB3"


def peers(a):
    compiled = ("ours, --compile", "ratio --compile / SB3")
    table("Against Stable-Baselines3", *PEERS, *compiled, MEMORY)
    names = {
        "vpg": "VPG, A2C at its defaults",
        "trpo": "TRPO, matched",
        "ppo": "PPO, both at their defaults",
    }
    rows = []
    for algo in a.algos:
        if algo in ON_POLICY:
            rows.append((names[algo], algo, {}))
            continue
        for batch_size in (100, 256):
            name = f"{algo.upper()}, batch {batch_size}, matched"
            rows.append((name, algo, {"batch_size": batch_size}))

    for name, algo, flags in rows:
        compare_compiled(a, name, algo, flags)
        if without_shim():
            compare_compiled(a, f"{name}, without the shim", algo, flags, shim=False)


SBX = (
    "",
    "ours, steps/s",
    "ours, --compile",
    "SBX, steps/s",
    "ratio --compile / SBX",
    "ratio --compile / ours",
    "start-up, s: ours",
    "ours, --compile",
    "SBX",
)
SBX_NOTE = """\
Every process on one core; the first two epochs do not count. Start-up: from the command to the end
of the first epoch, updates and compilation included. torch's compiler keeps its results from one
turn to the next, and its cache is empty before the first row; SBX compiles anew every time."""


def sbx(a):
    table("Against SBX (Stable-Baselines3 in JAX)", *SBX, note=SBX_NOTE)
    rows = []
    for algo in a.algos:
        if algo == "ppo":
            rows.append(("PPO, both at their defaults", algo, {}))
        elif algo in OFF_POLICY:
            for batch_size in (100, 256):
                name = f"{algo.upper()}, batch {batch_size}, matched"
                rows.append((name, algo, {"batch_size": batch_size}))

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
        with mock.patch.dict(os.environ, {"TORCHINDUCTOR_CACHE_DIR": cache}):
            for name, algo, flags in rows:
                compare_sbx(a, name, algo, flags)


def compare_sbx(a, name, algo, flags):
    """Prints a row: a script, eager and compiled, against SBX. A second row is without the shim."""
    compiled = flags | {"compile": True}
    jobs = [
        Job("pinned", algo, flags),
        Job("pinned", algo, compiled),
        Job("sbx", algo, sbx_settings(algo, flags), (a.sbx_python,), shim=False),
    ]
    if without_shim():
        jobs.append(Job("pinned", algo, flags, shim=False))
        jobs.append(Job("pinned", algo, compiled, shim=False))
    ours, fast, theirs, *others = turns(a, *jobs)

    row_sbx(name, ours, fast, theirs)
    if others:
        row_sbx(f"{name}, without the shim", *others, theirs)


def row_sbx(name, ours, fast, theirs):
    """Prints a row, of the figures (steps, seconds, start-up) of all three."""
    rates = [whole(rate(figures)) for figures in (ours, fast, theirs)]
    ratios = [spread(rate(fast) / rate(theirs)), spread(rate(fast) / rate(ours))]
    starts = [spread(figures[:, 2], "{:.1f}") for figures in (ours, fast, theirs)]
    row(name, *rates, *ratios, *starts)


def sbx_settings(algo, flags):
    """What sbx_child.py needs to know: how long to run, and the model's keyword arguments."""
    from benchmark.sb3 import off_policy_settings

    script = importlib.import_module(algo)
    a = script.Args(**short_for_sbx(algo) | flags)
    settings = {}
    act_noise = None
    if algo in OFF_POLICY:
        # HalfCheetah's actions
        action_space = gym.spaces.Box(-1, 1, (6,))
        settings = off_policy_settings(algo, a, action_space)
        # cannot be JSON: the child makes it
        if settings.pop("action_noise", None) is not None:
            act_noise = a.act_noise
        settings["qf_learning_rate"] = a.q_lr
    return {
        "settings": settings,
        "act_noise": act_noise,
        "total_timesteps": a.total_timesteps,
        "steps_per_epoch": a.steps_per_epoch,
    }


def find_sbx(python):
    """Returns None if that Python has SBX, else a sentence that tells how to make one."""
    try:
        command = [python, "-c", "import sbx"]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
        found = done.returncode == 0
        reason = "".join(done.stderr.strip().splitlines()[-1:])
    except OSError as e:
        found = False
        reason = e.strerror
    if found:
        return None
    make = "python -m venv .venv-sbx"
    fill = ".venv-sbx/bin/python -m pip install -r benchmark/requirements-sbx.txt"
    return f"{python} cannot import sbx ({reason}); to make one that can: {make} && {fill}"


def hidden(a):
    table("Hidden units, two layers of each; short epochs and episodes", *PEERS, MEMORY)
    knobs = {
        "ppo": {"steps_per_epoch": 500, "total_timesteps": 2_000},
        "sac": {
            "steps_per_epoch": 250,
            "total_timesteps": 1_000,
            "max_episode_steps": 250,
            "update_after": 0,
        },
    }
    for algo in a.algos:
        if algo in knobs:
            for n in (64, 256, 1024):
                flags = knobs[algo] | {"hidden_sizes": (n, n)}
                compare(a, f"{algo.upper()}, {n}, matched", algo, flags)


def update(a):
    title = "An off-policy update against its matrix products, timed in the same shapes"
    table(title, "", "ms an update", "ms of its matrix products alone", "share of the floor")
    for algo in a.algos:
        if algo in OFF_POLICY:
            for batch_size in (100, 256):
                (x,) = turns(a, Job("update", algo, {"batch_size": batch_size}))
                ms = 1e3 * x[:, 1] / x[:, 0]
                floor = 1e3 * x[:, 2]
                name = f"{algo.upper()}, batch {batch_size}"
                row(name, spread(ms), spread(floor), spread(floor / ms))


def rollout(a):
    title = "Collection against the bare environment"
    table(title, "", "collection, steps/s", "environment, steps/s", "share")
    for algo in a.algos:
        if algo in ON_POLICY:
            ours, alone = turns(a, Job("rollout", algo, {}), Job("env", algo, {}))
            share = rate(ours) / rate(alone)
            row(algo.upper(), whole(rate(ours)), whole(rate(alone)), spread(share))


def ranks(a):
    title = "Ranks, epochs of 16,000 steps"
    table(title, "", "1 rank, steps/s", "2 ranks", "ratio", "4 ranks", "ratio")
    flags = {"steps_per_epoch": 16_000, "total_timesteps": 64_000}
    for algo in a.algos:
        if algo in ON_POLICY:
            jobs = [Job("ours", algo, flags, ("mpirun", "-np", str(n))) for n in (1, 2, 4)]
            one, two, four = (rate(figures) for figures in turns(a, *jobs))
            cells = [whole(one), whole(two), spread(two / one), whole(four), spread(four / one)]
            row(algo.upper(), *cells)


def stored(a):
    table("Transitions stored", "", "updates/s with 10^4", "with 10^6", "ratio")
    for algo in a.algos:
        if algo in OFF_POLICY:
            jobs = [Job("stored", algo, {"stored": n}) for n in (10**4, 10**6)]
            few, many = (rate(figures) for figures in turns(a, *jobs))
            row(algo.upper(), whole(few), whole(many), spread(many / few))


def start(a):
    table("From the command to the first step, warm disk", "", "seconds")
    for algo in a.algos:
        seconds = [time_start(algo) for _ in range(1 + a.rounds)]
        # the first warms the disk
        row(f"`python {algo}.py`", spread(seconds[1:]))


def time_start(algo):
    """Seconds from the command to the line that a script prints before its first step."""
    command = [sys.executable, ROOT / f"{algo}.py"]
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        process.stderr.readline()
        seconds = time.perf_counter() - begin
        process.kill()
        process.communicate()
    return seconds


# Command line -------------------------------------------------------------------------------------


TABLES = {
    "peers": peers,
    "sbx": sbx,
    "update": update,
    "rollout": rollout,
    "ranks": ranks,
    "stored": stored,
    "hidden": hidden,
    "start": start,
}
Table = Literal[tuple(TABLES)]
Script = Literal[SCRIPTS]
# SBX needs an environment of its own
USUAL_TABLES = tuple(name for name in TABLES if name != "sbx")


@dataclass
class Args:
    tables: tyro.conf.Positional[tuple[Table, ...]] = USUAL_TABLES  # tables to make
    algos: tuple[Script, ...] = SCRIPTS  # scripts to measure
    rounds: int = 3  # turns of each comparison
    threads: int = 1  # torch's threads in each process
    sbx_python: str = ".venv-sbx/bin/python"  # Python of SBX's virtual environment


def describe_processors():
    """How many processors there are, and of which model."""
    models = []
    # Linux has it
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                models.append(line.split(": ")[1])
    if models:
        return f"{len(models)} cores ({models[0]})"
    return f"{os.cpu_count()} cores ({platform.processor()})"


def main(a):
    """Makes the tables; returns the exit code."""
    if "sbx" in a.tables:
        complaint = find_sbx(a.sbx_python)
        if complaint is None and not has_compiler():
            complaint = "sbx also measures --compile, which needs a C++ compiler"
        if complaint:
            print(f"throughput.py: {complaint}", file=sys.stderr)
            return 2

    command = " ".join(["python benchmark/throughput.py", *sys.argv[1:]])
    commit = subprocess.getoutput(f"git -C '{ROOT}' describe --always --dirty")
    date = time.strftime("%Y-%m-%d")
    print(f"`{command}`, commit {commit}, {date};")

    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    print(f"{describe_processors()}, {a.threads} thread(s), {versions}")
    print(describe_shim(), flush=True)

    for name in a.tables:
        TABLES[name](a)
    return 0


if __name__ == "__main__":
    replace_unprintable()
    if sys.argv[1:2] == ["child"]:
        kind, algo, flags = sys.argv[2:]
        child(kind, algo, json.loads(flags))
    else:
        sys.exit(main(tyro.cli(Args)))
