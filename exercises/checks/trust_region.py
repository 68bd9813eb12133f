"""Exercise 1.5. The right numbers: second differences of a function in NumPy, and numpy.linalg.solve."""

import numpy as np
import torch

from checks.common import Wrong, compare, f64, require, short_run

RNG = np.random.default_rng(5)
C, THETA, V = RNG.normal(size=(7, 6)) / 2, RNG.normal(size=6) / 2, RNG.normal(size=6)
DAMPING = 0.3
HINTS = {
    r"second time": "hvp is called many times with the same "
    "kl: keep its graph, retain_graph=True (create_graph=True does).",
    r"does not require grad": "The first gradient has no graph of its own to differentiate again: create_graph=True.",
    r"Expected all tensors|cat\(\)|reshape|view": "The gradients come as a list, one for each tensor in params, of "
    "different shapes: flatten each, and put them into one vector.",
}


def f(theta):
    """A smooth function of six numbers whose Hessian is no multiple of anything simple."""
    return np.log(np.exp(C @ theta).sum()) + ((C[:3] @ theta) ** 4).sum() + 0.5 * (theta**2) @ np.arange(1, 7)


def f_torch(params):
    theta, c = torch.cat([p.reshape(-1) for p in params]), f64(C)
    return (
        torch.logsumexp(c @ theta, 0)
        + ((c[:3] @ theta) ** 4).sum()
        + 0.5 * (theta**2) @ torch.arange(1.0, 7.0).double()
    )


def hessian(h=1e-4):
    """Second differences: no derivative rule is used."""
    steps = h * np.eye(6)

    def second(x, y):
        return (f(THETA + x + y) - f(THETA + x - y) - f(THETA - x + y) + f(THETA - x - y)) / (4 * h**2)

    return np.array([[second(x, y) for x in steps] for y in steps])


def check_hvp(learner):
    """hessian_vector_product"""
    params = [f64(THETA[:2]).requires_grad_(), f64(THETA[2:].reshape(2, 2)).requires_grad_()]
    H, g = hessian(), np.array([(f(THETA + e) - f(THETA - e)) / 2e-5 for e in 1e-5 * np.eye(6)])
    kl = f_torch(params)
    for v, times in ((V, "first"), (2 * V[::-1], "second")):
        got = learner.hessian_vector_product(kl, params, f64(v), DAMPING)
        if isinstance(got, list | tuple):
            raise Wrong(
                f"A {type(got).__name__} came back, with a tensor for each of params: flatten and torch.cat them."
            )
        compare(
            f"hessian_vector_product (called for the {times} time)",
            got,
            H @ v + DAMPING * v,
            [
                (H @ v, "The damping is missing: + damping · v."),
                (H @ v + DAMPING, "The damping is a multiple of the identity: damping · v, not damping itself."),
                (H @ v - DAMPING * v, "The damping is added, not taken away: it makes H safely positive."),
                (
                    g * (g @ v) + DAMPING * v,
                    "This is ∇kl (∇kl)ᵀ v. Differentiate the number (∇kl)ᵀ v once more instead.",
                ),
                (g * (g @ v), "This is ∇kl (∇kl)ᵀ v. Differentiate the number (∇kl)ᵀ v once more instead."),
                (
                    H.sum(axis=0) + DAMPING * v,
                    "v was left out of the second derivative: differentiate ∇kl @ v, not its sum.",
                ),
                (np.diag(H) * v + DAMPING * v, "Only the diagonal of H was used."),
                (g, "This is the first gradient."),
            ],
            tensor=True,
            rtol=1e-3,
            atol=1e-4,
        )


def solve(learner, H, g, iters):
    """The learner's x; a crash of its own making, an input that was changed, and too many products are found here."""
    H, g, asked = f64(H), f64(g), []

    def hvp(v):
        asked.append(v)
        return H @ v

    given = g.clone()
    x = learner.conjugate_gradient(hvp, given, iters)
    require(
        torch.is_tensor(x), f"conjugate_gradient should return a tensor, not {type(x).__name__}. Is `return x` there?"
    )
    require(torch.equal(given, g), "g was changed on the way: r = g.clone(), not r = g, before anything is subtracted.")
    require(len(asked) <= iters + 1, f"hvp was called {len(asked)} times in {iters} steps. Once a step is enough.")
    return x


def problem(n, seed):
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.normal(size=(n, n)))
    return basis @ np.diag(rng.uniform(0.5, 5, n)) @ basis.T, rng.normal(size=n)


def run_cg(H, g, iters, beta=lambda new, old: new / old, sign=-1.0, start=0.0):
    """Conjugate gradient with a part of it changed."""
    x, r = start * g, g.copy()
    p, rr = r.copy(), r @ r
    with np.errstate(all="ignore"):
        for _ in range(iters):
            hp = H @ p
            step = rr / (p @ hp)
            x, r = x + step * p, r + sign * step * hp
            rr, last = r @ r, rr
            p = r + beta(rr, last) * p
    return x


def check_cg(learner):
    """conjugate_gradient"""
    H, g = problem(4, 6)
    compare(
        "conjugate_gradient, after one step,",
        solve(learner, H, g, 1),
        (g @ g) / (g @ H @ g) * g,
        [
            (0 * g, "After one step x is still 0: off by one in the loop, or x is not moved."),
            (g, "x should start from 0, and this is g."),
            (g + (g @ g) / (g @ H @ g) * g, "x starts from g. Start from 0, where the residual is g."),
            (run_cg(H, g, 2), "Two steps were made instead of one."),
            (-(g @ g) / (g @ H @ g) * g, "x moves the wrong way: x + step · p."),
        ],
    )
    compare(
        "conjugate_gradient, after as many steps as there are dimensions,",
        solve(learner, H, g, 4),
        np.linalg.solve(H, g),
        [
            (run_cg(H, g, 4, beta=lambda new, old: old / new), "β is upside "
            "down: new r·r over the old one."),
            (run_cg(H, g, 4, beta=lambda new, old: 0.0), "Every direction is the "
            "residual (β = 0): steepest descent. Add "
             "β times the last direction."),
            (run_cg(H, g, 4, beta=lambda new, old: 1.0), "β is 1: is the old r·r kept until β is computed from both?"),
            (run_cg(H, g, 4, sign=1.0), "The residual grows: r − step · Hp, as x + step · p."),
            (run_cg(H, g, 3), "One step is missing: off by one in the loop."),
            (run_cg(H, g, 1), "Only the first step is made: does the loop return too early?"),
        ],
        rtol=1e-3,
    )  # fmt: skip


def check_exact(learner):
    """a residual of exactly 0"""
    for scale in (1.0, 3.0):
        x = solve(learner, scale * np.eye(3), np.array([1.0, 2.0, 3.0]), 10)
        require(
            bool(torch.isfinite(x).all()),
            "Here the first step is exact, and the next one divides 0 by 0: NaN. Stop where r·r is (nearly) 0.",
        )
        compare("conjugate_gradient with a multiple of the identity", x, np.array([1.0, 2.0, 3.0]) / scale)
    x = solve(learner, np.eye(3), np.zeros(3), 10)
    require(bool(torch.isfinite(x).all()), "With g = 0 the answer is 0, and this is NaN: 0 was divided by 0.")
    compare("conjugate_gradient of g = 0", x, np.zeros(3))
    H, g = problem(4, 7)
    compare("conjugate_gradient of a small g", solve(learner, H, 1e-6 * g, 10), 1e-6 * np.linalg.solve(H, g),
            [(0 * g, "A small g is not solved at all. Compare r·r with g·g, not with a number of its own.")],
            rtol=1e-2, atol=1e-10)  # fmt: skip


PARTS = [check_hvp, check_cg, check_exact]


def train(learner):
    """TRPO with the learner's conjugate gradient."""
    args = dict(env_id="InvertedPendulum-v4", total_timesteps=40_000, steps_per_epoch=2_000)
    return short_run("trpo", lambda trpo: {"conjugate_gradient": learner.conjugate_gradient}, bar=100, **args)
