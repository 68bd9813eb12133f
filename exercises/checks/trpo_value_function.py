"""Exercise 2.1. The right numbers: definitions as sums, and the mean and variance over the two actions."""

import numpy as np

from checks.common import Missing, Wrong, compare, require

R = np.array([1.0, -2.0, 0.5, 3.0])


def check_advantages(learner):
    """advantages_without_value"""
    rows = range(len(R))
    right = np.array([sum(0.72 ** (i - t) * R[i] for i in rows if i >= t) for t in rows])
    gamma_only = np.array([sum(0.9 ** (i - t) * R[i] for i in rows if i >= t) for t in rows])
    compare(
        "advantages_without_value",
        learner.advantages_without_value(R.copy(), 0.9, 0.8),
        right,
        [
            (gamma_only, "λ is missing: these are rewards-to-go. With V = 0, δ_t is r_t, and its weight is (γλ)^l."),
            (R, "Later δ count as well, with weight (γλ)^l."),
        ],
    )


def check_gradient(learner):
    """gradient_mean_and_variance"""
    for p, r1, r0, b in ((0.3, 2.0, -1.0, 0.0), (0.3, 2.0, -1.0, 5.0), (0.5, 101.0, 100.0, 0.0)):
        actions = [(p, (1 - p) * (r1 - b)), (1 - p, -p * (r0 - b))]
        mean = sum(q * g for q, g in actions)
        square = sum(q * g * g for q, g in actions)
        got = learner.gradient_mean_and_variance(p, r1, r0, b)
        require(
            isinstance(got, list | tuple | np.ndarray) and len(got) == 2, "Two numbers are asked for: mean, variance."
        )
        hint = "For a = 1 the derivative of log π(a) is 1 − p, and for a = 0 it is −p."
        compare(
            f"the mean, for p = {p}, r1 = {r1}, r0 = {r0}, b = {b},",
            got[0],
            mean,
            [
                (sum(g for _, g in actions), "Each action counts with its probability."),
                (p * (1 - p) * (r1 - b) + (1 - p) * p * (r0 - b), hint),
                (p * (r1 - b) + (1 - p) * (r0 - b), f"That is the mean of r − b. {hint}"),
            ],
        )
        compare(
            f"the variance, for p = {p}, r1 = {r1}, r0 = {r0}, b = {b},",
            got[1],
            square - mean**2,
            [
                (square, "This is the mean of g². The variance is that less the square of the mean."),
                (max(square - mean**2, 0) ** 0.5, "This is the standard deviation; the variance is its square."),
            ],
            atol=1e-4,
        )


def answer(learner, name, right, hints):
    got = getattr(learner, name)
    if got is None:
        raise Missing("not answered yet.")
    if not isinstance(got, str) or got.strip().lower() not in {right, *hints}:
        raise Wrong(f"One of {', '.join(repr(x) for x in sorted([right, *hints]))} is asked for, not {got!r}.")
    if got.strip().lower() != right:
        raise Wrong(hints[got.strip().lower()])


def check_baseline(learner):
    """BEST_BASELINE"""
    if learner.BEST_BASELINE is None:
        raise Missing("not answered yet.")
    compare(
        "BEST_BASELINE",
        learner.BEST_BASELINE,
        100.5,
        [
            (0.0, "Without a baseline the variance is about 2525. Try your function with others."),
            (101.0, "Better than nothing, but try numbers on both sides of it."),
            (100.0, "Better than nothing, but try numbers on both sides of it."),
        ],
    )


def check_mean(learner):
    """MEAN_OF_THE_GRADIENT"""
    hint = "Try it: call gradient_mean_and_variance with the same p, r1, r0, and several b."
    answer(learner, "MEAN_OF_THE_GRADIENT", "b", {"a": hint, "c": hint})


def check_kl(learner):
    """SAME_KL"""
    answer(
        learner,
        "SAME_KL",
        "c",
        {
            "a": "Look at the returns of the last five epochs.",
            "b": "They have the same mean and deviation, but not the same numbers: with V "
            "= 0 they say which steps lie early "
            "in a path, rather than which actions were good.",
        },
    )


def check_worse(learner):
    """WHAT_GETS_WORSE"""
    answer(
        learner,
        "WHAT_GETS_WORSE",
        "b",
        {
            "a": "The column of KL says that the steps are as long as before.",
            "c": "The line search takes only steps that improve the surrogate, "
            "with any advantages. What is the surrogate worth?",
        },
    )


PARTS = [check_advantages, check_gradient, check_baseline, check_mean, check_kl, check_worse]
