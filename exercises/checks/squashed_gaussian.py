"""Checks of exercise 1.6. Right numbers: log(1 − tanh² u) = log 4 − 2 logaddexp(u, −u)."""

import math

import numpy as np
import torch

from checks.common import (
    Exercise,
    Wrong,
    compare,
    f32,
    has_gradient,
    require,
    same_mistakes,
    short_run,
)
from checks.gaussian_logp import by_dimension
from checks.td3 import PENDULUM

RNG = np.random.default_rng(8)
U = RNG.normal(size=(5, 3))
MU = RNG.normal(size=(5, 3))
LOG_STD = 0.5 * RNG.normal(size=(5, 3))


def log_slope(u):
    """log d tanh(u)/du."""
    return math.log(4) - 2 * np.logaddexp(u, -u)


def check_numbers(learner):
    """numbers, for u of ordinary size"""
    got = learner.squashed_logp(f32(U), f32(MU), f32(LOG_STD))
    gauss = by_dimension(U, MU, LOG_STD)
    slope = log_slope(U)
    right = (gauss - slope).sum(axis=-1)
    of_action = by_dimension(np.tanh(U), MU, LOG_STD)
    hints = [
        *same_mistakes(gauss - slope, "the log-probability"),
        (
            gauss.sum(axis=-1),
            "This is the log-probability of u. The correction for tanh is missing.",
        ),
        (
            (gauss + slope).sum(axis=-1),
            "The correction has the wrong sign: squeezing makes the density higher.",
        ),
        (-right, "The sign of everything is the wrong way round."),
        (
            (gauss - slope / 2).sum(axis=-1),
            "The slope of tanh is 1 − tanh² u; a square is missing.",
        ),
        ((gauss - 2 * slope).sum(axis=-1), "The correction enters twice."),
        (
            (gauss - np.exp(slope)).sum(axis=-1),
            "The slope 1 − tanh² u itself was subtracted, and not its logarithm.",
        ),
        (
            (of_action - slope).sum(axis=-1),
            "The Gaussian is asked about tanh(u), but it is u that was drawn from it.",
        ),
        (
            gauss.sum(axis=-1) - slope.mean(axis=-1),
            "The correction is averaged over the dimensions: sum it.",
        ),
    ]
    compare("squashed_logp", got, right, hints, tensor=True)


def epsilon_mistakes(gauss, u, size):
    """What an ε inside the logarithm gives, added or as a bound, in single precision."""
    exactly = np.float32(1) - np.tanh(np.float32(u)) ** 2
    hints = []
    for eps in (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-10, 1e-12):
        hint = (
            f"An ε ({eps:g}) inside the logarithm stops the −∞, "
            f"but makes it wrong for |u| = {size:g}. "
            "Rewrite log(1 − tanh² u) with eᵘ and e⁻ᵘ instead."
        )
        added = np.log(exactly + np.float32(eps))
        bounded = np.log(np.maximum(exactly, eps))
        hints.append(((gauss - added).sum(axis=-1), hint))
        hints.append(((gauss - bounded).sum(axis=-1), hint))
    return hints


def check_large(learner):
    """u far from 0, in single precision"""
    for size in (6.0, 10.0, 20.0, 50.0, 100.0):
        u = np.array([[size, -size, 0.5]])
        got = learner.squashed_logp(f32(u), f32(u), f32(np.zeros((1, 3))))
        gauss = by_dimension(u, u, np.zeros(3))
        right = (gauss - log_slope(u)).sum(axis=-1)
        x = got
        if torch.is_tensor(got):
            x = got.detach().double().numpy()
        if x is not None and not np.isfinite(x).all():
            raise Wrong(
                f"At |u| = {size:g} this is {np.ravel(x)[0]}: "
                "tanh(u) is rounded to ±1, or eᵘ overflows. "
                "Write 1 − tanh² u as 4 / (eᵘ + e⁻ᵘ)², take the logarithm on paper, "
                "and look at softplus(x) = log(1 + eˣ)."
            )
        hints = epsilon_mistakes(gauss, u, size)
        atol = 1e-2 if size < 8 else 1e-3
        compare(f"squashed_logp at |u| = {size:g}", got, right, hints, rtol=1e-4, atol=atol)


def check_gradient(learner):
    """gradients, near 0 and far from it"""
    u = f32([[0.3, -1.2, 30.0, -40.0]]).requires_grad_()
    logp = learner.squashed_logp(u, u.detach(), torch.zeros(1, 4))
    require(
        has_gradient(logp),
        "No gradient reaches u, through which SAC's policy learns.",
    )
    logp.sum().backward()
    require(
        bool(torch.isfinite(u.grad).all()),
        "The gradient at |u| = 30 or 40 is NaN or infinite, though the number is fine.",
    )
    h = 1e-4
    x = u.detach().double().numpy()
    right = -(log_slope(x + h) - log_slope(x - h)) / (2 * h)
    compare("the gradient by u", u.grad, right, rtol=1e-3, atol=1e-3)

    u, mu, log_std = (f32(x).requires_grad_() for x in (U, MU, LOG_STD))
    learner.squashed_logp(u, mu, log_std).sum().backward()
    sigma = np.exp(LOG_STD)
    z = (U - MU) / sigma
    for name, x, right in (
        ("u", u, 2 * np.tanh(U) - z / sigma),
        ("mu", mu, z / sigma),
        ("log_std", log_std, z**2 - 1),
    ):
        require(x.grad is not None, f"No gradient reaches {name}.")
        compare(f"the gradient by {name}", x.grad, right, rtol=1e-3, atol=1e-3)


EXERCISE = Exercise(
    parts=[check_numbers, check_large, check_gradient], refused=("torch.distributions",)
)


def train(learner):
    """SAC with the learner's log-probability."""

    def changes(sac):
        class Actor(sac.Actor):
            def forward(self, s, deterministic=False):
                mu, log_std = self.net(s).chunk(2, dim=-1)
                log_std = log_std.clamp(-20, 2)
                u = mu
                if not deterministic:
                    u = mu + log_std.exp() * torch.randn_like(mu)
                return torch.tanh(u), learner.squashed_logp(u, mu, log_std)

        return {"Actor": Actor}

    return short_run("sac", changes, **PENDULUM)
