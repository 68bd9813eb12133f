"""Two environments twice: with an honest time limit of 100 steps, and with one that is reported as a termination.

python ppo.py --env-id exercises.set3.time_limits:InvertedPendulumTerminal-v0
"""

import gymnasium as gym

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
