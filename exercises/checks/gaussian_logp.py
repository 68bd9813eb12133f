"""Checks of exercise 1.1. Right numbers: statistics.NormalDist, dimension by dimension."""

import math
from statistics import NormalDist

import numpy as np

from checks.common import Exercise, Wrong, compare, f32, has_gradient, same_mistakes, short_run

RNG = np.random.default_rng(1)
X = RNG.normal(size=(5, 3))
MU = RNG.normal(size=(5, 3))
LOG_STD = np.array([0.3, -0.6, 0.9])
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
PPO_RUN = dict(
    env_id="InvertedPendulum-v4",
    total_timesteps=40_000,
    steps_per_epoch=2_000,
    pi_lr=3e-3,
    last=5,
    bar=150,
)


def logp_of_one(x, mu, log_std):
    return math.log(NormalDist(mu, math.exp(log_std)).pdf(x))


def by_dimension(x, mu, log_std):
    """log N(x_i; μ_i, σ_i), (B, n)."""
    return np.vectorize(logp_of_one)(x, mu, np.broadcast_to(log_std, x.shape))


def mistakes(x, mu, log_std):
    """(what a usual mistake gives, its hint)."""
    terms = by_dimension(x, mu, log_std)
    right = terms.sum(axis=-1)
    n = x.shape[-1]
    z2 = ((x - mu) / np.exp(log_std)) ** 2
    log_std = np.broadcast_to(log_std, x.shape)
    sum_log_std = log_std.sum(axis=-1)

    # log_std taken for σ, in the square and in the logarithm
    square = -0.5 * ((x - mu) / log_std) ** 2
    with np.errstate(invalid="ignore"):
        log_of_log = np.log(log_std)
    std_twice = (square - log_of_log - HALF_LOG_2PI).sum(axis=-1)
    std_in_square = (square - log_std - HALF_LOG_2PI).sum(axis=-1)

    by_sigma = right + (0.5 * z2 - 0.5 * (x - mu) ** 2 / np.exp(log_std)).sum(axis=-1)
    return [
        *same_mistakes(terms, "the log-likelihood"),
        (-right, "The sign is the wrong way round: this is the negative log-likelihood."),
        (np.exp(right), "This is the density. Return its logarithm."),
        (right + n * HALF_LOG_2PI, "The constant −½ log 2π is missing, once for each dimension."),
        (
            right + (n - 1) * HALF_LOG_2PI,
            "−½ log 2π enters once for each dimension, not once for all.",
        ),
        (right + sum_log_std, "The term −log σ is missing: a narrow density is a high one."),
        (right + 2 * sum_log_std, "log σ enters with a minus."),
        (right - 0.5 * z2.sum(axis=-1), "The square has a factor ½ in front of it."),
        (
            right + z2.sum(axis=-1),
            "The square (x − μ)² / 2σ² enters with a minus: far from the mean is unlikely.",
        ),
        (std_twice, "log_std was taken for σ. It is log σ: take exp first."),
        (std_in_square, "log_std was taken for σ in the square: take exp first."),
        (by_sigma, "(x − μ)² is divided by σ, and should be divided by σ²."),
    ]


def check(learner, x, mu, log_std):
    got = learner.gaussian_logp(f32(x), f32(mu), f32(log_std))
    want = by_dimension(x, mu, log_std).sum(axis=-1)
    compare("gaussian_logp", got, want, mistakes(x, mu, log_std), tensor=True)


def check_shared(learner):
    """log_std (n,), the same for all rows"""
    check(learner, X, MU, LOG_STD)


def check_own(learner):
    """log_std (B, n), one for each row; B = n, where a wrong axis is not seen by its shape"""
    check(learner, X[:3], MU[:3], LOG_STD * np.array([[1.0], [-1.0], [0.5]]))


def check_gradient(learner):
    """gradients, against differences of the numbers"""
    inputs = [f32(a).requires_grad_() for a in (X, MU, LOG_STD)]
    logp = learner.gaussian_logp(*inputs)
    if not has_gradient(logp):
        raise Wrong(
            "No gradient reaches mu and log_std. "
            "Stay in torch: no .numpy(), .item(), .detach(), no_grad()."
        )
    logp.sum().backward()
    for i, name in ((1, "mu"), (2, "log_std")):
        slope = slope_by(i, h=1e-5)
        compare(f"the gradient by {name}", inputs[i].grad, slope, rtol=1e-3, atol=1e-3)


def slope_by(i, h):
    """Differences of the summed log-likelihood by each number of its input i."""
    slope = np.zeros_like((X, MU, LOG_STD)[i])
    for index in np.ndindex(slope.shape):
        sums = []
        for change in (h, -h):
            inputs = [X.copy(), MU.copy(), LOG_STD.copy()]
            inputs[i][index] += change
            sums.append(by_dimension(*inputs).sum())
        slope[index] = (sums[0] - sums[1]) / (2 * h)
    return slope


EXERCISE = Exercise(
    parts=[check_shared, check_own, check_gradient], refused=("torch.distributions",)
)


def train(learner):
    """PPO, whose actor calls the learner's function."""

    def changes(ppo):
        class Pi:
            def __init__(self, mu, log_std):
                self.mean = mu
                self.log_std = log_std
                self.stddev = log_std.exp()

            def log_prob(self, a):
                return learner.gaussian_logp(a, self.mean, self.log_std)

            def entropy(self):
                return (self.log_std + 0.5 + HALF_LOG_2PI).sum().expand(len(self.mean))

        class Actor(ppo.GaussianActor):
            def forward(self, s):
                return Pi(self.net(s), self.log_std)

        return {"GaussianActor": Actor}

    return short_run("ppo", changes, **PPO_RUN)
