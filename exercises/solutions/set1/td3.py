"""Exercise 1.3: the heart of TD3.

Write three functions: the targets, the loss of both Q-functions, and the loss of the policy. The
networks come as functions, pi(s) -> actions (B, act_dim) in [−1, 1], and q(s, a) -> values (B,), so
nothing here depends on how they are made.

    python exercises/check.py td3
"""

import torch


def compute_targets(pi_targ, q1_targ, q2_targ, r, s2, d, gamma, target_noise, noise_clip):
    """y = r + γ (1 − d) min_i Q_targ,i(s', a'),  a' = clip(μ_targ(s') + clip(ε, −c, c), −1, 1).

    ε ~ N(0, σ²); target_noise is σ, noise_clip is c, and d is 1.0 where s' is terminal.
    r, d (B,), s2 (B, obs_dim) -> (B,). No gradient flows through the targets.
    """
    with torch.no_grad():
        a2 = pi_targ(s2)
        noise = (target_noise * torch.randn_like(a2)).clamp(-noise_clip, noise_clip)
        a2 = (a2 + noise).clamp(-1, 1)
        q = torch.min(q1_targ(s2, a2), q2_targ(s2, a2))
        return r + gamma * (1 - d) * q


def compute_loss_q(q1, q2, s, a, y):
    """Σ_i mean_B (Q_i(s, a) − y)². s (B, obs_dim), a (B, act_dim), y (B,) -> scalar."""
    return ((q1(s, a) - y) ** 2).mean() + ((q2(s, a) - y) ** 2).mean()


def compute_loss_pi(pi, q1, s):
    """The loss whose descent is ascent on mean_B Q_1(s, μ(s)). s (B, obs_dim) -> scalar."""
    return -q1(s, pi(s)).mean()
