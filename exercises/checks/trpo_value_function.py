"""Checks of exercise 2.1. Right numbers: definitions as sums, means over the two actions."""

import numpy as np

from checks.common import Exercise, Missing, Wrong, compare, require

R = np.array([1.0, -2.0, 0.5, 3.0])


def discounted_sums(weight):
    """For each step, the sum of the rewards from there on, weighted by powers of `weight`."""
    out = np.zeros(len(R))
    for t in range(len(R)):
        for i in range(t, len(R)):
            out[t] += weight ** (i - t) * R[i]
    return out


def check_advantages(learner):
    """advantages_without_value"""
    got = learner.advantages_without_value(R.copy(), 0.9, 0.8)
    hints = [
        (
            discounted_sums(0.9),
            "λ is missing: these are rewards-to-go. "
            "With V = 0, δ_t is r_t, and its weight is (γλ)^l.",
        ),
        (R, "Later δ count as well, with weight (γλ)^l."),
    ]
    compare("advantages_without_value", got, discounted_sums(0.9 * 0.8), hints)


def check_gradient(learner):
    """gradient_mean_and_variance"""
    for p, r1, r0, b in (
        (0.3, 2.0, -1.0, 0.0),
        (0.3, 2.0, -1.0, 5.0),
        (0.5, 101.0, 100.0, 0.0),
    ):
        got = learner.gradient_mean_and_variance(p, r1, r0, b)
        require(
            isinstance(got, list | tuple | np.ndarray) and len(got) == 2,
            "It should return two numbers: mean, variance.",
        )
        g1 = (1 - p) * (r1 - b)
        g0 = -p * (r0 - b)
        mean = p * g1 + (1 - p) * g0
        square = p * g1**2 + (1 - p) * g0**2
        variance = square - mean**2
        where = f"for p = {p}, r1 = {r1}, r0 = {r0}, b = {b},"

        hint = "For a = 1 the derivative of log π(a) is 1 − p, and for a = 0 it is −p."
        hints = [
            (g1 + g0, "Each action counts with its probability."),
            (p * g1 - (1 - p) * g0, hint),
            (p * (r1 - b) + (1 - p) * (r0 - b), f"That is the mean of r − b. {hint}"),
        ]
        compare(f"the mean, {where}", got[0], mean, hints)
        hints = [
            (
                square,
                "This is the mean of g². The variance is that less the square of the mean.",
            ),
            (
                max(variance, 0) ** 0.5,
                "This is the standard deviation; the variance is its square.",
            ),
        ]
        compare(f"the variance, {where}", got[1], variance, hints, atol=1e-4)


def check_letter(got, right, hints):
    """A question with letters to choose from; hints: {wrong letter: what to think of}."""
    if got is None:
        raise Missing("not answered yet.")
    letters = sorted([right, *hints])
    if not isinstance(got, str) or got.strip().lower() not in letters:
        choices = ", ".join(repr(letter) for letter in letters)
        raise Wrong(f"The answer should be one of {choices}, not {got!r}.")
    letter = got.strip().lower()
    if letter != right:
        raise Wrong(hints[letter])


def check_baseline(learner):
    """BEST_BASELINE"""
    if learner.BEST_BASELINE is None:
        raise Missing("not answered yet.")
    near = "Better than nothing, but try numbers on both sides of it."
    hints = [
        (0.0, "Without a baseline the variance is about 2525. Try your function with others."),
        (101.0, near),
        (100.0, near),
    ]
    compare("BEST_BASELINE", learner.BEST_BASELINE, 100.5, hints)


def check_mean(learner):
    """MEAN_OF_THE_GRADIENT"""
    hint = "Try it: call gradient_mean_and_variance with the same p, r1, r0, and several b."
    check_letter(learner.MEAN_OF_THE_GRADIENT, "b", {"a": hint, "c": hint})


def check_kl(learner):
    """SAME_KL"""
    hints = {
        "a": "Look at the returns of the last five epochs.",
        "b": (
            "They have the same mean and deviation, but not the same numbers: "
            "with V = 0 they say which steps come early in a path, "
            "rather than which actions were good."
        ),
    }
    check_letter(learner.SAME_KL, "c", hints)


def check_worse(learner):
    """WHAT_GETS_WORSE"""
    hints = {
        "a": "The column of KL says that the steps are as long as before.",
        "c": (
            "The line search takes only steps that improve the surrogate, with any advantages. "
            "What is the surrogate worth?"
        ),
    }
    check_letter(learner.WHAT_GETS_WORSE, "b", hints)


EXERCISE = Exercise(
    parts=[
        check_advantages,
        check_gradient,
        check_baseline,
        check_mean,
        check_kl,
        check_worse,
    ]
)
