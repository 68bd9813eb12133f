"""Checks of exercise 1.5. Right numbers: second differences in NumPy, and numpy.linalg.solve."""

import numpy as np
import torch

from checks.common import Exercise, Wrong, compare, f64, require, short_run

RNG = np.random.default_rng(5)
C = RNG.normal(size=(7, 6)) / 2
THETA = RNG.normal(size=6) / 2
V = RNG.normal(size=6)
DAMPING = 0.3
HINTS = {
    r"second time": (
        "hvp is called many times with the same kl: "
        "keep its graph, retain_graph=True (create_graph=True does)."
    ),
    r"does not require grad": (
        "The first gradient has no graph of its own to differentiate again: create_graph=True."
    ),
    r"Expected all tensors|cat\(\)|reshape|view": (
        "The gradients come as a list, one for each tensor in params, of different shapes: "
        "flatten each, and put them into one vector."
    ),
}


def f(theta):
    """A smooth function of six numbers whose Hessian is no multiple of anything simple."""
    log_sum_exp = np.log(np.exp(C @ theta).sum())
    quartic = ((C[:3] @ theta) ** 4).sum()
    quadratic = 0.5 * (theta**2) @ np.arange(1, 7)
    return log_sum_exp + quartic + quadratic


def f_torch(params):
    """The same of a list of tensors."""
    theta = torch.cat([p.reshape(-1) for p in params])
    c = f64(C)
    log_sum_exp = torch.logsumexp(c @ theta, 0)
    quartic = ((c[:3] @ theta) ** 4).sum()
    quadratic = 0.5 * (theta**2) @ torch.arange(1.0, 7.0).double()
    return log_sum_exp + quartic + quadratic


def gradient(h=1e-5):
    """First differences of f at THETA."""
    return np.array([(f(THETA + x) - f(THETA - x)) / (2 * h) for x in h * np.eye(6)])


def hessian(h=1e-4):
    """Second differences of f at THETA: no rule of differentiation is used."""
    steps = h * np.eye(6)
    out = np.zeros((6, 6))
    for i, x in enumerate(steps):
        for j, y in enumerate(steps):
            across = f(THETA + x + y) - f(THETA + x - y) - f(THETA - x + y) + f(THETA - x - y)
            out[i, j] = across / (4 * h**2)
    return out


def check_hvp(learner):
    """hessian_vector_product"""
    first = f64(THETA[:2]).requires_grad_()
    second = f64(THETA[2:].reshape(2, 2)).requires_grad_()
    params = [first, second]
    kl = f_torch(params)
    H = hessian()
    g = gradient()
    outer = "This is ∇kl (∇kl)ᵀ v. Differentiate the number (∇kl)ᵀ v once more instead."
    for v, times in ((V, "first"), (2 * V[::-1], "second")):
        got = learner.hessian_vector_product(kl, params, f64(v), DAMPING)
        if isinstance(got, list | tuple):
            raise Wrong(
                f"A {type(got).__name__} came back, with a tensor for each of params: "
                "flatten and torch.cat them."
            )
        damped = DAMPING * v
        hints = [
            (H @ v, "The damping is missing: + damping · v."),
            (
                H @ v + DAMPING,
                "The damping is a multiple of the identity: damping · v, not damping itself.",
            ),
            (
                H @ v - damped,
                "The damping is added, not subtracted: it makes H safely positive.",
            ),
            (g * (g @ v) + damped, outer),
            (g * (g @ v), outer),
            (
                H.sum(axis=0) + damped,
                "v was left out of the second derivative: differentiate ∇kl @ v, not its sum.",
            ),
            (np.diag(H) * v + damped, "Only the diagonal of H was used."),
            (g, "This is the first gradient."),
        ]
        what = f"hessian_vector_product (called for the {times} time)"
        compare(what, got, H @ v + damped, hints, tensor=True, rtol=1e-3, atol=1e-4)


def solve(learner, H, g, iters):
    """The learner's x; also finds a changed input, and products that are too many."""
    H = f64(H)
    g = f64(g)
    asked = []

    def hvp(v):
        asked.append(v)
        return H @ v

    given = g.clone()
    x = learner.conjugate_gradient(hvp, given, iters)
    require(
        torch.is_tensor(x),
        f"conjugate_gradient should return a tensor, not {type(x).__name__}. Is `return x` there?",
    )
    require(
        torch.equal(given, g),
        "g was changed on the way: r = g.clone(), not r = g, before anything is subtracted.",
    )
    require(
        len(asked) <= iters + 1,
        f"hvp was called {len(asked)} times in {iters} steps. Once a step is enough.",
    )
    return x


def problem(n, seed):
    """A positive definite H and a g."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.normal(size=(n, n)))
    H = basis @ np.diag(rng.uniform(0.5, 5, n)) @ basis.T
    return H, rng.normal(size=n)


def run_cg(H, g, iters, beta=lambda new, old: new / old, sign=-1.0):
    """Conjugate gradient, with a part of it changed."""
    x = 0.0 * g
    r = g.copy()
    p = r.copy()
    rr = r @ r
    with np.errstate(all="ignore"):
        for _ in range(iters):
            hp = H @ p
            step = rr / (p @ hp)
            x = x + step * p
            r = r + sign * step * hp
            last = rr
            rr = r @ r
            p = r + beta(rr, last) * p
    return x


def check_cg(learner):
    """conjugate_gradient"""
    H, g = problem(4, 6)
    one_step = (g @ g) / (g @ H @ g) * g
    hints = [
        (0 * g, "After one step x is still 0: off by one in the loop, or x is not moved."),
        (g, "x should start from 0, and this is g."),
        (g + one_step, "x starts from g. Start from 0, where the residual is g."),
        (run_cg(H, g, 2), "Two steps were made instead of one."),
        (-one_step, "x moves the wrong way: x + step · p."),
    ]
    compare("conjugate_gradient, after one step,", solve(learner, H, g, 1), one_step, hints)

    hints = [
        (
            run_cg(H, g, 4, beta=lambda new, old: old / new),
            "β is upside down: new r·r over the old one.",
        ),
        (
            run_cg(H, g, 4, beta=lambda new, old: 0.0),
            "Every direction is the residual (β = 0): steepest descent. "
            "Add β times the last direction.",
        ),
        (
            run_cg(H, g, 4, beta=lambda new, old: 1.0),
            "β is 1: is the old r·r kept until β is computed from both?",
        ),
        (run_cg(H, g, 4, sign=1.0), "The residual grows: r − step · Hp, while x + step · p."),
        (run_cg(H, g, 3), "One step is missing: off by one in the loop."),
        (run_cg(H, g, 1), "Only the first step is made: does the loop return too early?"),
    ]
    what = "conjugate_gradient, after as many steps as there are dimensions,"
    compare(what, solve(learner, H, g, 4), np.linalg.solve(H, g), hints, rtol=1e-3)


def check_exact(learner):
    """a residual of exactly 0"""
    right = np.array([1.0, 2.0, 3.0])
    for scale in (1.0, 3.0):
        x = solve(learner, scale * np.eye(3), right, 10)
        require(
            bool(torch.isfinite(x).all()),
            "Here the first step is exact, and the next one divides 0 by 0: NaN. "
            "Stop where r·r is (nearly) 0.",
        )
        compare("conjugate_gradient with a multiple of the identity", x, right / scale)

    x = solve(learner, np.eye(3), np.zeros(3), 10)
    require(
        bool(torch.isfinite(x).all()),
        "With g = 0 the answer is 0, and this is NaN: 0 was divided by 0.",
    )
    compare("conjugate_gradient of g = 0", x, np.zeros(3))

    H, g = problem(4, 7)
    x = solve(learner, H, 1e-6 * g, 10)
    hint = "A small g is not solved at all. Compare r·r with g·g, not with a fixed number."
    right = 1e-6 * np.linalg.solve(H, g)
    compare("conjugate_gradient of a small g", x, right, [(0 * g, hint)], rtol=1e-2, atol=1e-10)


EXERCISE = Exercise(parts=[check_hvp, check_cg, check_exact], hints=HINTS)


def train(learner):
    """TRPO with the learner's conjugate gradient."""

    def changes(trpo):
        return {"conjugate_gradient": learner.conjugate_gradient}

    return short_run(
        "trpo",
        changes,
        env_id="InvertedPendulum-v4",
        total_timesteps=40_000,
        steps_per_epoch=2_000,
        bar=100,
    )
