"""Every algorithm learns two easy tasks, each in a minute or so.

Flags differ from the defaults only because those are made for runs of a million steps.
Of 107 runs with seeds 10 to 19, which chose nothing here, 104 reached their goal in one of the last
three epochs, 98 in the very last; no case missed it with more than one seed of ten.
"""

import csv
import importlib

import pytest

SHORT = dict(start_steps=1000, steps_per_epoch=2500, hidden_sizes=(64, 64))

CASES = [
    # script, environment, return to reach, budget, flags
    ("vpg", "CartPole-v1", 195, 60_000, dict(pi_lr=1e-2)),
    ("trpo", "CartPole-v1", 400, 60_000, dict()),
    ("ppo", "CartPole-v1", 400, 48_000, dict(pi_lr=3e-3)),
    ("ddpg", "Pendulum-v1", -250, 10_000, SHORT),
    ("td3", "Pendulum-v1", -250, 10_000, SHORT),
    ("sac", "Pendulum-v1", -250, 10_000, SHORT),
    # not VPG: with pi_lr = 1e-2 it reached 150 to 310 after 100,000 steps
    ("trpo", "InvertedPendulum-v4", 500, 44_000, dict(steps_per_epoch=2000)),
    ("ppo", "InvertedPendulum-v4", 500, 44_000, dict(steps_per_epoch=2000)),
    ("ddpg", "InvertedPendulum-v4", 500, 25_000, SHORT),
    ("td3", "InvertedPendulum-v4", 500, 25_000, SHORT),
    ("sac", "InvertedPendulum-v4", 500, 15_000, SHORT),
]


def best_return(name, env_id, seed, budget, flags):
    """The best mean return of the last three epochs: of test episodes, or, on-policy, in training.

    Three, not one: DDPG reaches 1000 on InvertedPendulum and may lose it again. Nine of nine seeds
    reached it within the budget, and two of them had lost it at the last test.
    """
    script = importlib.import_module(name)
    folder = script.train(script.Args(env_id=env_id, seed=seed, total_timesteps=budget, **flags))
    with open(folder / "progress.csv", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    column = "eval/episodic_return"
    if column not in rows[0]:
        column = "charts/episodic_return"
    return max(float(row[column]) for row in rows[-3:])


@pytest.mark.parametrize(
    "name, env_id, goal, budget, flags", CASES, ids=[f"{case[0]}-{case[1]}" for case in CASES]
)
def test_learns(name, env_id, goal, budget, flags, tmp_path, monkeypatch):
    """Two of three seeds reach the goal; the third runs only if the first two disagree."""
    monkeypatch.chdir(tmp_path)
    returns = [best_return(name, env_id, seed, budget, flags) for seed in (1, 2)]
    if (returns[0] >= goal) != (returns[1] >= goal):
        returns.append(best_return(name, env_id, 3, budget, flags))
    reached = sum(x >= goal for x in returns)
    assert reached >= 2, returns
