"""Exercise 1.8: PPO's clipped objective, and the plainest estimate of KL.

    L = mean_B min(ρ Â, clip(ρ, 1 − ε, 1 + ε) Â),   ρ = π_θ(a|s) / π_old(a|s)

The minimum is there for a reason: think of an action with Â > 0 that has become less likely.

    python exercises/check.py ppo_objective
"""

import torch


def ppo_loss(logp, logp_old, adv, clip_ratio):
    """−L, to be minimised. Log-probabilities of π_θ and π_old, advantages: all (B,) -> scalar."""
    ratio = (logp - logp_old).exp()
    clipped = ratio.clamp(1 - clip_ratio, 1 + clip_ratio)
    return -torch.min(ratio * adv, clipped * adv).mean()


def approx_kl(logp, logp_old):
    """KL(π_old ‖ π_θ) from actions of π_old: the mean of log π_old − log π_θ. (B,) -> scalar."""
    return (logp_old - logp).mean()
