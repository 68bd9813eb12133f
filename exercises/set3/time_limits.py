"""Two environments twice: with an honest time limit of 100 steps, and with one that is reported as a termination.

python exercises/set3/time_limits.py                 makes the runs of the study, two at a time
python ppo.py --env-id exercises.set3.time_limits:InvertedPendulumTerminal-v0       one run of your own
"""

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import tyro

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LIMIT = 100


class Lie(gym.Wrapper):
    """Says that the environment has terminated when its time is over."""

    def step(self, action):
        s, r, terminated, truncated, info = self.env.step(action)
        return s, r, terminated or truncated, False, info


def make(name, lies, render_mode=None):
    env = gym.make(name, max_episode_steps=LIMIT, render_mode=render_mode)
    return Lie(env) if lies else env.env  # gym.make adds the honest limit, as for any environment


for name in ("InvertedPendulum-v4", "Pendulum-v1"):
    for ending, lies in (("Cut", False), ("Terminal", True)):
        gym.register(
            f"{name.split('-')[0]}{ending}-v0",
            entry_point=make,
            kwargs={"name": name, "lies": lies},
            max_episode_steps=LIMIT + lies,  # the lie comes first
        )

RUNS = {
    "ppo": ("InvertedPendulum", "--total-timesteps 60000 --steps-per-epoch 2000 --pi-lr 1e-3"),
    "ddpg": ("Pendulum", "--total-timesteps 10000 --steps-per-epoch 1000 --start-steps 1000 --hidden-sizes 64 64"),
}


@dataclass
class Args:
    seeds: int = 5  # runs of each kind
    results: Path = HERE / "results" / "time_limits"  # where the finished runs go; what is there already is skipped
    jobs: int = 2  # runs at a time


def run(job, args):
    """One run, in a folder of its own; its progress.csv and how it was made go to the results."""
    script, env, flags, seed = job
    path = args.results.resolve() / "ours" / script / env / f"{seed}.csv"
    if path.exists():
        return f"{path} is there"
    with tempfile.TemporaryDirectory() as folder:
        flags = [*flags.split(), "--env-id", f"exercises.set3.time_limits:{env}", "--seed", str(seed)]
        environ = os.environ | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(ROOT / f"{script}.py"), *flags]
        done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)
        if done.returncode:
            return f"{script} on {env}, seed {seed}, failed: {done.stderr.strip().splitlines()[-1]}"
        made = next(Path(folder, "runs").iterdir())
        config = json.dumps(json.loads((made / "config.json").read_text()))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {config}\n{(made / 'progress.csv').read_text()}")
    return str(path)


def main(args):
    jobs = [
        (script, f"{env}{ending}-v0", flags, seed)
        for script, (env, flags) in RUNS.items()
        for ending in ("Cut", "Terminal")
        for seed in range(args.seeds)
    ]
    with ThreadPoolExecutor(args.jobs) as pool:
        for i, said in enumerate(pool.map(lambda job: run(job, args), jobs), 1):
            print(f"{i} of {len(jobs)}: {said}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Args))
