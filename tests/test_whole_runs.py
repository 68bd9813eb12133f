"""What must hold for every run: logged returns, the schedule, tests, resuming, ranks' seeds."""

import shutil
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from helpers import load, read_rows

import logx
import sac
from benchmark import scripts

pytestmark = pytest.mark.fast


def siblings(*modules):
    return pytest.mark.parametrize("algo", modules, ids=lambda m: m.__name__)


ON_POLICY, OFF_POLICY = load(scripts.ON_POLICY), load(scripts.OFF_POLICY)
every = siblings(*ON_POLICY, *OFF_POLICY)
on_policy, off_policy = siblings(*ON_POLICY), siblings(*OFF_POLICY)


@pytest.fixture(autouse=True)
def folder_for_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def make_args(algo, **kwargs):
    """A short run of three epochs.

    In the second one DDPG, TD3 and SAC make their first update and their last random action.
    """
    fixed = dict(env_id="Pendulum-v1", max_episode_steps=25)
    fixed |= dict(total_timesteps=300, steps_per_epoch=100)
    if algo in ON_POLICY:
        fixed |= dict(train_v_iters=3)
    else:
        fixed |= dict(start_steps=150, update_after=101, num_test_episodes=1)
        fixed |= dict(batch_size=8, replay_size=200)
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
    for _ in range(3):
        s, *_ = env.step(algo.get_action(ac, path[-1]))  # Corridor fails if a is not a number
        path.append(s)
    assert np.ravel(path).tolist() == [0, 1, 2, 3]
    assert all(s.dtype == np.float32 for s in path)


# what is logged


class Diary(gym.Env):
    """Random rewards in episodes of 4 steps; keeps the returns of those that end."""

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
    """A row counts the episodes that ended in its epoch: none that was cut, none from before."""
    monkeypatch.setattr(Diary, "episodes", [])
    spec = gym.envs.registration.EnvSpec("Diary-v0", entry_point=Diary)
    monkeypatch.setitem(gym.registry, "Diary-v0", spec)
    steps = 10 if algo in ON_POLICY else 8  # on-policy, the third episode is cut
    knobs = dict(env_id="Diary-v0", max_episode_steps=9)
    knobs |= dict(steps_per_epoch=steps, total_timesteps=3 * steps)
    if algo in OFF_POLICY:
        knobs |= dict(num_test_episodes=0)
    folder = algo.train(make_args(algo, **knobs))
    rows = read_rows(folder)
    assert len(rows) == 3 and len(Diary.episodes) == 6
    for row, returns in zip(rows, np.reshape(Diary.episodes, (3, 2))):
        names = ("return", "return_std", "return_min", "return_max", "length")
        logged = [float(row[f"charts/episodic_{name}"]) for name in names]
        want = [returns.mean(), returns.std(), returns.min(), returns.max(), 4]
        np.testing.assert_allclose(logged, want, rtol=1e-5, atol=1e-6)


# the off-policy schedule and tests


@off_policy
def test_schedule(algo, monkeypatch):
    """Random actions for start_steps, and updates from update_after on.

    An episode that ends before that gets none; a later one gets one for each of its steps.
    """
    calls = {"get_action": 0, "compute_targets": 0}

    def count(name, f):
        def counted(*args):
            calls[name] += 1
            return f(*args)

        monkeypatch.setattr(algo, name, counted)

    for name in calls:
        count(name, getattr(algo, name))
    knobs = dict(max_episode_steps=5, total_timesteps=30)
    knobs |= dict(start_steps=12, update_after=15, num_test_episodes=0)
    algo.train(make_args(algo, **knobs))
    assert calls == {"get_action": 18, "compute_targets": 20}


@off_policy
def test_evaluation(algo, monkeypatch):
    """Actions are deterministic, and initial states depend only on the seed and the step."""
    get_action, asked = algo.get_action, []

    def spy(ac, s, deterministic=False):
        asked.append(deterministic)
        return get_action(ac, s, deterministic)

    monkeypatch.setattr(algo, "get_action", spy)
    knobs = dict(num_test_episodes=3, max_episode_steps=20)
    if algo is not sac:
        knobs |= dict(act_noise=1.0)
    args = make_args(algo, **knobs)
    env = algo.make_env(args)
    ac = algo.ActorCritic(env.observation_space, env.action_space, args)
    first, again, later = (algo.evaluate(ac, env, args, step) for step in (100, 100, 200))
    assert first == again and first["eval/episodic_length"] == [20, 20, 20]
    returns = first["eval/episodic_return"]
    assert len({*returns, *later["eval/episodic_return"]}) == 6
    assert algo.evaluate(ac, env, replace(args, seed=1), 100) != first
    assert asked and all(asked)


@off_policy
def test_evaluation_leaves_training_alone(algo):
    """With and without tests, a run is the same to the last bit."""
    runs = [logx.read_checkpoint(algo.train(make_args(algo, num_test_episodes=n))) for n in (0, 2)]
    assert all_equal(*(run["ac"] for run in runs)) and runs[0]["rngs"] == runs[1]["rngs"]


# resuming


@every
def test_resuming_from_the_middle(algo, monkeypatch):
    """From checkpoints at which optimisers, targets and all random generators have moved on."""
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
    """As if a second rank had advantages 5 times as large, plus 10."""
    shares = []

    def two_ranks(x):
        shares.extend([x, 5 * x + 10])
        return shares

    monkeypatch.setattr(logx, "gather", two_ranks)
    space = Box(-1, 1, (2,))
    ac, buf = algo.ActorCritic(space, space, make_args(algo)), algo.PathBuffer(space, space, 50)
    zero = np.zeros(2)
    for t in range(50):
        buf.store(t, zero, zero, np.random.default_rng(t).normal(), zero, False, t == 49)
    adv = algo.compute_batch(ac, buf, make_args(algo))[3].numpy()
    assert len(shares) == 2
    want = (shares[0] - np.mean(shares)) / np.std(shares)
    np.testing.assert_allclose(adv, want, rtol=1e-4, atol=1e-5)


@on_policy
def test_ranks_have_seeds_of_their_own(algo, monkeypatch):
    """Each rank starts in another state and draws other actions; else ranks would add nothing."""

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
        starts.append(tuple(start))
        seeds.append(seed)
    assert len(set(starts)) == len(set(seeds)) == 3
