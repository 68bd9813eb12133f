"""Exercise 1.6: the log-probability of SAC's actions.

SAC draws u from a Gaussian and acts with a = tanh(u), which lies in (−1, 1). The density of a is
not that of u: squeezing the line into an interval makes the density higher where it is squeezed
most.

    log π(a) = Σ_i [ log N(u_i; μ_i, σ_i) − log(da_i / du_i) ]

The obvious code for the last term takes the logarithm of 0 as soon as |u| is about 10, in single
precision. Find a form that holds for any u. `torch.distributions` is out of bounds here.

    python exercises/check.py squashed_gaussian
"""

import math

import torch


def squashed_logp(u, mu, log_std):
    """log π(tanh(u)), as a function of u. Tensors u, mu, log_std (B, n) -> (B,)."""
    raise NotImplementedError  # your code here
