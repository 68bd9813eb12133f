"""Measures SBX, Stable-Baselines3 in JAX, in its own virtual environment; throughput.py starts it.

    python sbx_child.py sac '{"settings": {"batch_size": 256}, "act_noise": null,
        "total_timesteps": 5000, "steps_per_epoch": 1000}'

Prints, as JSON, the steps and seconds of the rollouts that begin after two of our epochs, and the
start-up: from $BEGUN, the Unix time of the command, to the first rollout after one of our epochs.
It imports nothing of ours, since that environment lacks what our scripts need.
"""

import json
import os
import sys
import time
import warnings

# JAX ignores OMP_NUM_THREADS, and its threads spin: it gets one core before it starts any
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import gymnasium as gym
import numpy as np
import sbx
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import NormalActionNoise


class Clock(BaseCallback):
    """Notes the steps and the time whenever a rollout begins, and at the end."""

    def __init__(self):
        super().__init__()
        self.times = []

    def _on_step(self):
        return True

    def _on_rollout_start(self):
        self.times.append((self.num_timesteps, time.time()))

    def _on_training_end(self):
        self.times.append((self.num_timesteps, time.time()))


def first_after(times, step):
    """The first of the times, (step, time), with that many steps."""
    return next(x for x in times if x[0] >= step)


def main(algo, job):
    """Trains SBX's version of a script, and prints the figures."""
    warnings.filterwarnings("ignore", message=".*out of date")
    env = gym.make("HalfCheetah-v4")
    settings = job["settings"]
    if "train_freq" in settings:
        # JSON has no tuples
        settings["train_freq"] = tuple(settings["train_freq"])
    if job["act_noise"] is not None:
        act_dim = env.action_space.shape[0]
        sigma = np.full(act_dim, job["act_noise"])
        settings["action_noise"] = NormalActionNoise(np.zeros(act_dim), sigma)

    model = getattr(sbx, algo.upper())("MlpPolicy", env, **settings)
    clock = Clock()
    model.learn(job["total_timesteps"], clock)

    epoch = job["steps_per_epoch"]
    _, first_end = first_after(clock.times, epoch)
    begin_step, begin = first_after(clock.times, 2 * epoch)
    last_step, end = clock.times[-1]
    start_up = first_end - float(os.environ["BEGUN"])
    print(json.dumps([last_step - begin_step, end - begin, start_up]))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
