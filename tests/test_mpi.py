"""Several ranks compute what one process would, and a rank that fails ends the whole job."""

import signal
import time
from pathlib import Path

import pytest
from helpers import ON_POLICY, only_run, read_rows, run, start, train, wait

TESTS = Path(__file__).parent
SHORT = "--steps-per-epoch 400 --hidden-sizes 8 --train-v-iters 5".split()
ON_RANK_ONE = ["--env-id", "mpi_program:OnRankOne-v0", *SHORT]


def check(ranks, *names, cwd):
    done = run(TESTS / "mpi_program.py", *names, cwd=cwd, mpi=ranks)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("name", ON_POLICY)
def test_an_update_is_that_of_the_joint_batch(name, ranks, tmp_path):
    check(ranks, "joint", name, cwd=tmp_path)


@pytest.mark.parametrize("name", ON_POLICY)
def test_advantages_are_normalised_over_all_ranks(name, tmp_path):
    check(2, "advantages", name, cwd=tmp_path)


@pytest.mark.parametrize("name, ranks", [("vpg", 2), ("trpo", 2), ("ppo", 2), ("trpo", 4)])
def test_all_ranks_keep_the_same_parameters(name, ranks, tmp_path):
    check(ranks, "same_parameters", name, cwd=tmp_path)


def test_statistics(tmp_path):
    check(4, "statistics", "-", cwd=tmp_path)


def test_two_ranks_learn_as_one(tmp_path):
    """With the budget and goal that test_learning.py has for one process."""
    args = "--env-id CartPole-v1 --seed 1 --pi-lr 3e-3 --total-timesteps 48000".split()
    rows = read_rows(train("ppo.py", *args, cwd=tmp_path, mpi=2, timeout=300))
    assert float(rows[-1]["charts/episodic_return"]) >= 400


@pytest.mark.parametrize(
    "fault, says",
    [
        ("raise", "the simulation diverged"),
        ("exit", "SystemExit"),
        ("kill", "KILLED"),
        ("nan", "the reward is NaN"),
    ],
)
@pytest.mark.parametrize("ranks", [2, 4])
def test_a_rank_that_fails_ends_the_job(fault, says, ranks, tmp_path):
    env = {"FAULT": fault, "PYTHONPATH": str(TESTS)}
    begin = time.monotonic()
    args = [*ON_RANK_ONE, "--total-timesteps", 10**6]
    done = run("ppo.py", *args, cwd=tmp_path, mpi=ranks, env=env, timeout=60)
    assert done.returncode != 0
    assert says.lower() in (done.stdout + done.stderr).lower()
    assert time.monotonic() - begin < 15 + 10  # 10 s to start on a busy machine


def test_an_epoch_in_which_one_rank_finishes_no_episode(tmp_path):
    env = {"FAULT": "endless", "PYTHONPATH": str(TESTS)}
    folder = train("ppo.py", *ON_RANK_ONE, "--total-timesteps", 800, cwd=tmp_path, mpi=2, env=env)
    assert [float(row["charts/episodic_length"]) for row in read_rows(folder)] == [20, 20]


def test_resuming_is_exact_on_two_ranks(tmp_path):
    args = "--env-id Pendulum-v1 --steps-per-epoch 800 --total-timesteps 8000".split()
    args += ["--hidden-sizes", 16]
    (tmp_path / "whole").mkdir()
    whole = train("ppo.py", *args, cwd=tmp_path / "whole", mpi=2)
    (tmp_path / "killed").mkdir()
    process = start("ppo.py", *args, cwd=tmp_path / "killed", mpi=2)
    process.stdout.readline()  # it has written its first row
    process.send_signal(signal.SIGTERM)  # mpirun passes it on; SIGKILL would leave its ranks behind
    wait(process)
    folder = only_run(tmp_path / "killed")
    alone = run("ppo.py", "--resume", folder, cwd=tmp_path)
    assert alone.returncode == 2 and "2 process(es)" in alone.stderr
    assert run("ppo.py", "--resume", folder, cwd=tmp_path, mpi=2).returncode == 0
    clock = ("time", "charts/SPS")
    assert read_rows(folder, without=clock) == read_rows(whole, without=clock)
