"""Exercise 2.2: DDPG's silent shape bug.

Below is the heart of a DDPG that runs, throws no exception, logs finite losses, and hardly learns.
exercises/set2/curves/ddpg_shapes.csv has its curves beside those of the right one (the first line
is the command that made the file).

1. Find out which shapes q, y and q − y have in the broken code, for a batch of 4, and write them
   into SHAPES.
2. Fix it, in one place.
3. Write down, as broken_loss, what the broken code computed: a number made of vectors, with loops
   or sums over i and j.

    python exercises/check.py ddpg_shapes
"""

import torch
from torch import nn

# of the broken code, for a batch of 4: for instance (4, 2)
SHAPES = {"q": None, "y": None, "q - y": None}


class Critic(nn.Module):
    """Q_φ: states (B, obs_dim) and actions (B, act_dim) -> values."""

    def __init__(self, obs_dim, act_dim, hidden):
        super().__init__()
        first = nn.Linear(obs_dim + act_dim, hidden)
        last = nn.Linear(hidden, 1)
        self.net = nn.Sequential(first, nn.ReLU(), last)

    def forward(self, s, a):
        return self.net(torch.cat([s, a], dim=-1))


def compute_targets(q_targ, pi_targ, r, s2, d, gamma):
    """y = r + γ (1 − d) Q_targ(s', μ_targ(s')), for rewards r and terminations d, both (B,)."""
    with torch.no_grad():
        return r + gamma * (1 - d) * q_targ(s2, pi_targ(s2))


def compute_loss_q(q, s, a, y):
    """mean (Q(s, a) − y)²."""
    return ((q(s, a) - y) ** 2).mean()


def broken_loss(q, q_next, r, d, gamma):
    """What the broken code computed as its loss.

    Arrays (B,): Q(s_i, a_i), Q_targ(s'_i, a'_i), r_i, d_i -> number
    """
    raise NotImplementedError  # your code here
