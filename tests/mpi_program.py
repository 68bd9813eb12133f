"""Checks that need several ranks, and an environment that fails on one of them.

    mpirun -np 2 python tests/mpi_program.py CHECK [SCRIPT]

test_mpi.py starts it under mpirun. CHECK is the name of a function below, without its check_.
"""

import importlib
import os
import signal
import sys
import time
from copy import deepcopy
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

import logx


class OnRankOne(gym.Env):
    """Episodes of 20 steps; on rank 1, the fault that FAULT names occurs at its 137th step."""

    observation_space = gym.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self):
        self.n, self.fault = 0, os.environ["FAULT"] if os.environ.get("PMI_RANK") == "1" else ""

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, a):
        self.n, self.t, r = self.n + 1, self.t + 1, 1.0
        if self.n == 137:
            if self.fault == "raise":
                raise ArithmeticError("the simulation diverged")
            if self.fault == "exit":
                sys.exit(0)
            if self.fault == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.fault == "nan":
                r = np.nan
        ended = self.t == 20 and self.fault != "endless"
        return self.observation_space.sample(), r, ended, False, {}


gym.register("OnRankOne-v0", OnRankOne)


def make(script, rows, hidden_sizes=(8,)):
    """An actor-critic, the same on all ranks, and a random batch, a different one on each rank."""
    args = script.Args(hidden_sizes=hidden_sizes, train_v_iters=5)
    observations, actions = gym.spaces.Box(-1, 1, (3,)), gym.spaces.Box(-1, 1, (2,))
    torch.manual_seed(0)
    ac = script.ActorCritic(observations, actions, args).double()
    torch.manual_seed(1 + logx.rank)
    s = torch.randn(rows, 3).double()
    ret = torch.randn(rows).double()
    adv = torch.randn(rows).double()
    a = ac.pi(s).sample()
    return args, ac, (s, a, ret, adv, ac.pi(s).log_prob(a).detach())


def update(script, args, ac, batch):
    """The parameters after one update of policy and value function."""
    if script.__name__ == "trpo":
        script.update_pi(ac, batch, args)
    else:
        script.update_pi(ac, batch, args, torch.optim.Adam(ac.pi.parameters(), lr=1e-2))
    script.update_v(ac, batch, args, torch.optim.Adam(ac.v.parameters(), lr=1e-2))
    return torch.nn.utils.parameters_to_vector(ac.parameters()).detach()


def check_joint(name):
    """An update on all ranks equals the update that one process makes with all their batches."""
    script = importlib.import_module(name)
    args, ac, batch = make(script, rows=200)
    alone, joint = deepcopy(ac), [torch.cat(x) for x in zip(*logx.gather(batch), strict=True)]
    together = update(script, args, ac, batch)
    logx.size, size = 1, logx.size
    alone = update(script, args, alone, joint)
    logx.size = size
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-9)
    assert all(torch.equal(x, together) for x in logx.gather(together))


def check_advantages(name):
    """Advantages are normalised over all ranks, although each rank has different rewards."""
    script = importlib.import_module(name)
    args, ac, _ = make(script, rows=1)
    ac.float()
    buf = script.PathBuffer(gym.spaces.Box(-1, 1, (3,)), gym.spaces.Box(-1, 1, (2,)), 50)
    for t in range(50):
        s = np.random.randn(3)
        buf.store(t, s, np.zeros(2), 10 * logx.rank + np.random.randn(), s, False, t == 49)
    adv = np.concatenate(logx.gather(script.compute_batch(ac, buf, args)[3].numpy()))
    assert abs(adv.mean()) < 1e-5 and abs(adv.std() - 1) < 1e-4, (adv.mean(), adv.std())


def check_same_parameters(name):
    """The ranks have the same parameters after the first broadcast and after every epoch."""
    script, epochs, end_epoch = importlib.import_module(name), [], logx.Logger.end_epoch

    def compare(logger, step):
        epochs.append(torch.cat([p.detach().flatten() for p in logger.tracked["ac"].parameters()]))
        assert all(torch.equal(x, epochs[-1]) for x in logx.gather(epochs[-1]))
        end_epoch(logger, step)

    logx.Logger.end_epoch = compare
    knobs = dict(total_timesteps=4800, steps_per_epoch=1200, hidden_sizes=(16,))
    script.train(script.Args(env_id="Pendulum-v1", **knobs))
    assert len(epochs) == 4 and not torch.equal(epochs[0], epochs[-1])


def check_statistics(_):
    """stats() of shares of different sizes, even empty ones; average() of tensors; broadcast()."""
    mine = np.arange(logx.rank, dtype=np.float64) + 10 * logx.rank
    everything = np.concatenate([np.arange(rank) + 10.0 * rank for rank in range(logx.size)])
    expected = [everything.mean(), everything.std(), everything.min(), everything.max()]
    np.testing.assert_allclose(logx.stats(mine), expected)
    assert logx.stats([]) == [None] * 4
    assert logx.average(torch.tensor([1.0, logx.rank])).tolist() == [1.0, (logx.size - 1) / 2]
    layer = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(layer.weight, logx.rank)
    logx.broadcast(layer)
    assert layer.weight.eq(0).all()


if __name__ == "__main__":
    try:
        globals()[f"check_{sys.argv[1]}"](*sys.argv[2:])
    except BaseException:
        time.sleep(1)
        sys.excepthook(*sys.exc_info())
        logx.MPI.COMM_WORLD.Abort(1)
