"""Bad input: one message, exit code 2, nothing written. A failing run says where: exit code 1."""

import re
import shutil
from pathlib import Path

import pytest
from helpers import OFF_POLICY, ON_POLICY, ROOT, SCRIPTS, TINY, only_run, read_rows, run, train

import logx

FAULTY = {"PYTHONPATH": str(Path(__file__).parent)}  # where faulty_envs.py is


def contents(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def assert_refused(script, *args, cwd, says, **kwargs):
    """Exits with 2 and one message that contains `says`, and leaves the folder unchanged."""
    before = contents(cwd)
    done = run(script, *args, cwd=cwd, **kwargs)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = [
        line for line in done.stderr.splitlines() if not line.startswith("Abort(2)")
    ]  # mpirun's own
    if lines[0].startswith("╭"):  # tyro's box
        assert [line[0] for line in lines] == ["╭"] + ["│"] * (len(lines) - 2) + ["╰"], done.stderr
    else:
        assert len(lines) == 1 and lines[0].startswith(str(ROOT / script)), done.stderr
    assert says in " ".join(done.stderr.replace("│", " ").split())
    assert contents(cwd) == before


# arguments

CASES = [(name, "--env-id HalfCheeta-v4", "HalfCheetah") for name in SCRIPTS]
CASES += [(name, "--env-id CartPole-v1", "ppo.py") for name in OFF_POLICY]
CASES += [(name, "--env-id faulty_envs:Endless-v0", "--max-episode-steps") for name in OFF_POLICY]
CASES += [
    ("sac", "--env-id HalfCheetah-v99", "v5"),
    ("ppo", "--env-id no_such_module:Thing-v0", "no_such_module"),
    ("vpg", "--env-id", "--env-id"),
    ("vpg", "--gamma 1.5", "--gamma"),
    ("ddpg", "--gamma nan", "--gamma"),
    ("sac", "--gamma abc", "--gamma"),
    ("vpg", "--lam -0.1", "--lam"),
    ("vpg", "--seed -1", "--seed"),
    ("sac", "--seed 18446744073709551616", "--seed"),
    ("vpg", "--pi-lr inf", "--pi-lr"),
    ("vpg", "--steps-per-epoch 0", "--steps-per-epoch"),
    ("trpo", "--steps-per-epoch 1e3", "--steps-per-epoch"),
    ("trpo", "--total-timesteps -1", "--total-timesteps"),
    ("trpo", "--delta nan", "--delta"),
    ("trpo", "--cg-iters 0", "--cg-iters"),
    ("trpo", "--backtrack-coeff 2", "--backtrack-coeff"),
    ("trpo", "--pi-lr 1e-3", "--pi-lr"),  # has none
    ("ppo", "--hidden-sizes 64 0", "--hidden-sizes"),
    ("ppo", "--clip-ratio -1", "--clip-ratio"),
    ("ppo", "--max-episode-steps 0", "--max-episode-steps"),
    ("ppo", "--no-such-flag 3", "--no-such-flag"),
    ("ddpg", "--batch-size 0", "--batch-size"),
    ("ddpg", "--polyak 2", "--polyak"),
    ("ddpg", "--act-noise -1", "--act-noise"),
    ("ddpg", "stray", "stray"),
    ("td3", "--hidden-sizes 0", "--hidden-sizes"),
    ("td3", "--policy-delay 0", "--policy-delay"),
    ("td3", "--replay-size 0", "--replay-size"),
    ("sac", "--replay-size 1000000000000", "--replay-size"),  # more than any memory
    ("td3", "--alpha 0.1", "--alpha"),  # has none
    ("sac", "--learn-alpha --alpha 0", "--alpha"),
    ("sac", "--num-test-episodes -1", "--num-test-episodes"),
    ("sac", "--start-steps ten", "--start-steps"),
]


@pytest.mark.parametrize(
    "name, args, says", CASES, ids=[f"{name} {args}" for name, args, _ in CASES]
)
def test_bad_arguments(name, args, says, tmp_path):
    assert_refused(f"{name}.py", *args.split(), cwd=tmp_path, says=says, env=FAULTY)


# MPI


def test_steps_that_ranks_cannot_share(tmp_path):
    args = ["--env-id", "CartPole-v1", "--steps-per-epoch", 100]
    assert_refused("ppo.py", *args, cwd=tmp_path, mpi=3, says="--steps-per-epoch 100")


def test_off_policy_under_mpirun(tmp_path):
    assert_refused("td3.py", cwd=tmp_path, mpi=2, says="python td3.py --seed $s")


@pytest.mark.parametrize("args", ["--gamma 1.5", "--no-such-flag 3"])
def test_one_rank_speaks(args, tmp_path):
    assert_refused("vpg.py", *args.split(), cwd=tmp_path, mpi=2, says=args.split()[0])


def test_launcher_of_another_mpi(tmp_path):
    env = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}
    assert_refused("ppo.py", cwd=tmp_path, env=env, says="a different MPI library")


# --resume and play


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return train("ppo.py", *TINY["ppo"], cwd=tmp_path_factory.mktemp("finished"))


def damage(folder, how):
    """Damages a run's checkpoint; returns the folder."""
    path = folder / "checkpoint.pt"
    data = bytearray(path.read_bytes())
    if how == "flipped":
        data[len(data) // 2] ^= 1
    path.write_bytes(
        data[: len(data) // 2] if how == "truncated" else b"" if how == "empty" else data
    )
    return folder


COMMANDS = {"resume": ["ppo.py", "--resume"], "play": ["logx.py", "play"]}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("how", ["no folder", "empty folder", "truncated", "flipped", "empty"])
def test_missing_or_damaged_run(command, how, tmp_path, finished):
    folder = tmp_path / "a run"
    if how == "empty folder":
        folder.mkdir()
    elif how != "no folder":
        damage(shutil.copytree(finished, folder), how)
    script, *args = COMMANDS[command]
    assert_refused(script, *args, folder, cwd=tmp_path, says="checkpoint.pt is missing or damaged")


def write_state(folder, state):
    """Makes a folder with a checkpoint of this content."""
    folder.mkdir()
    logx.write_checkpoint(folder, state)
    return folder


def test_an_agent_of_other_code_or_without_its_run(tmp_path, finished):
    state = logx.read_checkpoint(finished)
    agent = {name: state[name] for name in ("script", "args", "step", "ac", "statistics")}
    folder = write_state(tmp_path / "agent", agent)
    assert_refused("ppo.py", "--resume", folder, cwd=tmp_path, says="weights only")

    others = {
        "key": {name: x for name, x in agent.items() if name != "statistics"},
        "argument": agent | {"args": agent["args"] | {"target_kl": 0.01}},
        "network": agent | {"args": agent["args"] | {"hidden_sizes": (9,)}},
    }
    for name, other in others.items():
        folder = write_state(tmp_path / name, other)
        assert_refused("logx.py", "play", folder, cwd=tmp_path, says="was made by other code")


RESUMED = [
    ("vpg", "RUN", 0, "ppo.py"),  # another script's
    ("sac", "RUN", 0, "ppo.py"),
    ("ppo", "RUN", 2, "1 process"),
    ("ppo", "RUN --gamma 0.5", 0, "--total-timesteps"),
    ("ppo", "RUN --seed 5 --total-timesteps 2000", 0, "--total-timesteps"),
    ("ppo", "RUN --total-timesteps -1", 0, "--total-timesteps"),
]


@pytest.mark.parametrize("name, args, ranks, says", RESUMED)
def test_resuming_otherwise(name, args, ranks, says, tmp_path, finished):
    args = [str(finished) if arg == "RUN" else arg for arg in args.split()]
    assert_refused(f"{name}.py", "--resume", *args, cwd=tmp_path, mpi=ranks, says=says)


@pytest.mark.parametrize(
    "args", ["--episodes 0", "--episodes -2", "--video film.xyz", "--video", "stray"]
)
def test_playing_otherwise(args, tmp_path, finished):
    assert_refused("logx.py", "play", finished, *args.split(), cwd=tmp_path, says=args.split()[0])


def test_another_command_than_play(tmp_path, finished):
    assert_refused("logx.py", "show", finished, cwd=tmp_path, says="Unrecognized options")


def test_resuming_nothing(tmp_path):
    # --total-timesteps: should it begin a run, that run is short
    assert_refused("ppo.py", "--resume", "", "--total-timesteps", 1, cwd=tmp_path, says="missing")


# environments that go wrong

FAULTS = [(name, "RewardNaN", "reward|episodic_return") for name in SCRIPTS]
FAULTS += [(name, "ObservationNaN", "observation") for name in SCRIPTS]
FAULTS += [("vpg", "DiscreteObservationNaN", "observation")]
FAULTS += [
    ("trpo", "LastObservationNaN", "observation|losses"),
    ("td3", "LastObservationNaN", "observation"),
]


def run_faulty(name, env_id, cwd, mpi=0, **kwargs):
    args = [
        *TINY[name],
        "--env-id",
        f"faulty_envs:{env_id}-v0",
        "--steps-per-epoch",
        100,
        "--update-after",
        50,
    ]
    done = run(
        f"{name}.py",
        *args[: -2 if name in ON_POLICY else None],
        cwd=cwd,
        mpi=mpi,
        env=FAULTY,
        **kwargs,
    )
    assert done.returncode == 1, done.stderr
    assert logx.read_checkpoint(only_run(cwd))["step"] <= 100 * max(mpi, 1)
    return done.stderr


@pytest.mark.parametrize("name, env_id, quantity", FAULTS)
def test_nan_is_named(name, env_id, quantity, tmp_path):
    stderr = run_faulty(name, env_id, tmp_path)
    assert "Traceback" not in stderr
    what, step = re.fullmatch(
        r".*py: (.*) is NaN or infinite at step (\d+)", stderr.splitlines()[-1]
    ).groups()
    assert re.search(quantity, what)
    assert (
        136 <= int(step) <= (200 if "losses" in what else 150)
    )  # it happens at step 137 or 150; episodes have 50


@pytest.mark.parametrize("name", ["trpo", "sac"])
def test_an_environment_that_raises(name, tmp_path):
    stderr = run_faulty(name, "Raises", tmp_path)
    assert stderr.count("Traceback") == 1
    assert stderr.rstrip().endswith("ArithmeticError: the simulation diverged")


def test_an_environment_that_raises_on_one_rank(tmp_path):
    stderr = run_faulty("ppo", "RaisesOnRank1", tmp_path, mpi=2, timeout=60)
    assert stderr.count("Traceback") == 1
    assert "rank 1" in stderr and "ArithmeticError: the simulation diverged" in stderr


@pytest.mark.parametrize("name", ["ppo", "ddpg"])
def test_an_observation_of_a_wrong_shape(name, tmp_path):
    stderr = run_faulty(name, "WrongShape", tmp_path)
    assert stderr.count("Traceback") == 1
    assert "shape" in stderr.rstrip().splitlines()[-1]


@pytest.mark.parametrize("name", SCRIPTS)
def test_episodes_of_one_step(name, tmp_path):
    """Off-policy, the first update comes late enough to see that none is made up for."""
    args = [*TINY[name], "--env-id", "faulty_envs:EndsAtOnce-v0"]
    folder = train(f"{name}.py", *args, cwd=tmp_path, env=FAULTY)
    rows = read_rows(folder)
    assert rows and all(
        float(r["charts/episodic_length"]) == float(r["charts/episodic_return"]) == 1 for r in rows
    )


@pytest.mark.parametrize("name", ON_POLICY)
def test_an_episode_that_never_ends(name, tmp_path):
    """Each epoch is a path that is cut, and learned from; there is no return to log."""
    args = [*TINY[name], "--env-id", "faulty_envs:Endless-v0"]
    args = args[: args.index("--max-episode-steps")] + args[args.index("--max-episode-steps") + 2 :]
    folder = train(f"{name}.py", *args, cwd=tmp_path, env=FAULTY)
    rows = read_rows(folder)
    assert rows and all(r["charts/episodic_return"] == "" and r["losses/v"] != "" for r in rows)
