"""Every algorithm learns two easy tasks, from a fixed seed, each in a minute or so.

Flags differ from the defaults only because those are made for runs of a million steps.
Of 107 runs with seeds 10 to 19, which chose nothing here, 98 were at their goal in the last epoch
and 104 in one of the last three: DDPG, for one, may lose on InvertedPendulum what it has reached.
With --compile each script learns its first task. Of DDPG's seeds 10 to 19 on InvertedPendulum, 7
ended at the goal without it and 10 with it, all after reaching 450 or more; seed 1, which does so
without, did not with it.
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


@pytest.mark.parametrize(
    "name, env_id, goal, budget, flags, compile",
    [(*case, False) for case in CASES] + [(*case, True) for case in CASES[:6]],
    ids=[f"{case[0]}-{case[1]}" for case in CASES] + [f"{case[0]}-compiled" for case in CASES[:6]],
)
def test_learns(name, env_id, goal, budget, flags, compile, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = importlib.import_module(name)
    knobs = dict(env_id=env_id, seed=1, total_timesteps=budget, compile=compile)
    folder = script.train(script.Args(**knobs, **flags))
    with open(folder / "progress.csv", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    column = "eval/episodic_return"
    if column not in rows[0]:
        column = "charts/episodic_return"
    assert float(rows[-1][column]) >= goal, [row[column] for row in rows]
