"""Environments with a fault each.

With this folder on PYTHONPATH: `python ppo.py --env-id faulty_envs:RewardNaN-v0`.
"""

import os

import gymnasium as gym
import numpy as np


class Faulty(gym.Env):
    """Random observations; the fault occurs at step `at`, counted over all episodes."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)

    def __init__(self, fault=None, at=137, discrete=False, render_mode=None):
        self.action_space = (
            gym.spaces.Discrete(2) if discrete else gym.spaces.Box(-1, 1, (2,), np.float32)
        )
        self.fault, self.at, self.n = fault, at, 0

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.normal(size=3).astype(np.float32), {}

    def step(self, a):
        self.n += 1
        s, r = self.np_random.normal(size=3).astype(np.float32), 1.0
        fault = self.fault if self.n == self.at else None
        if fault == "raise" or (fault == "raise on rank 1" and os.environ.get("PMI_RANK") == "1"):
            raise ArithmeticError("the simulation diverged")
        if fault == "reward":
            r = np.nan
        if fault == "observation":
            s[1] = np.nan
        if fault == "shape":
            s = s[:2]
        return s, r, self.fault == "ends at once", False, {}


class Corridor(gym.Env):
    """Walks right through cells 0 to 5; the observation is one array that every step overwrites."""

    observation_space = gym.spaces.Box(0, 5, (1,), np.float32)

    def __init__(self, discrete=True, render_mode=None):
        self.action_space = (
            gym.spaces.Discrete(2) if discrete else gym.spaces.Box(-1, 1, (1,), np.float32)
        )
        self.discrete, self.s = discrete, np.zeros(1, np.float32)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.s[:] = 0
        return self.s, {}

    def step(self, a):
        self.s += 1
        r = {0: 0.0, 1: 1.0}[a] if self.discrete else 0.0  # fails if a is an array
        return self.s, r, bool(self.s[0] == 5), False, {}


def register(name, limit=50, **kwargs):
    gym.register(name, Faulty, max_episode_steps=limit, kwargs=kwargs)


register("Endless-v0", limit=None)
gym.register("Corridor-v0", Corridor, max_episode_steps=50)
gym.register("BoxCorridor-v0", Corridor, max_episode_steps=50, kwargs={"discrete": False})
gym.register("NoRenderMode-v0", lambda: Faulty(), max_episode_steps=50)
register("Raises-v0", fault="raise")
register("RaisesOnRank1-v0", fault="raise on rank 1")
register("WrongShape-v0", fault="shape")
register("EndsAtOnce-v0", fault="ends at once")
register("RewardNaN-v0", fault="reward")
register("ObservationNaN-v0", fault="observation")
register("LastObservationNaN-v0", fault="observation", at=150)
register("DiscreteObservationNaN-v0", fault="observation", discrete=True)
