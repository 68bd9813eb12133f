"""Two environments, twice each: with an honest time limit of 100 steps, and with one that lies.

    python ppo.py --env-id exercises.set3.time_limits:InvertedPendulumTerminal-v0

The one that lies reports the end of its time as a termination.
"""

import gymnasium as gym

LIMIT = 100


class Lie(gym.Wrapper):
    """Says that the environment has terminated when its time is over."""

    def step(self, action):
        s, r, terminated, truncated, info = self.env.step(action)
        return s, r, terminated or truncated, False, info


def make_honest(name, render_mode=None):
    env = gym.make(name, max_episode_steps=LIMIT, render_mode=render_mode)
    return (
        env.env
    )  # without its limit: gym.make adds the one registered below, as for any environment


def make_lying(name, render_mode=None):
    return Lie(gym.make(name, max_episode_steps=LIMIT, render_mode=render_mode))


for name in ("InvertedPendulum-v4", "Pendulum-v1"):
    short_name = name.split("-")[0]
    gym.register(
        f"{short_name}Cut-v0",
        entry_point=make_honest,
        kwargs={"name": name},
        max_episode_steps=LIMIT,
    )
    gym.register(
        f"{short_name}Terminal-v0",
        entry_point=make_lying,
        kwargs={"name": name},
        max_episode_steps=LIMIT + 1,  # so that the lie comes first
    )
