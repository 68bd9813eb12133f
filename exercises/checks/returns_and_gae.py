"""Checks of exercise 1.4. Right numbers: the definitions, one sum for each step."""

import numpy as np

from checks.common import Exercise, Wrong, compare, require, short_run

GAMMA = 0.9
LAM = 0.8
RUNS_ON = (
    "The sum runs on across the ends of paths, into the next path. Start again where end is True."
)
ONLY_TERMINATIONS = (
    "Only terminations stop the sum; paths that were cut run on into the next one. Look at end."
)
ONE_STEP_OFF = "v[t] was used where V(s_{t+1}) = v2[t] belongs: off by one step."


def paths():
    """Twelve steps in four paths: terminated, cut by a time limit, terminated, cut by the epoch."""
    rng = np.random.default_rng(4)
    r, v, v2 = rng.normal(size=(3, 12))
    end, d = np.zeros((2, 12), bool)
    end[[2, 6, 8, 11]] = True
    d[[2, 8]] = True
    v2 = np.where(end, 10 * v2, np.append(v[1:], 0.0))  # large at the ends, so that leaks show
    return r, v, v2, d, end


def by_sum(r, v, v2, d, end, gamma, lam):
    """Rewards-to-go and advantages by their definition."""
    ret = np.zeros(len(r))
    adv = np.zeros(len(r))
    for t in range(len(r)):
        last = t
        while not end[last]:
            last += 1
        tail = 0.0 if d[last] else v2[last]
        ret[t] = gamma ** (last - t + 1) * tail
        for i in range(t, last + 1):
            ret[t] += gamma ** (i - t) * r[i]
            ahead = tail if i == last else v[i + 1]
            adv[t] += (gamma * lam) ** (i - t) * (r[i] + gamma * ahead - v[i])
    return ret, adv


def backwards(delta, end, weight):
    """Sums of later δ, weighted by powers of `weight`, that start again where end is True."""
    out = np.zeros(len(delta))
    ahead = 0.0
    for t in reversed(range(len(delta))):
        if end[t]:
            ahead = 0.0
        ahead = delta[t] + weight * ahead
        out[t] = ahead
    return out


def forwards(r, end):
    """Discounted sums of the rewards so far, within each path."""
    out = np.zeros(len(r))
    behind = 0.0
    for t in range(len(r)):
        out[t] = r[t] + GAMMA * behind
        behind = 0.0 if end[t] else out[t]
    return out


def wrong_ends(r, v, v2, d, end, which):
    """(what the usual mistakes at the ends of paths give, hint); which: 0 returns, 1 advantages."""
    last = end & (np.arange(len(r)) == len(r) - 1)
    never = np.zeros_like(d)
    zeros = np.zeros_like(v2)
    next_v = np.append(v[1:], 0.0)
    for d_, end_, v2_, hint in [
        (
            end,
            end,
            v2,
            "A path that was cut is treated as terminated: "
            "V(s_{t+1}) stands for what was not seen. Only d says that nothing follows.",
        ),
        (
            never,
            end,
            v2,
            "A terminal state is bootstrapped: where d is True, nothing follows, whatever v2 says.",
        ),
        (d, last, v2, RUNS_ON),
        (d, d | last, v2, ONLY_TERMINATIONS),
        (
            d,
            end,
            next_v,
            "After a cut, the value of the next path's first state was used (v[t+1]). "
            "v2[t] is that of the state that followed.",
        ),
        (d, end, v, ONE_STEP_OFF),
        (d & last, end & last, zeros, "The ends of paths were not looked at."),
    ]:
        yield by_sum(r, v, v2_, d_, end_ | last, GAMMA, LAM)[which], hint


def check_returns(learner):
    """rewards_to_go"""
    r, v, v2, d, end = paths()
    got = call(learner.rewards_to_go, r, v2, d, end, GAMMA)
    right, _ = by_sum(r, v, v2, d, end, GAMMA, LAM)
    undiscounted, _ = by_sum(r, v, v2, d, end, 1.0, LAM)
    hints = [
        *wrong_ends(r, v, v2, d, end, 0),
        ((right - r) / GAMMA, "R_t begins with r_t; this is R_{t+1}: off by one."),
        (right - r, "R_t begins with r_t; this begins with the next reward: off by one."),
        (GAMMA * right, "r_t itself is not discounted: off by one power of γ."),
        (undiscounted, "The discount γ is missing."),
        (right[::-1], "The order is the wrong way round."),
        (
            forwards(r, end),
            "The sum runs over the past. "
            "Rewards-to-go look ahead: go through the steps from the last.",
        ),
    ]
    compare("rewards_to_go", got, right, hints)


def check_gae(learner):
    """gae"""
    r, v, v2, d, end = paths()
    got = call(learner.gae, r, v, v2, d, end, GAMMA, LAM)
    ret, right = by_sum(r, v, v2, d, end, GAMMA, LAM)
    _, delta = by_sum(r, v, v2, d, end, GAMMA, 0.0)
    weight = GAMMA * LAM
    never = np.zeros(12)
    late_delta = r + GAMMA * np.where(d, 0, v) - v
    undiscounted_delta = r + np.where(d, 0, v2) - v
    hints = [
        *wrong_ends(r, v, v2, d, end, 1),
        (backwards(delta, d, weight), ONLY_TERMINATIONS),
        (backwards(delta, never, weight), RUNS_ON),
        (
            backwards(delta, end, LAM),
            "The later δ are weighted by λ alone. Their weight is (γλ)^l.",
        ),
        (
            backwards(delta, end, GAMMA),
            "The later δ are weighted by γ alone. Their weight is (γλ)^l.",
        ),
        (delta, "These are the δ themselves: the sum over later ones is missing."),
        (backwards(late_delta, end, weight), f"In δ, {ONE_STEP_OFF}"),
        (ret - v, "This is R_t − V(s_t), what λ = 1 gives."),
        (ret, "These are rewards-to-go; the advantage compares with V."),
        (
            right + v,
            "V(s_t) was added back: that is the λ-return. The advantage is without it.",
        ),
        (backwards(delta + 2 * v, end, weight), "V(s_t) enters δ with a minus."),
        (
            backwards(undiscounted_delta, end, weight),
            "In δ the discount γ of V(s_{t+1}) is missing.",
        ),
    ]
    compare("gae", got, right, hints)


def check_random(learner):
    """both, on random paths, down to paths of one step"""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        r, v, v2 = rng.normal(size=(3, 15))
        end = rng.random(15) < 0.4
        end[-1] = True
        d = end & (rng.random(15) < 0.5)
        v2 = np.where(end, 10 * v2, np.append(v[1:], 0.0))
        ret, adv = by_sum(r, v, v2, d, end, 0.95, 0.7)
        ends_at = np.flatnonzero(end).tolist()
        terminated_at = np.flatnonzero(d).tolist()
        ends = f"(paths end at {ends_at}, terminated at {terminated_at})"
        compare(f"rewards_to_go {ends}", call(learner.rewards_to_go, r, v2, d, end, 0.95), ret)
        compare(f"gae {ends}", call(learner.gae, r, v, v2, d, end, 0.95, 0.7), adv)


def call(f, *args):
    """f(*args), which must leave its arguments as they are."""
    copies = [np.copy(x) for x in args]
    out = f(*copies)
    if not all(np.array_equal(x, y) for x, y in zip(copies, args)):
        raise Wrong(
            "An input array was changed. Write into an array of your own: np.zeros(len(r))."
        )
    return out


def check_types(learner):
    """arrays come back"""
    r, v, v2, d, end = paths()
    for out in (
        learner.rewards_to_go(r, v2, d, end, GAMMA),
        learner.gae(r, v, v2, d, end, GAMMA, LAM),
    ):
        require(
            isinstance(out, np.ndarray),
            f"This should be a NumPy array (T,), not {type(out).__name__}.",
        )


EXERCISE = Exercise(parts=[check_returns, check_gae, check_random, check_types])


def train(learner):
    """PPO on CartPole with both functions."""

    def changes(ppo):
        return dict(compute_returns=learner.rewards_to_go, compute_advantages=learner.gae)

    return short_run(
        "ppo",
        changes,
        env_id="CartPole-v1",
        total_timesteps=40_000,
        steps_per_epoch=2_000,
        pi_lr=3e-3,
        bar=150,
    )
