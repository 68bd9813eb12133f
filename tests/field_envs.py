"""Small environments of the kinds that people bring: `--env-id field_envs:Thermostat-v0`.

This folder must be on PYTHONPATH. They are right, each in a way of its own; faulty_envs.py has
those in which something is wrong.
"""

import os
import random
import socket
import threading
import time

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Sequence, Tuple
from stable_baselines3.common.running_mean_std import RunningMeanStd


class Base(gym.Env):
    """One state, episodes of 10 steps, reward −|a|; keeps the actions it receives."""

    observation_space = Box(-1, 1, (2,), np.float32)
    action_space = Box(-1, 1, (1,), np.float32)
    closed = 0  # environments, of every kind, that were closed

    def __init__(self, **spaces):
        vars(self).update(spaces)
        self.received = []

    def observe(self):
        return np.zeros(self.observation_space.shape, self.observation_space.dtype)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        return self.observe(), {}

    def reward(self, a):
        return -float(np.abs(a).sum())

    def step(self, a):
        self.received.append(a)
        return self.observe(), self.reward(a), False, False, {}

    def close(self):
        Base.closed += 1


# Spaces -------------------------------------------------------------------------------------------


class Strict(Base):
    """Insists on its bounds, as environments for real machines do."""

    def step(self, a):
        assert self.action_space.contains(a), repr(a)
        return super().step(a)


class Thermostat(Strict):
    """15 to 30 degrees; 18.75 is best."""

    action_space = Box(15, 30, (1,), np.float32)

    def reward(self, a):
        return -abs((float(a[0]) - 15) / 15 - 0.25)


class Observes(Base):
    """Observes random elements of a space."""

    def observe(self):
        return self.observation_space.sample()


OBSERVATIONS = {
    "Dict": Dict(at=Box(-1, 1, (2,), np.float32), key=Discrete(3)),
    "Tuple": Tuple([Discrete(4), Dict(x=MultiBinary(2), y=Box(0, 1, (2, 2)))]),
    "Discrete": Discrete(5, start=2),
    "MultiDiscrete": MultiDiscrete([3, 4]),
    "MultiBinary": MultiBinary([2, 3]),
    "Matrix": Box(-1, 1, (2, 3), np.float64),
    "Number": Box(-1, 1, (), np.float32),
    "Bytes": Box(0, 255, (6,), np.uint8),
}
IMAGES = {
    "Image": Box(0, 255, (8, 8, 3), np.uint8),
    "Grey": Box(0, 255, (8, 8), np.uint8),
    "Camera": Dict(camera=Box(0, 255, (8, 8, 3), np.uint8), speed=Box(-1, 1, (1,))),
}


class Wide(Base):
    """Bounds beyond float32."""

    observation_space = Box(-np.finfo(np.float64).max, np.finfo(np.float64).max, (2,), np.float64)


class Huge(Base):
    observation_space = Box(-1, 1, (100_000,), np.float32)


class NanAtReset(Base):
    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        return np.full(2, np.nan, np.float32), {}


class NumpyRewards(Base):
    """Rewards of a type that PyTorch's and NumPy's users return by accident."""

    def reward(self, a):
        return np.float32(0.1)


# Random numbers -----------------------------------------------------------------------------------


class PythonRandom(Base):
    def observe(self):
        return np.float32([random.random(), 0])


class NumpyRandom(Base):
    def observe(self):
        return np.float32([np.random.uniform(), 0])


class SpaceRandom(Base):
    """Draws from its space, which belongs to the class: all environments of the class share it."""

    def observe(self):
        return self.observation_space.sample()


class Constructor(Base):
    """Draws its goal when it is made."""

    def __init__(self):
        super().__init__()
        self.goal = np.random.uniform(-1, 1) + random.random()

    def reward(self, a):
        return -abs(float(a[0]) - self.goal)


class OldGenerator(Base):
    """np_random is a RandomState, as dm_control's by way of shimmy."""

    kind = np.random.RandomState

    def reset(self, seed=None, options=None):
        if seed is not None or not hasattr(self, "generator"):
            self.generator = self.kind(seed)
        return self.observe(), {}

    @property
    def np_random(self):
        return self.generator

    def observe(self):
        return np.float32([self.generator.uniform(0, 1), 0])


class PythonGenerator(OldGenerator):
    kind = random.Random


class Lehmer:
    """A generator of the environment's own."""

    def __init__(self, seed):
        self.x = (seed or 1) % (2**31 - 2) + 1

    def uniform(self, low, high):
        self.x = self.x * 48271 % (2**31 - 1)
        return low + (high - low) * self.x / 2**31


class UnknownGenerator(OldGenerator):
    kind = Lehmer


class OneDraw(Base):
    """Draws a number a step, which says nothing of the action."""

    def step(self, a):
        self.received.append((float(a[0]), self.np_random.uniform(-1, 1)))
        return self.observe(), 0.0, False, False, {}


# Wrappers that learn ------------------------------------------------------------------------------


class Far(gym.ObservationWrapper):
    """Observations that are far from the order of one."""

    def __init__(self, env):
        super().__init__(env)
        self.observation_space = Box(-np.inf, np.inf, env.observation_space.shape, np.float32)

    def observation(self, s):
        return (100 * s + 300).astype(np.float32)


class OwnNormaliser(gym.ObservationWrapper):
    """Somebody's own wrapper, with the running statistics of Stable-Baselines3."""

    def __init__(self, env):
        super().__init__(env)
        self.obs_rms = RunningMeanStd(shape=env.observation_space.shape)

    def observation(self, s):
        self.obs_rms.update(s[None])
        return (s - self.obs_rms.mean) / np.sqrt(self.obs_rms.var + 1e-8)


def normalised(env_id="CartPole-v1", **kwargs):
    return gym.wrappers.NormalizeObservation(Far(gym.make(env_id, **kwargs)))


def rewarded(env_id="Pendulum-v1", **kwargs):
    return gym.wrappers.NormalizeReward(gym.make(env_id, **kwargs))


def own(env_id="Pendulum-v1", **kwargs):
    return OwnNormaliser(Far(gym.make(env_id, **kwargs)))


# Life cycle and pictures --------------------------------------------------------------------------


class Threaded(Base):
    """A simulator with a thread that ends at close(); without it, Python waits for ever."""

    def __init__(self, fault=None):
        super().__init__()
        self.fault = fault
        self.running = True
        self.steps = 0
        threading.Thread(target=self.loop).start()

    def loop(self):
        while self.running:
            time.sleep(0.05)

    def step(self, a):
        self.steps += 1
        if self.steps == 60 and self.fault == "raise":
            raise ArithmeticError("the simulation diverged")
        if self.steps > 60 and self.fault == "slow":
            time.sleep(0.05)
        return super().step(a)

    def close(self):
        super().close()
        self.running = False


class BadEnd(Base):
    def close(self):
        raise ConnectionError("the simulator has gone")


class OneInstance(Base):
    """A simulator behind a port: a second instance cannot start."""

    def __init__(self):
        super().__init__()
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", int(os.environ.get("FIELD_PORT", 50_605))))

    def close(self):
        self.socket.close()


class NoPictures(Base):
    """Says that it renders, and gives None."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012

    def __init__(self, render_mode=None):
        super().__init__()
        self.render_mode = render_mode

    def render(self):
        return None


class Kwargs(Base):
    """Takes arguments of its own."""

    def __init__(self, goal=0.0, wind=False):
        super().__init__()
        self.goal = goal
        self.wind = wind

    def reward(self, a):
        return self.goal


def register(name, entry_point, limit=10, **kwargs):
    gym.register(f"{name}-v0", entry_point, max_episode_steps=limit, kwargs=kwargs)


for cls in (Base, Strict, Thermostat, Wide, Huge, NanAtReset, NumpyRewards, PythonRandom):
    register(cls.__name__, cls)
for cls in (NumpyRandom, SpaceRandom, Constructor, OldGenerator, PythonGenerator, OneDraw, BadEnd):
    register(cls.__name__, cls)
for cls in (UnknownGenerator, Threaded, OneInstance, NoPictures, Kwargs):
    register(cls.__name__, cls)
for name, space in (OBSERVATIONS | IMAGES).items():
    register(name, Observes, observation_space=space)
register("Sequence", Observes, observation_space=Sequence(Box(-1, 1, (2,))))
register("ThreadedRaises", Threaded, fault="raise")
register("ThreadedSlow", Threaded, fault="slow")
register("Choices", Base, action_space=Discrete(3, start=5))
register("Normalised", normalised, limit=None)  # the limit is CartPole's own
register("NormalisedPendulum", normalised, limit=25, env_id="Pendulum-v1")
register("Rewarded", rewarded, limit=25)
register("Own", own, limit=25)
