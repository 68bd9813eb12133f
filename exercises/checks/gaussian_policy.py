"""Exercise 1.2. The right numbers: those of exercise 1.1's check, and statistics of what is sampled."""

import math

import numpy as np
import torch
from torch import nn

from checks.common import compare, f32, require, same_mistakes, short_run
from checks.gaussian_logp import HALF_LOG_2PI, PPO_RUN, by_dimension, mistakes

REFUSED = ("torch.distributions",)
LOG_STD = np.array([-1.0, 0.2, 0.6])
S = np.random.default_rng(2).normal(size=(4, 2))


def make(learner, hidden_sizes=(8,)):
    policy = learner.GaussianPolicy(2, 3, hidden_sizes)
    require(isinstance(policy, nn.Module), "GaussianPolicy should be a torch.nn.Module.")
    for name in ("net", "log_std"):
        require(hasattr(policy, name), f"self.{name} is not there after __init__.")
    require(torch.is_tensor(policy.log_std) and policy.log_std.shape == (3,), "log_std should be a tensor (act_dim,).")
    with torch.no_grad():
        policy.log_std.copy_(f32(LOG_STD))
    return policy


def check_parts(learner):
    """the network and log_std"""
    policy = learner.GaussianPolicy(2, 3, (8, 5))
    trained = dict(policy.named_parameters()) if isinstance(policy, nn.Module) else {}
    require(trained, "GaussianPolicy has no parameters: it should be a torch.nn.Module with a network in self.net.")
    require("log_std" in trained, "log_std is not among the parameters, so no optimiser will move it: nn.Parameter.")
    compare(
        "log_std", policy.log_std, np.full(3, -0.5), [(np.full(3, math.exp(-0.5)), "This is σ; log σ is asked for.")]
    )
    make(learner)
    linear = [m for m in policy.net.modules() if isinstance(m, nn.Linear)]
    sizes = [(m.in_features, m.out_features) for m in linear]
    require(
        sizes == [(2, 8), (8, 5), (5, 3)],
        f"For obs_dim 2, act_dim 3, hidden_sizes (8, 5) the linear layers are {sizes}; 2 → 8 → 5 → 3 is asked for.",
    )
    with torch.no_grad():
        linear[-1].weight.zero_()
        linear[-1].bias.fill_(5.0)
    bias = np.full((4, 3), 5.0)
    hint = "There is an activation after the last layer, so the mean cannot leave (−1, 1)."
    compare("net(s), with a last layer that is 5 everywhere,", policy.net(f32(S)), bias, [(np.tanh(bias), hint)])
    net = learner.GaussianPolicy(2, 3, (8, 5)).net
    one, two, both, zero = (net(x).detach().numpy() for x in (f32(S), f32(S[::-1]), f32(S + S[::-1]), f32(0 * S)))
    require(
        not np.allclose(one + two, both + zero, atol=1e-4),
        "The network is linear: there is no Tanh between its layers.",
    )
    net, x = learner.GaussianPolicy(2, 3, (8, 5)).net, f32(S)
    *hidden, last = [m for m in net.modules() if isinstance(m, nn.Linear)]
    for layer in hidden:
        x = torch.tanh(layer(x))
    hint = "net(s) is not what its layers give with a Tanh after every hidden one. Is there one after each of them?"
    require(torch.allclose(net(f32(S)), last(x), atol=1e-5), hint)


def check_sample(learner):
    """sample"""
    policy, n = make(learner), 4000
    a = policy.sample(f32(S))
    require(torch.is_tensor(a) and a.shape == (4, 3), f"sample should give a tensor (4, 3), and gives {describe(a)}.")
    s = f32(S[:1]).repeat(n, 1)
    noise = (policy.sample(s) - policy.net(s)).detach().double().numpy()
    require(noise.std() > 1e-6, "The samples have no noise: they are the mean itself.")
    require(
        noise[:, 0].std() > 1e-6,
        "All rows of the batch got the same noise. Each row needs numbers of its own: torch.randn_like(mu).",
    )
    require(
        np.abs(np.corrcoef(noise.T) - np.eye(3)).max() < 0.9,
        "All dimensions of an action got the same noise. Each needs a number of its own: torch.randn_like(mu).",
    )
    std, sigma = noise.std(axis=0), np.exp(LOG_STD)
    for wrong, hint in [
        (sigma**2, "The noise is scaled by the variance σ². It is to be scaled by σ."),
        (sigma**0.5, "The noise is scaled by √σ; exp(log_std) is σ itself, so no square root is needed."),
        (np.abs(LOG_STD), "The noise is scaled by log_std. It is log σ: take exp first."),
        (np.ones(3), "The noise has standard deviation 1 in every dimension: σ is missing."),
    ]:
        require(not np.allclose(std, wrong, rtol=0.07), hint)
    compare("the standard deviation of the samples", std, sigma, rtol=0.07)
    compare("the mean of the samples, less net(s),", noise.mean(axis=0), np.zeros(3), atol=0.12)


def check_log_prob(learner):
    """log_prob"""
    policy, a = make(learner), np.random.default_rng(3).normal(size=(4, 3))
    mu = policy.net(f32(S)).detach().double().numpy()
    logp = policy.log_prob(f32(S), f32(a))
    compare("log_prob", logp, by_dimension(a, mu, LOG_STD).sum(axis=-1), mistakes(a, mu, LOG_STD), tensor=True)
    require(
        logp.requires_grad, "log_prob carries no gradient, so the policy could not learn: no detach(), no no_grad()."
    )
    logp.sum().backward()
    require(policy.log_std.grad is not None, "No gradient reaches log_std.")
    require(all(p.grad is not None for p in policy.parameters()), "No gradient reaches the network.")


def check_entropy(learner):
    """entropy"""
    got, right = make(learner).entropy(f32(S)), (LOG_STD + 0.5 + HALF_LOG_2PI).sum()
    each = np.tile(LOG_STD + 0.5 + HALF_LOG_2PI, (4, 1))
    compare(
        "entropy",
        got,
        np.full(4, right),
        [
            (right, "The number is right, but one for each state is asked for, (B,): all states have the same."),
            (each[0], "One number for each dimension came back: the entropy of all together is their sum."),
            *same_mistakes(each, "the entropy"),
            *(
                (x * np.ones(shape), hint)
                for shape in ((), (4,))
                for x, hint in [
                    (
                        0.5 + HALF_LOG_2PI + LOG_STD.sum(),
                        "½ + ½ log 2π enters once for each dimension, not once for all.",
                    ),
                    (-right, "The sign is the wrong way round: entropy is −∫ π log π."),
                    (right - 1.5, "A ½ for each dimension is missing: E[z²/2] is ½."),
                    (right + LOG_STD.sum(), "The entropy has log σ in it, not log σ²."),
                ]
            ),
        ],
        tensor=True,
    )


def describe(x):
    return f"shape {tuple(x.shape)}" if torch.is_tensor(x) else type(x).__name__


PARTS = [check_parts, check_sample, check_log_prob, check_entropy]


def train(learner):
    """PPO with the learner's policy."""

    def changes(ppo):
        class Pi:
            def __init__(self, policy, s):
                self.policy, self.s = policy, s

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

        return {"GaussianActor": Actor, "snapshot": snapshot}

    return short_run("ppo", changes, **PPO_RUN)
