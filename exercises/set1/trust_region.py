"""Exercise 1.5: the two tools of TRPO: products with a Hessian, and conjugate gradient.

TRPO's step is x = H⁻¹ g, H being the Hessian of the KL divergence. H of a policy with 5,000 parameters has 25 million
entries; these two functions find x without ever writing H down.

    python exercises/check.py trust_region
"""

import torch


def hessian_vector_product(kl, params, v, damping):
    """(H + damping · I) v, H = ∇²kl, by differentiating (∇kl)ᵀ v once more.

    kl: a scalar tensor computed from params, a list of tensors with n numbers in all; v (n,) -> (n,)
    It is called many times with the same kl.
    """
    raise NotImplementedError  # your code here


def conjugate_gradient(hvp, g, iters):
    """x with H x ≈ g, after at most `iters` steps from x = 0. H is symmetric, positive definite, known by hvp(v) = H v.

    g (n,) -> (n,). Stops early where the residual is 0, before it divides 0 by 0. Leaves g as it is.
    """
    raise NotImplementedError  # your code here
