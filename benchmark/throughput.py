"""Speed: the scripts against Stable-Baselines3, in turns, and against the floor. Prints Markdown.

    python benchmark/throughput.py                     everything
    python benchmark/throughput.py peers --algos sac   one table: peers, update, rollout, ranks, stored, hidden, start

Every figure is taken in a process of its own (HalfCheetah-v4, --threads threads, no test episodes); the first epoch
does not count. Where two are compared they run in turns, A B A B, and the ratio is that of each turn: median (min to
max).
"""

import importlib
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import gymnasium as gym
import numpy as np
import torch
import tyro
from torch.utils._python_dispatch import TorchDispatchMode

ROOT = Path(__file__).resolve().parent.parent
ON_POLICY, OFF_POLICY = ("vpg", "trpo", "ppo"), ("ddpg", "td3", "sac")
SHORT = {algo: dict(total_timesteps=48_000) for algo in ON_POLICY}
SHORT |= {algo: dict(total_timesteps=4_000, steps_per_epoch=1_000, start_steps=1_000) for algo in OFF_POLICY}


def measure_ours(algo, flags):
    """Steps and seconds of the epochs after the first, from progress.csv."""
    script = importlib.import_module(algo)
    off = {} if algo in ON_POLICY else {"num_test_episodes": 0}
    run = script.train(script.Args(**SHORT[algo] | off | flags))
    if script.logx.rank:
        sys.exit()  # the figures are with rank 0
    rows = np.genfromtxt(run / "progress.csv", delimiter=",", names=True)
    return rows["global_step"][-1] - rows["global_step"][0], rows["time"][-1] - rows["time"][0]


def measure_sb3(algo, flags):
    """Steps and seconds of what follows the first rollout that ends at or after our first epoch."""
    import sb3
    from stable_baselines3.common.callbacks import BaseCallback

    script = importlib.import_module(algo)
    a = script.Args(**SHORT[algo] | flags)
    a.defaults = algo == "ppo" and "hidden_sizes" not in flags
    times = []

    class Clock(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_start(self):
            times.append((self.num_timesteps, time.perf_counter()))

        _on_training_end = _on_rollout_start

    env = (sb3.logx if algo in ON_POLICY else script).make_env(a)
    sb3.make_model(algo, a, env).learn(a.total_timesteps, Clock())
    times = [t for t in times if t[0] >= a.steps_per_epoch]
    return times[-1][0] - times[0][0], times[-1][1] - times[0][1]


def measure_env(algo, flags):
    """The environment alone, with actions drawn beforehand."""
    env = gym.make("HalfCheetah-v4")
    actions = np.random.uniform(-1, 1, (1_000, 6)).astype(np.float32)
    steps, begin = 20_000, time.perf_counter()
    for t in range(steps):
        if t % 1_000 == 0:
            env.reset()
        env.step(actions[t % 1_000])
    return steps, time.perf_counter() - begin


def measure_rollout(algo, flags):
    """A script's collection without its updates."""
    script = importlib.import_module(algo)
    script.compute_batch = lambda *_: None
    script.update_pi = script.update_v = lambda *_: {}
    return measure_ours(algo, flags)


class Products(TorchDispatchMode):
    """Notes the matrix products that happen under it, as (function, shapes and strides of its tensors)."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, f, types, args=(), kwargs=None):
        if f.overloadpacket.__name__ in ("mm", "addmm", "bmm", "baddbmm"):
            self.seen.append((f, [(x.shape, x.stride()) for x in args if isinstance(x, torch.Tensor)]))
        return f(*args, **(kwargs or {}))


def measure_update(algo, flags, stored=10_000):
    """Gradient steps and their seconds, from batch to batch, and the seconds of their matrix products alone."""
    script = importlib.import_module(algo)
    times, products = [], Products()

    class Buffer(script.ReplayBuffer):
        def __init__(self, *sizes):
            super().__init__(*sizes)
            self.n = stored
            for x in self.data:
                x[:stored].uniform_(0, 1)

        def sample(self, batch_size):
            times.append(time.perf_counter())
            if len(times) == 501:
                products.__enter__()
            elif len(times) == 505:  # four: a multiple of TD3's policy delay
                products.__exit__(None, None, None)
            return super().sample(batch_size)

    script.ReplayBuffer = Buffer
    run = dict(total_timesteps=2_000, start_steps=0, num_test_episodes=0)
    script.train(script.Args(**run | flags))
    updates = np.diff(times)[600:990]
    operands = []
    for f, tensors in products.seen:
        sizes = [1 + sum((n - 1) * m for n, m in zip(shape, stride)) for shape, stride in tensors]
        xs = [torch.rand(n).as_strided(*t) for n, t in zip(sizes, tensors)]
        operands.append((f, xs))
    floors = []
    with torch.no_grad():
        for _ in range(50):
            begin = time.perf_counter()
            for f, xs in operands:
                f(*xs)
            floors.append((time.perf_counter() - begin) / 4)
    return len(updates), updates.sum(), float(np.median(floors))


def measure_stored(algo, flags):
    """As measure_update, with flags["stored"] transitions in the buffer."""
    return measure_update(algo, {k: v for k, v in flags.items() if k != "stored"}, flags["stored"])


def child(kind, algo, flags):
    """What one process measures, on its last line of output."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        figures = globals()[f"measure_{kind}"](algo, flags)
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    print(json.dumps([*map(float, figures), kib / 1024]))


def run(kind, algo, flags, threads, launcher=()):
    """One measurement in a process of its own; the numbers that it printed."""
    command = [*launcher, sys.executable, __file__, "child", kind, algo, json.dumps(flags)]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # mpirun is beside python
    env = os.environ | {"OMP_NUM_THREADS": str(threads), "PATH": path}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def turns(a, rounds, *jobs):
    """Figures of each job, (rounds, figures), measured in turns."""
    figures = [[run(*job[:3], a.threads, *job[3:]) for job in jobs] for _ in range(rounds)]
    return [np.array(x) for x in zip(*figures)]


def spread(x, form="{:.2f}"):
    return "{} ({} to {})".format(*(form.format(f(x)) for f in (np.median, np.min, np.max)))


def table(title, *columns):
    print(f"\n### {title}\n\n| {' | '.join(columns)} |\n|{' --- |' * len(columns)}", flush=True)


def line(*cells):
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def compare(a, name, algo, flags):
    ours, theirs = turns(a, a.rounds, ("ours", algo, flags), ("sb3", algo, flags))
    rate, peer = ours[:, 0] / ours[:, 1], theirs[:, 0] / theirs[:, 1]
    memory = f"{ours[:, 2].max():.0f} / {theirs[:, 2].max():.0f}"
    line(name, spread(rate, "{:.0f}"), spread(peer, "{:.0f}"), spread(rate / peer), memory)


PEERS = ("ours, steps/s", "SB3, steps/s", "ratio", "peak memory, MiB, ours / SB3")


def peers(a):
    table("Against Stable-Baselines3", "", *PEERS)
    for algo in a.algos:
        if algo in ON_POLICY:
            names = {"ppo": "PPO, both at their defaults", "trpo": "TRPO, matched", "vpg": "VPG, A2C at its defaults"}
            compare(a, names[algo], algo, {})
        else:
            for batch_size in (100, 256):
                compare(a, f"{algo.upper()}, batch {batch_size}, matched", algo, {"batch_size": batch_size})


def hidden(a):
    table("Hidden units, two layers of each; short epochs and episodes", "", *PEERS)
    short = {"ppo": dict(steps_per_epoch=500, total_timesteps=2_000)}
    short["sac"] = dict(steps_per_epoch=250, total_timesteps=1_000, max_episode_steps=250, update_after=0)
    for algo in [x for x in a.algos if x in short]:
        for n in (64, 256, 1024):
            compare(a, f"{algo.upper()}, {n}, matched", algo, short[algo] | {"hidden_sizes": (n, n)})


def update(a):
    columns = ("ms an update", "ms of its matrix products alone", "share of the floor")
    table("An off-policy update against its matrix products, timed in the same shapes", "", *columns)
    for algo in [x for x in a.algos if x in OFF_POLICY]:
        for batch_size in (100, 256):
            (x,) = turns(a, a.rounds, ("update", algo, {"batch_size": batch_size}))
            whole, floor = 1e3 * x[:, 1] / x[:, 0], 1e3 * x[:, 2]
            line(f"{algo.upper()}, batch {batch_size}", spread(whole), spread(floor), spread(floor / whole))


def rollout(a):
    table("Collection against the bare environment", "", "collection, steps/s", "environment, steps/s", "share")
    for algo in [x for x in a.algos if x in ON_POLICY]:
        ours, bare = turns(a, a.rounds, ("rollout", algo, {}), ("env", algo, {}))
        rate, floor = ours[:, 0] / ours[:, 1], bare[:, 0] / bare[:, 1]
        line(algo.upper(), spread(rate, "{:.0f}"), spread(floor, "{:.0f}"), spread(rate / floor))


def ranks(a):
    table("Ranks, epochs of 16,000 steps", "", "1 rank, steps/s", "2 ranks", "ratio", "4 ranks", "ratio")
    for algo in [x for x in a.algos if x in ON_POLICY]:
        flags = dict(steps_per_epoch=16_000, total_timesteps=64_000)
        jobs = [("ours", algo, flags, ("mpirun", "-np", str(n))) for n in (1, 2, 4)]
        one, two, four = (x[:, 0] / x[:, 1] for x in turns(a, a.rounds, *jobs))
        cells = [spread(one, "{:.0f}"), spread(two, "{:.0f}"), spread(two / one), spread(four, "{:.0f}")]
        line(algo.upper(), *cells, spread(four / one))


def stored(a):
    table("Transitions stored", "", "updates/s with 10^4", "with 10^6", "ratio")
    for algo in [x for x in a.algos if x in OFF_POLICY]:
        few, many = turns(a, a.rounds, ("stored", algo, {"stored": 10**4}), ("stored", algo, {"stored": 10**6}))
        few, many = few[:, 0] / few[:, 1], many[:, 0] / many[:, 1]
        line(algo.upper(), spread(few, "{:.0f}"), spread(many, "{:.0f}"), spread(many / few))


def start(a):
    """Seconds from the command to the line that a script prints before its first step."""
    table("From the command to the first step, warm disk", "", "seconds")
    for algo in a.algos:
        seconds = []
        for _ in range(a.rounds + 1):
            begin = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, ROOT / f"{algo}.py"]
                process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
                process.stderr.readline()
                seconds.append(time.perf_counter() - begin)
                process.kill()
                process.communicate()
        line(f"`python {algo}.py`", spread(np.array(seconds[1:])))


Table = Literal["peers", "update", "rollout", "ranks", "stored", "hidden", "start"]
TABLES = get_args(Table)


@dataclass
class Args:
    tables: tyro.conf.Positional[tuple[Table, ...]] = TABLES  # which to make
    algos: tuple[Literal["vpg", "trpo", "ppo", "ddpg", "td3", "sac"], ...] = (*ON_POLICY, *OFF_POLICY)  # which scripts
    rounds: int = 3  # turns of each comparison
    threads: int = 1  # torch's threads in each process


def main(a):
    info = Path("/proc/cpuinfo")  # Linux has it
    lines = info.read_text().splitlines() if info.exists() else []
    cpu = [x.split(": ")[1] for x in lines if x.startswith("model name")] or [platform.processor()] * os.cpu_count()
    commit = subprocess.getoutput(f"git -C '{ROOT}' describe --always --dirty")
    print(f"`{' '.join(['python benchmark/throughput.py', *sys.argv[1:]])}`, commit {commit}, {time.strftime('%F')};")
    print(f"{len(cpu)} cores ({cpu[0]}), {a.threads} thread(s),", end=" ")
    print(f"Python {platform.python_version()}, torch {torch.__version__}")
    for name in a.tables:
        globals()[name](a)


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(sys.argv[2], sys.argv[3], json.loads(sys.argv[4]))
    else:
        main(tyro.cli(Args))
