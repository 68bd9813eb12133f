"""What people bring (environments, machines, habits) works exactly or is refused in a sentence."""

import ast
import importlib
import json
import random
import re
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import field_envs
import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from helpers import (
    OFF_POLICY,
    ON_POLICY,
    ROOT,
    SCRIPTS,
    TINY,
    read_rows,
    run,
    start,
    train,
    wait,
)

import logx

TESTS = Path(__file__).parent
FIELD = {"PYTHONPATH": str(TESTS)}
CLOCK = ("time", "charts/SPS")

every = pytest.mark.parametrize("name", SCRIPTS)
on_policy = pytest.mark.parametrize("name", ON_POLICY)
off_policy = pytest.mark.parametrize("name", OFF_POLICY)


@pytest.fixture(autouse=True)
def folder_for_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def nothing_open():
    yield
    logx.opened.close()
    logx.opened_envs.clear()


def make_args(name, env_id, **knobs):
    """Arguments of a run of three epochs; in the second, DDPG, TD3 and SAC begin to learn."""
    short = dict(env_id=env_id, total_timesteps=300, steps_per_epoch=100, hidden_sizes=(8,))
    if name in ON_POLICY:
        short |= dict(train_v_iters=3)
    else:
        short |= dict(start_steps=150, update_after=101, num_test_episodes=1)
        short |= dict(batch_size=8, replay_size=1000)
    return importlib.import_module(name).Args(**short | knobs)


def train_here(name, env_id, **knobs):
    """Trains in this process; returns the run's folder."""
    return importlib.import_module(name).train(make_args(name, f"field_envs:{env_id}-v0", **knobs))


def make_env(name, env_id, **knobs):
    return importlib.import_module(name).make_env(
        make_args(name, f"field_envs:{env_id}-v0", **knobs)
    )


def register_once(monkeypatch, env_id, **spaces):
    spec = gym.envs.registration.EnvSpec(
        f"{env_id}-v0", entry_point=field_envs.Strict, max_episode_steps=10, kwargs=spaces
    )
    monkeypatch.setitem(gym.registry, f"{env_id}-v0", spec)


# Actions ------------------------------------------------------------------------------------------

REFUSED = {
    "int64": (Box(0, 10, (1,), np.int64), "whole numbers"),
    "uint8": (Box(0, 255, (2,), np.uint8), "whole numbers"),
    "int32": (Box(-5, 5, (1,), np.int32), "whole numbers"),
    "degenerate": (Box(np.float32([0, 1]), np.float32([1, 1])), "action 1 .* no room to move"),
    "degenerate64": (Box(np.array([2.0]), np.array([2.0]), dtype=np.float64), "no room to move"),
    "matrix": (Box(-1, 1, (2, 2), np.float32), r"shape \(2, 2\), not a vector"),
    "number": (Box(-1, 1, (), np.float32), r"shape \(\), not a vector"),
    "MultiDiscrete": (MultiDiscrete([3, 4]), "needs a Box"),
    "MultiBinary": (MultiBinary(3), "needs a Box"),
    "Dict": (Dict(a=Discrete(2)), "needs a Box"),
}


@every
@pytest.mark.parametrize("space, says", REFUSED.values(), ids=REFUSED)
def test_actions_that_no_script_takes(name, space, says, monkeypatch):
    register_once(monkeypatch, "Refused", action_space=space)
    with pytest.raises(logx.Stop, match=says) as refused:
        importlib.import_module(name).make_env(make_args(name, "Refused-v0"))
    assert re.search("gymnasium.wrappers.TransformAction|ppo.py", str(refused.value))
    assert "\n" not in str(refused.value)


LARGEST = np.finfo(np.float32).max
UNBOUNDED = {
    "infinite": Box(-np.inf, np.inf, (2,), np.float32),
    "half": Box(np.float32([-1, 0]), np.float32([1, np.inf])),
    "largest": Box(-LARGEST, LARGEST, (2,), np.float32),
    "largest64": Box(-np.finfo(np.float64).max, np.finfo(np.float64).max, (2,), np.float64),
}


@pytest.mark.parametrize("space", UNBOUNDED.values(), ids=UNBOUNDED)
def test_unbounded_actions(space, monkeypatch):
    """On-policy they are only clipped, where there is a bound; off-policy names ppo.py."""
    register_once(monkeypatch, "Unbounded", action_space=space)
    for name in OFF_POLICY:
        with pytest.raises(logx.Stop, match=r"finite bounds.*ppo\.py"):
            importlib.import_module(name).make_env(make_args(name, "Unbounded-v0"))
    for name in ON_POLICY:
        env = importlib.import_module(name).make_env(make_args(name, "Unbounded-v0"))
        env.reset()
        env.step(np.float32([0.5, -3.25]))
        env.step(np.float32([0.5, 1234.5]))
        first, second = env.unwrapped.received
        assert first.tolist() == [0.5, max(-3.25, space.low[1])]
        assert second.tolist() == [0.5, 1234.5]


@every
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_actions_never_leave_their_box(name, dtype, monkeypatch):
    """Rescaling alone overshoots by rounding, for a third of all bounds with one decimal."""
    rng = np.random.default_rng(0)
    low = np.round(rng.uniform(-30, 30, 200), 1)
    high = low + np.round(rng.uniform(0.1, 30, 200), 1)
    space = Box(low.astype(dtype), high.astype(dtype), dtype=dtype)
    register_once(monkeypatch, "Bounded", action_space=space)
    env = importlib.import_module(name).make_env(make_args(name, "Bounded-v0"))
    assert env.action_space == Box(-1, 1, (200,), np.float32)
    env.reset()
    for a in (-1, 1, 0, 0.5, -1.7, 40):
        env.step(np.full(200, a, np.float32))  # Strict insists on its bounds and dtype
    lowest, highest, middle, later, below, above = env.unwrapped.received
    assert np.array_equal(below, space.low) and np.array_equal(above, space.high)
    np.testing.assert_allclose(lowest, space.low, rtol=0, atol=1e-13)
    np.testing.assert_allclose(highest, space.high, rtol=0, atol=1e-13)
    span = space.high.astype(float) - space.low
    tolerance = 8 * float(np.finfo(dtype).eps) * 60
    np.testing.assert_allclose(middle, space.low + 0.5 * span, atol=tolerance)
    np.testing.assert_allclose(later, space.low + 0.75 * span, atol=tolerance)


@on_policy
def test_choices_that_do_not_begin_at_zero(name):
    env = make_env(name, "Choices")
    assert env.action_space == Discrete(3)
    env.reset()
    for a in (0, np.int64(2), np.array(1)):
        env.step(a)
    assert env.unwrapped.received == [5, 7, 6]
    assert all(type(a) is int for a in env.unwrapped.received)


@pytest.mark.parametrize(
    "name, knobs", [("vpg", {"pi_lr": 1e-2}), ("trpo", {}), ("ppo", {"pi_lr": 3e-3})]
)
def test_bounds_far_from_one_can_be_learned(name, knobs):
    """Ten steps in the middle, or at the lower bound, where clipping would leave it, give −2.5."""
    folder = train_here(
        name, "Thermostat", total_timesteps=20_000, steps_per_epoch=1000, seed=1, **knobs
    )
    assert float(read_rows(folder)[-1]["charts/episodic_return"]) > -1.9


# Observations -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vpg", "sac"])
@pytest.mark.parametrize("kind", field_envs.OBSERVATIONS)
def test_observations_are_flattened(name, kind):
    env = make_env(name, kind)
    space = field_envs.OBSERVATIONS[kind]
    s, _ = env.reset(seed=0)
    assert s.dtype == np.float32 and s.shape == env.observation_space.shape
    assert s.shape == (gym.spaces.flatdim(space),)
    a = 0 if isinstance(env.action_space, Discrete) else np.zeros(1, np.float32)
    assert env.step(a)[0].shape == s.shape


@pytest.mark.parametrize(
    "name, kind", [("vpg", "Dict"), ("ppo", "Tuple"), ("td3", "Matrix"), ("sac", "Dict")]
)
def test_training_with_flattened_observations(name, kind):
    assert len(read_rows(train_here(name, kind))) == 3


@every
@pytest.mark.parametrize("kind", field_envs.IMAGES)
def test_images_are_refused(name, kind):
    with pytest.raises(logx.Stop, match=r"observes images .*FlattenObservation"):
        make_env(name, kind)


def test_observations_without_a_length_are_refused():
    with pytest.raises(
        logx.Stop, match=r"no fixed length; gymnasium.wrappers.TransformObservation"
    ):
        make_env("ppo", "Sequence")


@pytest.mark.parametrize("env_id", ["FrozenLake-v1", "Blackjack-v1"])
def test_toy_text(env_id, tmp_path):
    args = "--steps-per-epoch 200 --total-timesteps 400".split()
    assert len(read_rows(train("vpg.py", "--env-id", env_id, *args, cwd=tmp_path))) == 2


@pytest.mark.parametrize("name", ["ppo", "ddpg"])
def test_bounds_beyond_float32(name):
    assert len(read_rows(train_here(name, "Wide"))) == 3


@every
def test_nan_at_reset_is_named(name):
    with pytest.raises(FloatingPointError, match="the observation at reset"):
        train_here(name, "NanAtReset")
    assert not Path("runs").exists()


@every
def test_rewards_are_summed_as_floats(name):
    """Ten times float32(0.1), in float64."""
    returns = [
        float(row["charts/episodic_return"]) for row in read_rows(train_here(name, "NumpyRewards"))
    ]
    assert returns == [sum([float(np.float32(0.1))] * 10)] * 3


@off_policy
def test_a_buffer_larger_than_the_memory(name):
    with pytest.raises(logx.Stop, match=r"--replay-size takes 8,000 GB of memory"):
        train_here(name, "Huge", replay_size=10_000_000)
    assert not Path("runs").exists()


@off_policy
def test_the_time_limit_may_be_inside(name, monkeypatch):
    """What a registered function makes may have its own limit, though the registration has none."""
    inside = lambda: gym.wrappers.TimeLimit(gym.make("Base-v0").unwrapped, 7)  # noqa: E731
    monkeypatch.setitem(
        gym.registry, "Inside-v0", gym.envs.registration.EnvSpec("Inside-v0", entry_point=inside)
    )
    env = importlib.import_module(name).make_env(make_args(name, "Inside-v0"))
    assert logx.time_limit(env) == 7


# Random numbers -----------------------------------------------------------------------------------

RANDOM = ["PythonRandom", "NumpyRandom", "SpaceRandom", "Constructor", "OldGenerator"]
RANDOM += ["PythonGenerator", "Dict", "Own", "NormalisedPendulum", "Rewarded"]


def assert_same_run(folder, other):
    a, b = logx.read_checkpoint(folder), logx.read_checkpoint(other)
    assert all(torch.equal(a["ac"][key], b["ac"][key]) for key in a["ac"])
    assert read_rows(folder, without=CLOCK) == read_rows(other, without=CLOCK)
    assert (a["rngs"], a["statistics"]) == (b["rngs"], b["statistics"])


@pytest.mark.parametrize("name", ["vpg", "td3"])
@pytest.mark.parametrize("env_id", RANDOM)
def test_the_same_seed_gives_the_same_run(name, env_id):
    folders = []
    for _ in range(2):
        random.seed()  # whatever was drawn before
        np.random.seed()
        folders.append(train_here(name, env_id, seed=3))
    assert_same_run(*folders)


@pytest.mark.parametrize("name", ["ppo", "sac"])
@pytest.mark.parametrize("env_id", RANDOM)
def test_a_resumed_run_is_the_same(name, env_id, monkeypatch):
    """From the middle, with new environments, and after other random numbers were drawn."""
    end_epoch = logx.Logger.end_epoch

    def keep(logger, step):
        logger.save_seconds = 0.0  # so that it saves after every epoch
        end_epoch(logger, step)
        shutil.copy(logger.dir / "checkpoint.pt", f"{step}.pt")

    monkeypatch.setattr(logx.Logger, "end_epoch", keep)
    whole = train_here(name, env_id)
    broken = Path(shutil.copytree(whole, "broken"))
    step = sorted(int(path.stem) for path in Path().glob("*.pt"))[0]
    shutil.copy(f"{step}.pt", broken / "checkpoint.pt")
    random.random(), np.random.random()
    train_here(name, env_id, resume=str(broken))
    assert_same_run(broken, whole)


@off_policy
@pytest.mark.parametrize("env_id", [x for x in RANDOM if x != "OldGenerator"])
def test_tests_leave_no_trace_in_training(name, env_id):
    folders = [train_here(name, env_id, num_test_episodes=n) for n in (0, 2)]
    a, b = (logx.read_checkpoint(folder) for folder in folders)
    assert all(torch.equal(a["ac"][key], b["ac"][key]) for key in a["ac"])
    assert (a["rngs"], a["statistics"]) == (b["rngs"], b["statistics"])


@off_policy
@pytest.mark.parametrize("env_id", RANDOM)
def test_tests_depend_on_the_seed_and_the_step_alone(name, env_id):
    script = importlib.import_module(name)
    args = make_args(name, f"field_envs:{env_id}-v0", num_test_episodes=2)
    env = script.make_env(args)
    logx.seed_training(env, 0)
    logx.freeze_statistics(env)
    ac = script.ActorCritic(env.observation_space, env.action_space, args)
    first = script.evaluate(ac, env, args, 100)
    random.random(), np.random.random(), env.unwrapped.observation_space.sample()
    assert script.evaluate(ac, env, args, 100) == first
    if env_id not in ("Constructor", "Dict"):  # whose rewards are always the same
        return
    assert len(first["eval/episodic_return"]) == 2


def stream_states(env):
    """The state of every generator, as text."""
    state = json.loads(logx.get_random_state(env))
    return [str(x) for x in (state["torch"], state["numpy"], state["python"][1], *state["env"])]


def test_no_two_streams_are_the_same(monkeypatch):
    """Exploration, environment, spaces, tests and ranks, for neighbouring seeds."""
    args = make_args("sac", "field_envs:Dict-v0")
    seen = []
    seeds = {}  # by what they were drawn from
    draw_seeds = logx.draw_seeds

    def spy(*words):
        seeds[words] = draw_seeds(*words)
        return seeds[words]

    monkeypatch.setattr(logx, "draw_seeds", spy)
    for seed in (0, 1, 2):
        for rank in (0, 1, 2):
            monkeypatch.setattr(logx, "rank", rank)
            env = importlib.import_module("sac").make_env(replace(args, seed=seed))
            logx.seed_training(env, seed)
            seen += stream_states(env)
            for step in (0, 1, 2):
                with logx.separate_streams(env, seed, step):
                    if rank == 0:
                        seen += stream_states(env)
    assert len(set(seen)) == len(seen) > 150
    drawn = [seed for several in seeds.values() for seed in several]
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize("seed", range(5))
def test_exploration_knows_nothing_of_the_environment(seed):
    env = make_env("td3", "OneDraw", seed=seed)
    logx.seed_training(env, seed)
    env.reset()
    for _ in range(2000):
        env.step(env.action_space.sample())
    actions, draws = np.transpose(env.unwrapped.received)
    for lag in range(4):
        assert abs(np.corrcoef(actions[lag:], draws[: len(draws) - lag])[0, 1]) < 0.08


def test_a_generator_of_an_unknown_kind_is_named(capfd):
    train_here("ppo", "UnknownGenerator")
    assert (
        "a Lehmer draws the environment's random numbers; resuming is not exact"
        in capfd.readouterr().err
    )


def test_an_environment_made_again_is_the_same():
    """The test environment, and play's, have the goal that training's drew when it was made."""
    goals = {make_env("sac", "Constructor", seed=4).unwrapped.goal for _ in range(3)}
    assert len(goals) == 1
    assert make_env("sac", "Constructor", seed=5).unwrapped.goal not in goals


# Wrappers that learn ------------------------------------------------------------------------------


def rms(env):
    """Mean, variance and count of an environment's first running statistics."""
    x = logx.find_statistics(env)[1]
    return [np.array(x.mean).tolist(), np.array(x.var).tolist(), float(x.count)]


@off_policy
@pytest.mark.parametrize("env_id", ["NormalisedPendulum", "Rewarded", "Own"])
def test_test_episodes_use_statistics_and_do_not_change_them(name, env_id, monkeypatch):
    script = importlib.import_module(name)
    evaluate, copy_statistics = script.evaluate, logx.copy_statistics
    pairs = []

    def spy_copy(env, test_env):
        copy_statistics(env, test_env)
        pairs.append((env, test_env))

    def spy(ac, env, args, step):
        training, tested = pairs[-1]
        before = rms(training)
        assert env is tested and rms(env) == before and before[2] > 20
        result = evaluate(ac, env, args, step)
        assert rms(training) == before and rms(env) == before
        return result

    monkeypatch.setattr(logx, "copy_statistics", spy_copy)
    monkeypatch.setattr(script, "evaluate", spy)
    train_here(name, env_id)
    assert len(pairs) == 3
    assert rms(pairs[0][0])[2] > 300  # while training's went on


def test_what_was_learned_with_statistics_is_played_with_them(tmp_path, capfd):
    """Trained to some hundred steps; played without its statistics, it falls after a few dozen."""
    args = "--env-id field_envs:Normalised-v0 --pi-lr 3e-3 --total-timesteps 48000 --seed 1".split()
    folder = train("ppo.py", *args, cwd=tmp_path, env=FIELD)
    trained = float(read_rows(folder)[-1]["charts/episodic_return"])
    assert trained > 300
    done = run("logx.py", "play", folder, "--episodes", 5, cwd=tmp_path, env=FIELD)
    assert done.returncode == 0, done.stderr
    mean = float(re.search(r"^return (\S+) ± \S+, length (\S+) ± \S+", done.stdout, re.M)[1])
    assert mean > 0.7 * trained


# Life cycle ---------------------------------------------------------------------------------------


@every
def test_environments_are_closed(name):
    opened = 1 if name in ON_POLICY else 2
    before = field_envs.Base.closed
    train_here(name, "Base")
    assert field_envs.Base.closed == before + opened
    with pytest.raises(FloatingPointError):
        train_here(name, "NanAtReset")
    assert field_envs.Base.closed == before + 2 * opened
    with pytest.raises(logx.Stop):
        train_here(name, "Image")
    assert field_envs.Base.closed == before + 2 * opened + 1


def test_many_runs_in_one_process_leave_no_threads():
    train_here("ppo", "Base")
    before = threading.active_count()
    for seed in range(5):
        train_here("ppo", "Base", seed=seed)
        train_here("sac", "Base", seed=seed)
    assert threading.active_count() <= before


@pytest.mark.parametrize(
    "name, env_id, code",
    [("vpg", "Threaded", 0), ("sac", "Threaded", 0), ("ppo", "ThreadedRaises", 1)],
)
def test_the_process_ends(name, env_id, code, tmp_path):
    """Also where the environment has a thread of its own, and after an error."""
    args = [*TINY[name], "--env-id", f"field_envs:{env_id}-v0"]
    done = run(f"{name}.py", *args, cwd=tmp_path, env=FIELD, timeout=60)
    assert done.returncode == code, done.stderr


def test_the_process_ends_on_every_rank(tmp_path):
    args = [*TINY["ppo"], "--env-id", "field_envs:Threaded-v0"]
    done = run("ppo.py", *args, cwd=tmp_path, mpi=2, env=FIELD, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["trpo", "ddpg"])
def test_the_process_ends_after_ctrl_c(name, tmp_path):
    args = [*TINY[name], "--env-id", "field_envs:ThreadedSlow-v0", "--total-timesteps", 100_000]
    process = start(f"{name}.py", *args, cwd=tmp_path, env=FIELD)
    process.stderr.readline()
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    assert wait(process, timeout=30).returncode == 130


def test_an_environment_that_cannot_be_closed(capfd):
    assert len(read_rows(train_here("ppo", "BadEnd"))) == 3
    assert "could not be closed: the simulator has gone" in capfd.readouterr().err


def test_a_test_environment_is_made_only_if_it_is_used(monkeypatch):
    monkeypatch.setenv("FIELD_PORT", "50606")
    with pytest.raises(logx.Stop, match="--num-test-episodes 0 needs none"):
        train_here("sac", "OneInstance")
    for name in OFF_POLICY:
        rows = read_rows(train_here(name, "OneInstance", num_test_episodes=0))
        assert [row["eval/episodic_return"] for row in rows] == [""] * 3


# Play ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Run folders of PPO, by environment; each is trained once."""
    folders = {}

    def get(env_id):
        if env_id not in folders:
            folder = tmp_path_factory.mktemp(env_id.replace(":", "-"))
            folders[env_id] = train(
                "ppo.py", *TINY["ppo"], "--env-id", env_id, cwd=folder, env=FIELD
            )
        return folders[env_id]

    return get


def play(folder, *args, cwd, env=None):
    return run("logx.py", "play", folder, "--episodes", 2, *args, cwd=cwd, env=FIELD | (env or {}))


def refused(done):
    """The one sentence of a command that was refused."""
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    warnings = ("\x1b[33mWARN", "  gym.logger.warn", "  logger.warn")  # Gymnasium's
    lines = [x for x in done.stderr.splitlines() if not any(word in x for word in warnings)]
    assert len([x for x in lines if ".py: " in x]) == 1, done.stderr
    return lines[-1]


def test_play_without_render_modes(played, tmp_path):
    folder = played("field_envs:Base-v0")
    done = play(folder, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    *episodes, last = done.stdout.splitlines()
    returns = [float(re.fullmatch(r"episode \d: return (\S+), 50 steps", x)[1]) for x in episodes]
    mean, std = np.mean(returns), np.std(returns)
    want = f"return {mean:.1f} ± {std:.1f}, length 50.0 ± 0.0 (mean ± standard deviation)"
    assert len(returns) == 2 and last == want
    assert "rgb_array" in refused(play(folder, "--video", "film.mp4", cwd=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_play_where_frames_are_none(played, tmp_path):
    folder = played("field_envs:NoPictures-v0")
    assert "no pictures" in refused(play(folder, "--video", "film.mp4", cwd=tmp_path))
    assert list(tmp_path.iterdir()) == []
    assert play(folder, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "InvertedPendulum-v4"])
def test_play_on_a_display_that_does_not_answer(env_id, played, tmp_path):
    folder, dead = played(env_id), {"DISPLAY": ":77"}
    assert "--no-window" in refused(play(folder, cwd=tmp_path, env=dead))
    assert play(folder, "--no-window", cwd=tmp_path, env=dead).returncode == 0
    done = play(folder, "--video", "film.mp4", cwd=tmp_path, env=dead)
    assert done.returncode == 0, done.stderr
    assert Path("film.mp4").stat().st_size > 1000


def test_play_is_the_same_each_time(played, tmp_path):
    outputs = [play(played("Pendulum-v1"), "--stochastic", cwd=tmp_path).stdout for _ in range(2)]
    assert outputs[0] == outputs[1]


# Trust --------------------------------------------------------------------------------------------


@pytest.fixture
def strange(played, tmp_path):
    """A run folder whose script would write a file."""
    folder = shutil.copytree(played("Pendulum-v1"), tmp_path / "strange")
    script = folder / "ppo.py"
    script.write_text(script.read_text() + "\nPath('written').touch()\n")
    return folder


def test_a_strange_script_does_not_run(strange, tmp_path):
    sentence = refused(play(strange, cwd=tmp_path))
    assert "is not the same as ppo.py beside logx.py" in sentence and "--trust" in sentence
    assert not Path("written").exists()


def test_a_strange_script_runs_if_it_is_trusted(strange, tmp_path):
    assert play(strange, "--trust", cwd=tmp_path).returncode == 0
    assert Path("written").exists()


def test_a_folder_without_a_script_is_played_by_the_one_here(strange, tmp_path):
    (strange / "ppo.py").unlink()
    assert play(strange, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("name", ["../evil.py", "unknown.py"])
def test_a_script_of_another_name(name, strange, tmp_path):
    """The name stands in the checkpoint, which may come from anywhere."""
    (tmp_path / "evil.py").write_text("from pathlib import Path\nPath('written').touch()\n")
    state = torch.load(strange / "checkpoint.pt", weights_only=True)
    logx.write_checkpoint(strange, state | {"script": name})
    refused(play(strange, cwd=tmp_path))
    assert not Path("written").exists()


# --env-kwargs -------------------------------------------------------------------------------------


@every
def test_environments_get_their_arguments(name):
    kwargs = '{"goal": 2.5, "wind": true}'
    env = make_env(name, "Kwargs", env_kwargs=kwargs).unwrapped
    assert (env.goal, env.wind) == (2.5, True)
    folder = train_here(name, "Kwargs", env_kwargs=kwargs)
    assert json.loads((folder / "config.json").read_text())["args"]["env_kwargs"] == kwargs
    rows = read_rows(folder)
    assert {float(row["charts/episodic_return"]) for row in rows} == {25.0}
    if name in OFF_POLICY:
        assert {float(row["eval/episodic_return"]) for row in rows} == {25.0}


def test_play_gives_environments_their_arguments(tmp_path):
    args = ["--env-id", "field_envs:Kwargs-v0", "--env-kwargs", '{"goal": 3}']
    folder = train("ppo.py", *TINY["ppo"], *args, cwd=tmp_path, env=FIELD)
    assert "return 150.0 ± 0.0" in play(folder, cwd=tmp_path).stdout


@pytest.mark.parametrize(
    "text, says",
    [
        ('{"goal": 1', "must be JSON"),
        ("{'goal': 1}", "must be JSON"),
        ("[1]", "in braces"),
        ("3", "in braces"),
        ('{"render_mode": "human"}', "cannot set render_mode"),
        ('{"max_episode_steps": 5}', "cannot set max_episode_steps"),
        ('{"nonsense": 5}', "nonsense"),
    ],
)
def test_arguments_that_do_not_fit(text, says, tmp_path):
    args = ["--env-id", "field_envs:Kwargs-v0", "--env-kwargs", text]
    done = run("sac.py", *args, cwd=tmp_path, env=FIELD)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert says in " ".join(done.stderr.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


# Resuming -----------------------------------------------------------------------------------------


@pytest.fixture
def edited(tmp_path):
    """A run that was stopped, and its script, edited since; --total-timesteps was 600."""
    for name in ("ppo.py", "logx.py"):
        shutil.copy(ROOT / name, tmp_path)
    folder = train(tmp_path / "ppo.py", *TINY["ppo"], cwd=tmp_path)
    script = tmp_path / "ppo.py"
    script.write_text(script.read_text().replace("discount factor γ", "discount factor gamma"))
    return folder, script


def test_an_edited_script_is_noted(edited, tmp_path):
    folder, script = edited
    done = run(script, "--resume", folder, "--total-timesteps", 1000, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "Note: ppo.py" in line]
    assert "2 changed lines" in line and "discount factor γ" in line
    assert (folder / "ppo.py").read_text() == script.read_text()
    assert json.loads((folder / "config.json").read_text())["args"]["total_timesteps"] == 1000
    again = run(script, "--resume", folder, "--total-timesteps", 1200, cwd=tmp_path)
    assert again.returncode == 0 and "Note: ppo.py" not in again.stderr


@off_policy
def test_a_finished_run_cannot_be_prolonged_without_its_buffer(name, tmp_path):
    folder = train(f"{name}.py", *TINY[name], cwd=tmp_path)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    done = run(f"{name}.py", "--resume", folder, cwd=tmp_path)
    assert done.returncode == 0 and "finished" in done.stderr
    done = run(f"{name}.py", "--resume", folder, "--total-timesteps", 5000, cwd=tmp_path)
    assert "its replay buffer is gone" in refused(done)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


# snapshot and forward -----------------------------------------------------------------------------

EDITS = {
    "the mean": ("GaussianActor", "forward", lambda f: lambda pi, s: f(pi, 2 * s)),
    "the noise": ("GaussianActor", "noise", lambda f: lambda pi, n: 2 * f(pi, n)),
    "the logits": ("CategoricalActor", "forward", lambda f: lambda pi, s: f(pi, -s)),
}


@on_policy
@pytest.mark.parametrize("what", EDITS)
def test_a_policy_edited_in_one_place_only(name, what, monkeypatch):
    script = importlib.import_module(name)
    cls, function, edit = EDITS[what]
    monkeypatch.setattr(
        getattr(script, cls), function, edit(getattr(getattr(script, cls), function))
    )
    with pytest.raises(logx.Stop, match="forward"):
        train_here(name, "Choices" if cls == "CategoricalActor" else "Base")
    assert not Path("runs").exists()


@on_policy
def test_a_spread_that_depends_on_the_state(name, monkeypatch):
    """forward has a σ of its own for each state; noise knows only one."""
    script = importlib.import_module(name)
    forward = script.GaussianActor.forward

    def edited(pi, s):
        old = forward(pi, s)
        return torch.distributions.Independent(
            torch.distributions.Normal(old.mean, 0.6 + s.abs()[..., :1]), 1
        )

    monkeypatch.setattr(script.GaussianActor, "forward", edited)
    with pytest.raises(logx.Stop, match="forward"):
        train_here(name, "Base")


@on_policy
@pytest.mark.parametrize("env_id", ["Base", "Choices", "Dict"])
def test_a_policy_that_agrees(name, env_id):
    for hidden_sizes in ((), (8,), (64, 64)):
        train_here(name, env_id, hidden_sizes=hidden_sizes, total_timesteps=100)


# Launchers ----------------------------------------------------------------------------------------

LAUNCHERS = {
    "none": ({}, (1, 0)),
    "MPICH": ({"PMI_SIZE": "4", "PMI_RANK": "3"}, (4, 3)),
    "Open MPI": (
        {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "PMIX_RANK": "1"},
        (2, 1),
    ),
    "srun with PMIx": ({"PMIX_RANK": "2", "SLURM_NTASKS": "4"}, (4, 2)),
    "srun with PMIx, a step": (
        {"PMIX_RANK": "0", "SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "2"},
        (2, 0),
    ),
    "srun with PMI2": ({"PMI_RANK": "1", "SLURM_STEP_NUM_TASKS": "3"}, (3, 1)),
    "srun of one": ({"PMIX_RANK": "0", "SLURM_NTASKS": "1"}, (1, 0)),
    "sbatch alone": ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, (1, 0)),
    "PMIx of unknown size": ({"PMIX_RANK": "3"}, (4, 3)),
    "PMIx of unknown size, rank 0": ({"PMIX_RANK": "0"}, (2, 0)),
    "empty": ({"PMI_SIZE": "", "PMI_RANK": ""}, (1, 0)),
}


@pytest.mark.parametrize("environ, seen", LAUNCHERS.values(), ids=LAUNCHERS)
def test_what_launchers_announce(environ, seen):
    assert logx.read_launcher(environ) == seen


@pytest.mark.parametrize("environ", ["srun with PMIx", "srun with PMI2", "Open MPI"])
@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_processes_that_cannot_see_each_other(name, environ, tmp_path):
    """Rank 0 says it, and the others end without a word."""
    environ = LAUNCHERS[environ][0]
    for rank in ("0", "1"):
        env = {key: rank if key.endswith("RANK") else x for key, x in environ.items()}
        done = run(f"{name}.py", *TINY[name], cwd=tmp_path, env=env, timeout=60)
        assert done.returncode == 2
        assert ("cannot see each other" in done.stderr) == (rank == "0"), done.stderr
    assert list(tmp_path.iterdir()) == []


# Habits -------------------------------------------------------------------------------------------


@every
def test_numpy_numbers_as_arguments(name, tmp_path):
    """for lr in np.logspace(...): what was trained can be read, played and resumed."""
    lr = {} if name == "trpo" else {"pi_lr": np.logspace(-4, -2, 3)[1]}
    numbers = dict(seed=np.int64(3), gamma=np.float32(0.5), hidden_sizes=np.array([8, 4]))
    folder = train_here(name, "Base", **numbers, **lr)
    args = logx.read_checkpoint(folder)["args"]
    assert args["hidden_sizes"] == (8, 4) and args["gamma"] == 0.5 and args["seed"] == 3
    kept = json.loads((folder / "config.json").read_text())["args"]
    assert kept["seed"] == 3
    if lr:
        assert type(args["pi_lr"]) is float and args["pi_lr"] == lr["pi_lr"]


@every
def test_help_on_an_old_terminal(name, tmp_path):
    done = run(f"{name}.py", "--help", cwd=tmp_path, env={"PYTHONIOENCODING": "cp1252"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "discount factor ?" in done.stdout


@pytest.mark.parametrize(
    "name", ["logx.py play", "benchmark/run.py", "benchmark/plot.py", "exercises/check.py"]
)
def test_help_of_the_tools_on_an_old_terminal(name, tmp_path):
    script, *args = name.split()
    done = run(script, *args, "--help", cwd=tmp_path, env={"PYTHONIOENCODING": "cp1252"})
    assert done.returncode == 0, done.stderr


def test_training_on_an_old_terminal(tmp_path):
    env = FIELD | {"PYTHONIOENCODING": "cp1252"}
    folder = train("ppo.py", *TINY["ppo"], "--exp-name", "λ-returns", cwd=tmp_path, env=env)
    done = run("logx.py", "play", folder, "--episodes", 1, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr


def test_outside_git_no_commit_is_recorded(tmp_path):
    assert logx.read_commit(tmp_path) is None
    git = ["git", "-c", "user.name=a", "-c", "user.email=b", "-C", str(tmp_path)]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    assert re.fullmatch("[0-9a-f]{40}", logx.read_commit(tmp_path))


def test_without_git_no_commit_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert logx.read_commit(ROOT) is None


PROGRAMS = [*ROOT.glob("*.py"), *ROOT.glob("benchmark/*.py"), *ROOT.glob("exercises/**/*.py")]
PROGRAMS += [path for path in ROOT.glob("docs/_ext/*.py")]


@pytest.mark.parametrize("path", PROGRAMS, ids=[str(path.relative_to(ROOT)) for path in PROGRAMS])
def test_files_are_opened_as_utf_8(path):
    """Windows would take cp1252."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if called not in ("open", "read_text", "write_text"):
            continue
        words = [
            ast.unparse(x) for x in [*node.args, *(keyword.value for keyword in node.keywords)]
        ]
        named_otherwise = ast.unparse(node.func) == "Image.open"  # pillow's
        binary = named_otherwise or any(re.fullmatch("'[rwa+]*b[rwa+]*'", word) for word in words)
        assert binary or "'utf-8'" in words, f"line {node.lineno}"


POSIX_ONLY = {"resource", "fcntl", "pwd", "grp", "termios"}


@pytest.mark.parametrize("path", PROGRAMS, ids=[str(path.relative_to(ROOT)) for path in PROGRAMS])
def test_nothing_needs_what_windows_lacks(path):
    """Modules that it lacks are not imported at once; the rest is looked for before it is used."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    for node in tree.body:
        if isinstance(node, ast.Import):
            assert not POSIX_ONLY & {alias.name for alias in node.names}
    for word, guard in (
        ("SIGKILL", "hasattr"),
        ("killpg", "hasattr"),
        ("sched_getaffinity", "hasattr"),
    ):
        if f".{word}" in text:
            assert guard in text, word
