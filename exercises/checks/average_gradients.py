"""Checks of exercise 1.9, run by two processes. Right numbers: the mean of known gradients."""

import numpy as np
import torch
from mpi4py import MPI

from checks.common import Exercise, compare, require, short_run

COMM = MPI.COMM_WORLD
SHAPES = ((3, 2), (3,), (1,))


def grads_of(seed):
    """The gradients that a rank has, by a number that every rank can know."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) for shape in SHAPES]


def set_grads(params, seed):
    for p, g in zip(params, grads_of(seed)):
        p.grad = torch.tensor(g, dtype=torch.float32)


def make_params(rank):
    params = [torch.nn.Parameter(torch.full(shape, 2.0 + i)) for i, shape in enumerate(SHAPES)]
    set_grads(params, rank)
    return params


def flat(xs):
    return np.concatenate([np.ravel(x) for x in xs])


def initial_values():
    return flat([np.full(shape, 2.0 + i) for i, shape in enumerate(SHAPES)])


def gathered(params):
    """What every rank has now: its gradients and its parameters, as two lists by rank."""
    grads = []
    for p in params:
        if p.grad is None:
            grads.append(np.full(p.shape, np.nan))
        else:
            grads.append(p.grad.detach())
    values = [p.detach() for p in params]
    return COMM.allgather(flat(grads)), COMM.allgather(flat(values))


def check_mean(learner):
    """the mean of both ranks' gradients, on both ranks"""
    params = make_params(COMM.rank)
    learner.average_gradients(params)
    grads, values = gathered(params)
    own = [flat(grads_of(rank)) for rank in range(COMM.size)]
    total = sum(own)
    mean = total / len(own)
    hints = [
        (
            [total, total],
            "This is the sum over the processes. "
            "Divide by their number: the step must not grow with it.",
        ),
        (
            own,
            "Every process still has its own gradients: was the result written back into p.grad?",
        ),
        (
            [mean, own[1]],
            "Only rank 0 has the mean; the others would step elsewhere. "
            "Reduce sends to one rank, Allreduce to all.",
        ),
        (
            [total, own[1]],
            "Only rank 0 has something new, and it is the sum. Allreduce, then divide.",
        ),
        ([own[0], own[0]], "Every process has the gradients of rank 0: that is a broadcast."),
        ([mean / 2, mean / 2], "The sum was divided twice by the number of processes."),
    ]
    compare("the gradients of ranks 0 and 1", np.stack(grads), [mean, mean], hints)
    for rank, rank_values in enumerate(values):
        what = f"the parameters of rank {rank} (which must stay as they are)"
        compare(what, rank_values, initial_values())
    require(
        all(p.grad.shape == p.shape for p in params),
        "A gradient has lost the shape of its parameter.",
    )


def check_again(learner):
    """a second call, with new gradients, and a step of an optimiser"""
    params = make_params(COMM.rank)
    for _ in range(2):
        set_grads(params, COMM.rank + 10)
        learner.average_gradients(params)
    torch.optim.SGD(params, lr=1.0).step()
    _, values = gathered(params)
    mean = sum(flat(grads_of(rank + 10)) for rank in range(COMM.size)) / COMM.size
    after = initial_values() - mean
    compare("the parameters after a step on both ranks", np.stack(values), [after, after])


EXERCISE = Exercise(parts=[check_mean, check_again])


def train(learner):
    """VPG in two processes, its gradients averaged by the learner's function."""

    def changes(vpg):
        def average_gradients(module):
            learner.average_gradients(list(module.parameters()))

        vpg.logx.average_gradients = average_gradients
        return {}

    return short_run(
        "vpg",
        changes,
        env_id="CartPole-v1",
        total_timesteps=60_000,
        steps_per_epoch=4_000,
        pi_lr=1e-2,
        bar=80,
    )
