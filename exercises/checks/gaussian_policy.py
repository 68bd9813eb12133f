"""Checks of exercise 1.2. Right numbers: those of exercise 1.1, and statistics of many samples."""

import math

import numpy as np
import torch
from torch import nn

from checks.common import Exercise, compare, f32, require, same_mistakes, short_run
from checks.gaussian_logp import HALF_LOG_2PI, PPO_RUN, by_dimension, mistakes

LOG_STD = np.array([-1.0, 0.2, 0.6])
S = np.random.default_rng(2).normal(size=(4, 2))


def make(learner):
    """A policy for 2 observations and 3 actions, with a known log_std."""
    policy = learner.GaussianPolicy(2, 3, (8,))
    require(isinstance(policy, nn.Module), "GaussianPolicy should be a torch.nn.Module.")
    for name in ("net", "log_std"):
        require(hasattr(policy, name), f"self.{name} is not there after __init__.")
    require(
        torch.is_tensor(policy.log_std) and policy.log_std.shape == (3,),
        "log_std should be a tensor (act_dim,).",
    )
    with torch.no_grad():
        policy.log_std.copy_(f32(LOG_STD))
    return policy


def linear_layers(net):
    return [m for m in net.modules() if isinstance(m, nn.Linear)]


def check_parts(learner):
    """the network and log_std"""
    policy = learner.GaussianPolicy(2, 3, (8, 5))
    trained = dict(policy.named_parameters()) if isinstance(policy, nn.Module) else {}
    require(
        trained,
        "GaussianPolicy has no parameters: "
        "it should be a torch.nn.Module with a network in self.net.",
    )
    require(
        "log_std" in trained,
        "log_std is not among the parameters, so no optimiser will move it: nn.Parameter.",
    )
    sigma = np.full(3, math.exp(-0.5))
    hint = "This is σ; log_std should be log σ."
    compare("log_std", policy.log_std, np.full(3, -0.5), [(sigma, hint)])
    make(learner)

    layers = linear_layers(policy.net)
    sizes = [(m.in_features, m.out_features) for m in layers]
    require(
        sizes == [(2, 8), (8, 5), (5, 3)],
        "For obs_dim 2, act_dim 3, hidden_sizes (8, 5) "
        f"the linear layers are {sizes}; they should be 2 → 8 → 5 → 3.",
    )

    # a last layer that is 5 everywhere shows whether anything follows it
    with torch.no_grad():
        layers[-1].weight.zero_()
        layers[-1].bias.fill_(5.0)
    bias = np.full((4, 3), 5.0)
    hint = "There is an activation after the last layer, so the mean cannot leave (−1, 1)."
    what = "net(s), with a last layer that is 5 everywhere,"
    compare(what, policy.net(f32(S)), bias, [(np.tanh(bias), hint)])

    # f(x) + f(y) = f(x + y) + f(0) for linear functions
    net = learner.GaussianPolicy(2, 3, (8, 5)).net
    with torch.no_grad():
        apart = net(f32(S)) + net(f32(S[::-1]))
        together = net(f32(S + S[::-1])) + net(f32(0 * S))
    require(
        not np.allclose(apart, together, atol=1e-4),
        "The network is linear: there is no Tanh between its layers.",
    )

    net = learner.GaussianPolicy(2, 3, (8, 5)).net
    x = f32(S)
    *hidden, last = linear_layers(net)
    for layer in hidden:
        x = torch.tanh(layer(x))
    require(
        torch.allclose(net(f32(S)), last(x), atol=1e-5),
        "net(s) is not what its layers give with a Tanh after every hidden one. "
        "Is there one after each of them?",
    )


def check_sample(learner):
    """sample"""
    policy = make(learner)
    a = policy.sample(f32(S))
    require(
        torch.is_tensor(a) and a.shape == (4, 3),
        f"sample should give a tensor (4, 3), and gives {describe(a)}.",
    )
    s = f32(S[:1]).repeat(4000, 1)
    noise = (policy.sample(s) - policy.net(s)).detach().double().numpy()
    require(noise.std() > 1e-6, "The samples have no noise: they are the mean itself.")
    require(
        noise[:, 0].std() > 1e-6,
        "All rows of the batch got the same noise. "
        "Each row needs its own numbers: torch.randn_like(mu).",
    )
    require(
        np.abs(np.corrcoef(noise.T) - np.eye(3)).max() < 0.9,
        "All dimensions of an action got the same noise. "
        "Each needs its own number: torch.randn_like(mu).",
    )
    std = noise.std(axis=0)
    sigma = np.exp(LOG_STD)
    for wrong, hint in [
        (sigma**2, "The noise is scaled by the variance σ². Scale it by σ."),
        (
            sigma**0.5,
            "The noise is scaled by √σ; exp(log_std) is σ itself, so no square root is needed.",
        ),
        (np.abs(LOG_STD), "The noise is scaled by log_std. It is log σ: take exp first."),
        (np.ones(3), "The noise has standard deviation 1 in every dimension: σ is missing."),
    ]:
        require(not np.allclose(std, wrong, rtol=0.07), hint)
    compare("the standard deviation of the samples", std, sigma, rtol=0.07)
    compare("the mean of the samples, less net(s),", noise.mean(axis=0), np.zeros(3), atol=0.12)


def check_log_prob(learner):
    """log_prob"""
    policy = make(learner)
    a = np.random.default_rng(3).normal(size=(4, 3))
    mu = policy.net(f32(S)).detach().double().numpy()
    logp = policy.log_prob(f32(S), f32(a))
    want = by_dimension(a, mu, LOG_STD).sum(axis=-1)
    compare("log_prob", logp, want, mistakes(a, mu, LOG_STD), tensor=True)
    require(
        logp.requires_grad,
        "log_prob carries no gradient, so the policy could not learn: no detach(), no no_grad().",
    )
    logp.sum().backward()
    require(policy.log_std.grad is not None, "No gradient reaches log_std.")
    trained = [p.grad is not None for p in policy.parameters()]
    require(all(trained), "No gradient reaches the network.")


def check_entropy(learner):
    """entropy"""
    got = make(learner).entropy(f32(S))
    each = LOG_STD + 0.5 + HALF_LOG_2PI
    right = each.sum()
    hints = [
        (
            right,
            "The number is right, but there should be one for each state, (B,): "
            "all states have the same.",
        ),
        (
            each,
            "One number for each dimension came back: the entropy of all together is their sum.",
        ),
        *same_mistakes(np.tile(each, (4, 1)), "the entropy"),
    ]
    for x, hint in [
        (
            0.5 + HALF_LOG_2PI + LOG_STD.sum(),
            "½ + ½ log 2π enters once for each dimension, not once for all.",
        ),
        (-right, "The sign is the wrong way round: entropy is −∫ π log π."),
        (right - 1.5, "A ½ for each dimension is missing: E[z²/2] is ½."),
        (right + LOG_STD.sum(), "The entropy has log σ in it, not log σ²."),
    ]:
        hints.append((x, hint))
        hints.append((np.full(4, x), hint))
    compare("entropy", got, np.full(4, right), hints, tensor=True)


def describe(x):
    if torch.is_tensor(x):
        return f"shape {tuple(x.shape)}"
    return type(x).__name__


EXERCISE = Exercise(
    parts=[check_parts, check_sample, check_log_prob, check_entropy],
    refused=("torch.distributions",),
)


def train(learner):
    """PPO with the learner's policy."""

    def changes(ppo):
        class Pi:
            def __init__(self, policy, s):
                self.policy = policy
                self.s = s

            def log_prob(self, a):
                return self.policy.log_prob(self.s, a)

            def entropy(self):
                return self.policy.entropy(self.s)

        class Actor(learner.GaussianPolicy):
            def forward(self, s):
                return Pi(self, s)

            def noise(self, n):
                return [None] * n  # sample() draws its own

        def snapshot(pi):
            @torch.no_grad()
            def act(s, noise):
                return pi.sample(torch.as_tensor(s)[None])[0].numpy()

            return act

        def check_snapshot(pi, obs_dim):
            pass  # there is no noise to compare

        return {"GaussianActor": Actor, "snapshot": snapshot, "check_snapshot": check_snapshot}

    return short_run("ppo", changes, **PPO_RUN)
