"""Exercise 2.1: TRPO with and without a fitted value function.

Two versions of TRPO differ in one flag: --train-v-iters 80, the default, and --train-v-iters 0,
with which V_φ stays what it was before training, nearly 0 in every state. Their curves are in
exercises/set2/curves/trpo_value_function.csv; "broken" is the run without fitting, and the first
line is the command that made the file.

    python exercises/check.py trpo_value_function

Look at all three columns. What exactly does TRPO lose? The two functions below show it in its
smallest form; the questions after them ask what the curves mean.
"""

import numpy as np


def advantages_without_value(r, gamma, lam):
    """GAE's advantages of one path that terminated, with V(s) = 0 in every state.

    Rewards (T,) -> array (T,)
    """
    adv = np.zeros(len(r))
    ahead = 0.0
    for t in reversed(range(len(r))):
        ahead = r[t] + gamma * lam * ahead
        adv[t] = ahead
    return adv


def gradient_mean_and_variance(p, r1, r0, b):
    """Mean and variance of the policy gradient's estimate from a single action, with baseline b.

    There is one state and two actions. π(1) = p = 1 / (1 + exp(−θ)), π(0) = 1 − p; action 1 brings
    the reward r1, action 0 brings r0. The estimate is g = (d log π(a) / dθ) (r(a) − b), a ~ π.
    Numbers -> (mean, variance)
    """
    score = {1: 1 - p, 0: -p}
    g1 = score[1] * (r1 - b)
    g0 = score[0] * (r0 - b)
    mean = p * g1 + (1 - p) * g0
    variance = p * (g1 - mean) ** 2 + (1 - p) * (g0 - mean) ** 2
    return mean, variance


# Which baseline makes the variance of gradient_mean_and_variance smallest
# for p = 0.5, r1 = 101, r0 = 100? A number.
BEST_BASELINE = 100.5

# What does the baseline do to the mean of the gradient?
#   "a" it moves it towards 0
#   "b" nothing
#   "c" it adds a bias, which vanishes when V is exact
MEAN_OF_THE_GRADIENT = "b"

# In the curves, KL per update is nearly the same with and without fitting. Why?
#   "a" V does not matter for TRPO
#   "b" the normalised advantages are the same in both runs
#   "c" the trust region sets the length of the step, whatever its direction is worth
SAME_KL = "c"

# So what is it that gets worse without a fitted V?
#   "a" the step's length
#   "b" the step's direction: it is noisier, so a step of the same KL may also undo what was learnt
#   "c" the line search: it accepts steps that make the surrogate worse
WHAT_GETS_WORSE = "b"
