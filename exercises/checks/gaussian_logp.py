"""Exercise 1.1. The right numbers: statistics.NormalDist of the standard library, dimension by dimension."""

import math
from statistics import NormalDist

import numpy as np

from checks.common import Wrong, compare, f32, same_mistakes, short_run

REFUSED = ("torch.distributions",)
RNG = np.random.default_rng(1)
X, MU, LOG_STD = RNG.normal(size=(5, 3)), RNG.normal(size=(5, 3)), np.array([0.3, -0.6, 0.9])
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def by_dimension(x, mu, log_std):
    """log N(x_i; μ_i, σ_i), (B, n)."""
    dist = np.vectorize(lambda x, mu, log_std: math.log(NormalDist(mu, math.exp(log_std)).pdf(x)))
    return dist(x, mu, np.broadcast_to(log_std, x.shape))


def mistakes(x, mu, log_std):
    terms = by_dimension(x, mu, log_std)
    right, n = terms.sum(axis=-1), x.shape[-1]
    z2, log_std = ((x - mu) / np.exp(log_std)) ** 2, np.broadcast_to(log_std, x.shape)
    with np.errstate(invalid="ignore"):
        log_of_log = np.log(log_std)
    as_std = -0.5 * ((x - mu) / log_std) ** 2
    return [
        *same_mistakes(terms, "the log-likelihood"),
        (-right, "The sign is the wrong way round: this is the negative log-likelihood."),
        (np.exp(right), "This is the density. What is asked for is its logarithm."),
        (right + n * HALF_LOG_2PI, "The constant −½ log 2π is missing, once for each dimension."),
        (right + (n - 1) * HALF_LOG_2PI, "−½ log 2π enters once for each dimension, not once for all."),
        (right + log_std.sum(axis=-1), "The term −log σ is missing: a narrow density is a high one."),
        (right + 2 * log_std.sum(axis=-1), "log σ enters with a minus."),
        (right - 0.5 * z2.sum(axis=-1), "The square has a factor ½ in front of it."),
        (right + z2.sum(axis=-1), "The square (x − μ)² / 2σ² enters with a minus: far from the mean is unlikely."),
        ((as_std - log_of_log - HALF_LOG_2PI).sum(axis=-1), "log_std was taken for σ. It is log σ: take exp first."),
        ((as_std - log_std - HALF_LOG_2PI).sum(axis=-1), "log_std was taken for σ in the square: take exp first."),
        (
            right + (0.5 * z2 - 0.5 * (x - mu) ** 2 / np.exp(log_std)).sum(axis=-1),
            "(x − μ)² is divided by σ, and should be divided by σ².",
        ),
    ]


def check_shared(learner):
    """log_std (n,), the same for all rows"""
    got = learner.gaussian_logp(f32(X), f32(MU), f32(LOG_STD))
    compare("gaussian_logp", got, by_dimension(X, MU, LOG_STD).sum(axis=-1), mistakes(X, MU, LOG_STD), tensor=True)


def check_own(learner):
    """log_std (B, n), one for each row; B = n, where a wrong axis is not seen by its shape"""
    x, mu, log_std = X[:3], MU[:3], LOG_STD * np.array([[1.0], [-1.0], [0.5]])
    got = learner.gaussian_logp(f32(x), f32(mu), f32(log_std))
    compare("gaussian_logp", got, by_dimension(x, mu, log_std).sum(axis=-1), mistakes(x, mu, log_std), tensor=True)


def check_gradient(learner):
    """gradients, against differences of the numbers"""
    inputs = [f32(a).requires_grad_() for a in (X, MU, LOG_STD)]
    logp = learner.gaussian_logp(*inputs)
    if not getattr(logp, "requires_grad", False):
        raise Wrong("No gradient reaches mu and log_std. Stay in torch: no .numpy(), .item(), .detach(), no_grad().")
    logp.sum().backward()
    for i, name in ((1, "mu"), (2, "log_std")):
        a, slope, h = [X, MU, LOG_STD], np.zeros_like((X, MU, LOG_STD)[i]), 1e-5
        for index in np.ndindex(slope.shape):
            sums = []
            for sign in (1, -1):
                moved = a[i].copy()
                moved[index] += sign * h
                sums.append(by_dimension(*a[:i], moved, *a[i + 1 :]).sum())
            slope[index] = (sums[0] - sums[1]) / (2 * h)
        compare(f"the gradient by {name}", inputs[i].grad, slope, rtol=1e-3, atol=1e-3)


PARTS = [check_shared, check_own, check_gradient]


def train(learner):
    """PPO, whose actor asks the learner's function."""

    def changes(ppo):
        class Pi:
            def __init__(self, mu, log_std):
                self.mu, self.log_std = mu, log_std

            def log_prob(self, a):
                return learner.gaussian_logp(a, self.mu, self.log_std)

            def entropy(self):
                return (self.log_std + 0.5 + HALF_LOG_2PI).sum().expand(len(self.mu))

        class Actor(ppo.GaussianActor):
            def forward(self, s):
                return Pi(self.net(s), self.log_std)

        return {"GaussianActor": Actor}

    return short_run("ppo", changes, **PPO_RUN)


PPO_RUN = dict(env_id="InvertedPendulum-v4", total_timesteps=40_000, steps_per_epoch=2_000, pi_lr=3e-3, last=5, bar=150)
