"""Exercise 1.2: the Gaussian policy that PPO trains.

A network maps a state to the mean μ of an action. The logarithms of the standard deviations are
separate parameters, the same in all states. PPO asks the policy for three things: an action, how
likely an action was, and the entropy.

    python exercises/check.py gaussian_policy
"""

import math

import torch
from torch import nn


class GaussianPolicy(nn.Module):
    """π_θ(·|s) = N(net(s), exp(log_std)), independent in each of act_dim dimensions."""

    def __init__(self, obs_dim, act_dim, hidden_sizes):
        """Makes self.net and self.log_std.

        net: obs_dim inputs, a layer with Tanh after it for each number in the tuple hidden_sizes,
        and a last linear layer with act_dim outputs and nothing after it.
        log_std: a trainable parameter (act_dim,), −0.5 at first.
        """
        super().__init__()
        sizes = [obs_dim, *hidden_sizes, act_dim]
        layers = []
        for n_in, n_out in zip(sizes, sizes[1:]):
            layers += [nn.Linear(n_in, n_out), nn.Tanh()]
        self.net = nn.Sequential(*layers[:-1])
        self.log_std = nn.Parameter(torch.full((act_dim,), -0.5))

    def sample(self, s):
        """a ~ π_θ(·|s). States (B, obs_dim) -> actions (B, act_dim)."""
        mu = self.net(s)
        return mu + self.log_std.exp() * torch.randn_like(mu)

    def log_prob(self, s, a):
        """log π_θ(a|s). States (B, obs_dim), actions (B, act_dim) -> (B,)."""
        z = (a - self.net(s)) / self.log_std.exp()
        return (-0.5 * z**2 - self.log_std - 0.5 * math.log(2 * math.pi)).sum(dim=-1)

    def entropy(self, s):
        """−∫ π_θ(a|s) log π_θ(a|s) da, over all dimensions of a. States (B, obs_dim) -> (B,)."""
        return (0.5 + 0.5 * math.log(2 * math.pi) + self.log_std).sum().expand(len(s))
