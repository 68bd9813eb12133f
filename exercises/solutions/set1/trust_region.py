"""Exercise 1.5: the two tools of TRPO, products with a Hessian and conjugate gradient.

TRPO's step is x = H⁻¹ g, where H is the Hessian of the KL divergence. For a policy with 5,000
parameters H has 25 million entries; these two functions find x without ever writing H down.

    python exercises/check.py trust_region
"""

import torch


def hessian_vector_product(kl, params, v, damping):
    """(H + damping · I) v, H = ∇²kl, by differentiating (∇kl)ᵀ v once more.

    kl: a scalar tensor computed from params, a list of tensors with n numbers in total.
    v (n,) -> (n,). It is called many times with the same kl.
    """
    grads = torch.autograd.grad(kl, params, create_graph=True)
    slope = torch.cat([g.reshape(-1) for g in grads]) @ v
    grads = torch.autograd.grad(slope, params, retain_graph=True)
    return torch.cat([g.reshape(-1) for g in grads]) + damping * v


def conjugate_gradient(hvp, g, iters):
    """x with H x ≈ g, after at most `iters` steps from x = 0.

    H is symmetric and positive definite; hvp(v) returns H v. g (n,) -> (n,).
    Stops early where the residual is 0, before it divides 0 by 0. Leaves g as it is.
    """
    x = torch.zeros_like(g)
    r = g.clone()
    p = g.clone()
    r_dot_r = r @ r
    for _ in range(iters):
        if r_dot_r < 1e-10 * (g @ g) or r_dot_r == 0:
            break
        hp = hvp(p)
        step = r_dot_r / (p @ hp)
        x = x + step * p
        r = r - step * hp
        last = r_dot_r
        r_dot_r = r @ r
        p = r + r_dot_r / last * p
    return x
