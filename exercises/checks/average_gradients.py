"""Exercise 1.9, on two processes. The right numbers: the mean of gradients that both ranks know beforehand."""

import numpy as np
import torch
from mpi4py import MPI

from checks.common import compare, require, short_run

COMM = MPI.COMM_WORLD
SHAPES = ((3, 2), (3,), (1,))


def grads_of(rank, shapes=SHAPES):
    rng = np.random.default_rng(rank)
    return [rng.normal(size=shape) for shape in shapes]


def make_params(rank):
    params = [torch.nn.Parameter(torch.full(shape, 2.0 + i)) for i, shape in enumerate(SHAPES)]
    for p, g in zip(params, grads_of(rank)):
        p.grad = torch.tensor(g, dtype=torch.float32)
    return params


def flat(xs):
    return np.concatenate([np.ravel(x) for x in xs])


def gathered(params):
    """For rank 0, what every rank has now: gradients, and parameters."""
    grads = flat([p.grad.detach() if p.grad is not None else np.full(p.shape, np.nan) for p in params])
    return COMM.allgather((grads, flat([p.detach() for p in params])))


def check_mean(learner):
    """the mean of both ranks' gradients, on both ranks"""
    params = make_params(COMM.rank)
    learner.average_gradients(params)
    ranks = gathered(params)
    own = [flat(grads_of(rank)) for rank in range(COMM.size)]
    mean, total = sum(own) / len(own), sum(own)
    hints = [
        (np.stack([total, total]), "This is the sum over the processes. Divide by "
        "their number: the step must not grow with it."),
        (np.stack(own), "Every process still has its own gradients: "
        "was the result written back into p.grad?"),
        (np.stack([mean, own[1]]), "Only rank 0 has the mean; the others would "
        "step "
         "elsewhere. Reduce sends to one rank, Allreduce to all."),
        (np.stack([total, own[1]]), "Only rank 0 has something new, and it is the sum. Allreduce, then divide."),
        (np.stack([own[0], own[0]]), "Every process has the gradients of rank 0: that is a broadcast."),
        (np.stack([mean / 2, mean / 2]), "The sum was divided twice by the number of processes."),
    ]  # fmt: skip
    compare("the gradients of ranks 0 and 1", np.stack([grads for grads, _ in ranks]), np.stack([mean, mean]), hints)
    before = flat([np.full(shape, 2.0 + i) for i, shape in enumerate(SHAPES)])
    for rank, (_, values) in enumerate(ranks):
        compare(f"the parameters of rank {rank} (which must stay as they are)", values, before)
    require(all(p.grad.shape == p.shape for p in params), "A gradient has lost the shape of its parameter.")


def check_again(learner):
    """a second call, with new gradients, and a step of an optimiser"""
    params = make_params(COMM.rank)
    for _ in range(2):
        for p, g in zip(params, grads_of(COMM.rank + 10)):
            p.grad = torch.tensor(g, dtype=torch.float32)
        learner.average_gradients(params)
    torch.optim.SGD(params, lr=1.0).step()
    ranks = gathered(params)
    mean = sum(flat(grads_of(rank + 10)) for rank in range(COMM.size)) / COMM.size
    before = flat([np.full(shape, 2.0 + i) for i, shape in enumerate(SHAPES)])
    compare("the parameters after a step on both ranks", np.stack([v for _, v in ranks]), np.stack(2 * [before - mean]))


PARTS = [check_mean, check_again]


def train(learner):
    """VPG in two processes, its gradients averaged by the learner's function."""

    def changes(vpg):
        def average_gradients(module):
            learner.average_gradients(list(module.parameters()))

        vpg.logx.average_gradients = average_gradients
        return {}

    args = dict(env_id="CartPole-v1", total_timesteps=60_000, steps_per_epoch=4_000, pi_lr=1e-2)
    return short_run("vpg", changes, bar=80, **args)
