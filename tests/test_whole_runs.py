"""What must hold of a whole run, whatever its numbers: what is logged, tested and resumed, and how ranks differ."""

import shutil
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from helpers import read_rows

import ddpg
import logx
import ppo
import sac
import td3
import trpo
import vpg


def siblings(*modules):
    return pytest.mark.parametrize("algo", modules, ids=lambda m: m.__name__)


ON_POLICY, OFF_POLICY = (vpg, trpo, ppo), (ddpg, td3, sac)
every, on_policy, off_policy = (
    siblings(*ON_POLICY, *OFF_POLICY),
    siblings(*ON_POLICY),
    siblings(*OFF_POLICY),
)


@pytest.fixture(autouse=True)
def folder_for_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def make_args(algo, **kwargs):
    """A short run of three epochs; in the second, DDPG, TD3 and SAC begin with updates and end with random actions."""
    fixed = dict(
        env_id="Pendulum-v1", max_episode_steps=25, total_timesteps=300, steps_per_epoch=100
    )
    if algo in ON_POLICY:
        fixed |= dict(train_v_iters=3)
    else:
        fixed |= dict(
            start_steps=150, update_after=101, num_test_episodes=1, batch_size=8, replay_size=200
        )
    if algo is sac:
        fixed |= dict(learn_alpha=True)
    return algo.Args(**fixed | dict(hidden_sizes=(8,)) | kwargs)


def tensors(x):
    """All tensors in nested dicts and lists, as one list."""
    if isinstance(x, dict | list | tuple):
        return [t for y in (x.values() if isinstance(x, dict) else x) for t in tensors(y)]
    return [x] if torch.is_tensor(x) else []


def all_equal(x, y):
    return all(torch.equal(a, b) for a, b in zip(tensors(x), tensors(y), strict=True))


# the environment


@every
def test_an_observation_stays_as_it_was_when_the_environment_changes_its_own_in_place(algo):
    env_id = f"faulty_envs:{'Corridor' if algo in ON_POLICY else 'BoxCorridor'}-v0"
    args = make_args(algo, env_id=env_id)
    env = algo.make_env(args)
    ac = algo.ActorCritic(env.observation_space, env.action_space, args)
    path = [env.reset(seed=0)[0]]
    path += [
        env.step(algo.get_action(ac, path[-1]))[0] for _ in range(3)
    ]  # a Discrete action arrives as a number
    assert np.ravel(path).tolist() == [0, 1, 2, 3]
    assert all(s.dtype == np.float32 for s in path)


# what is logged


class Diary(gym.Env):
    """Random rewards in episodes of 4 steps; those that end are written down."""

    observation_space = action_space = Box(-1, 1, (2,))
    episodes = []  # noqa: RUF012

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.rewards = []
        return self.np_random.random(2, dtype=np.float32), {}

    def step(self, action):
        self.rewards.append(self.np_random.normal())
        if ended := len(self.rewards) == 4:
            self.episodes.append(sum(self.rewards))
        return self.np_random.random(2, dtype=np.float32), self.rewards[-1], ended, False, {}


@every
def test_logged_returns(algo, monkeypatch):
    """A row has the returns of the episodes that ended in its epoch; not of one cut, nor of an epoch before."""
    monkeypatch.setattr(Diary, "episodes", [])
    monkeypatch.setitem(
        gym.registry, "Diary-v0", gym.envs.registration.EnvSpec("Diary-v0", entry_point=Diary)
    )
    steps = 10 if algo in ON_POLICY else 8  # on-policy, the third episode is cut
    env = dict(
        env_id="Diary-v0", max_episode_steps=9, steps_per_epoch=steps, total_timesteps=3 * steps
    )
    folder = algo.train(
        make_args(algo, **env, **({} if algo in ON_POLICY else {"num_test_episodes": 0}))
    )
    rows = read_rows(folder)
    assert len(rows) == 3 and len(Diary.episodes) == 6
    for row, returns in zip(rows, np.reshape(Diary.episodes, (3, 2))):
        names = [
            f"charts/episodic_{name}"
            for name in ("return", "return_std", "return_min", "return_max", "length")
        ]
        want = [returns.mean(), returns.std(), returns.min(), returns.max(), 4]
        np.testing.assert_allclose([float(row[name]) for name in names], want, rtol=1e-5, atol=1e-6)


# the off-policy schedule and tests


@off_policy
def test_schedule(algo, monkeypatch):
    """Random actions for start_steps; no updates for episodes that end before update_after, then one for each step."""
    calls = {"get_action": 0, "compute_targets": 0}

    def count(name, f):
        def counted(*args):
            calls[name] += 1
            return f(*args)

        monkeypatch.setattr(algo, name, counted)

    for name in calls:
        count(name, getattr(algo, name))
    limits = dict(
        max_episode_steps=5,
        total_timesteps=30,
        start_steps=12,
        update_after=15,
        num_test_episodes=0,
    )
    algo.train(make_args(algo, **limits))
    assert calls == {"get_action": 18, "compute_targets": 20}


@off_policy
def test_evaluation(algo):
    """Deterministic actions; starts that depend on the seed and the step alone."""
    args = make_args(
        algo,
        num_test_episodes=3,
        max_episode_steps=20,
        **({} if algo is sac else {"act_noise": 1.0}),
    )
    env = algo.make_env(args)
    ac = algo.ActorCritic(env.observation_space, env.action_space, args)
    first, again, later = (algo.evaluate(ac, env, args, step) for step in (100, 100, 200))
    assert first == again and first["eval/episodic_length"] == [20, 20, 20]
    returns = first["eval/episodic_return"]
    assert len({*returns, *later["eval/episodic_return"]}) == 6
    assert algo.evaluate(ac, env, replace(args, seed=1), 100) != first


@off_policy
def test_evaluation_leaves_training_alone(algo):
    """The same run, to the last bit, with tests and without."""
    runs = [logx.read_checkpoint(algo.train(make_args(algo, num_test_episodes=n))) for n in (0, 2)]
    assert all_equal(*(run["ac"] for run in runs)) and runs[0]["rngs"] == runs[1]["rngs"]


# resuming


@every
def test_resuming_from_the_middle(algo, monkeypatch):
    """From a checkpoint at which the optimisers, the targets and all random generators have left their first state."""
    end_epoch = logx.Logger.end_epoch

    def keep(logger, step):
        logger.saving = 0.0  # so that it saves after every epoch
        end_epoch(logger, step)
        shutil.copy(logger.dir / "checkpoint.pt", f"{step}.pt")

    monkeypatch.setattr(logx.Logger, "end_epoch", keep)
    args = make_args(algo)
    folder = algo.train(args)
    whole, rows = logx.read_checkpoint(folder), read_rows(folder, without=("time", "charts/SPS"))
    for step in (100, 200):
        shutil.copy(f"{step}.pt", folder / "checkpoint.pt")
        assert algo.train(replace(args, resume=str(folder))) == folder
        resumed = logx.read_checkpoint(folder)
        assert all_equal(resumed, whole) and resumed["rngs"] == whole["rngs"]
        assert read_rows(folder, without=("time", "charts/SPS")) == rows


# ranks, without MPI


@on_policy
def test_advantages_are_normalised_by_the_statistics_of_all_ranks(algo, monkeypatch):
    """As if there were a second rank, whose advantages are 5 times as large, plus 10."""
    shares = []

    def two_ranks(x):
        shares.extend([x, 5 * x + 10])
        return shares

    monkeypatch.setattr(logx, "gather", two_ranks)
    space = Box(-1, 1, (2,))
    ac, buf = algo.ActorCritic(space, space, make_args(algo)), algo.PathBuffer(space, space, 50)
    for t in range(50):
        buf.store(
            t,
            np.zeros(2),
            np.zeros(2),
            np.random.default_rng(t).normal(),
            np.zeros(2),
            False,
            t == 49,
        )
    adv = algo.compute_batch(ac, buf, make_args(algo))[3].numpy()
    assert len(shares) == 2
    want = (shares[0] - np.mean(shares)) / np.std(shares)
    np.testing.assert_allclose(adv, want, rtol=1e-4, atol=1e-5)


@on_policy
def test_ranks_have_seeds_of_their_own(algo, monkeypatch):
    """Each rank starts elsewhere, and draws other actions; or more ranks would bring more of the same."""

    class Collected(Exception):
        pass

    def compute_batch(ac, buf, args):
        raise Collected(buf.s[0].tolist(), torch.initial_seed())

    monkeypatch.setattr(algo, "compute_batch", compute_batch)
    starts, seeds = [], []
    for rank in (0, 1, 2):
        monkeypatch.setattr(logx, "rank", rank)
        with pytest.raises(Collected) as collected:
            algo.train(make_args(algo))
        start, seed = collected.value.args
        starts, seeds = [*starts, tuple(start)], [*seeds, seed]
    assert len(set(starts)) == len(set(seeds)) == 3
