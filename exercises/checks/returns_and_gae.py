"""Exercise 1.4. The right numbers: the definitions, as a sum over the rest of the path for every step of its own."""

import numpy as np

from checks.common import Wrong, compare, require, short_run

GAMMA, LAM = 0.9, 0.8


def paths():
    """Twelve steps: a path that terminates, one cut by a time limit, one that terminates, one that the epoch cuts."""
    rng = np.random.default_rng(4)
    r, v, v2 = rng.normal(size=(3, 12))
    end, d = np.zeros((2, 12), bool)
    end[[2, 6, 8, 11]] = True
    d[[2, 8]] = True
    v2 = np.where(end, 10 * v2, np.append(v[1:], 0.0))  # loud at the ends, so that a leak is heard
    return r, v, v2, d, end


def by_sum(r, v, v2, d, end, gamma, lam):
    """Rewards-to-go and advantages by their definition."""
    ret, adv = np.zeros(len(r)), np.zeros(len(r))
    for t in range(len(r)):
        last = next(i for i in range(t, len(r)) if end[i])
        tail = 0.0 if d[last] else v2[last]
        ret[t] = gamma ** (last - t + 1) * tail + sum(gamma ** (i - t) * r[i] for i in range(t, last + 1))
        for i in range(t, last + 1):
            ahead = tail if i == last else v[i + 1]
            adv[t] += (gamma * lam) ** (i - t) * (r[i] + gamma * ahead - v[i])
    return ret, adv


def wrong_ends(r, v, v2, d, end, gamma, lam, which):
    """What comes out when the ends of paths are treated as they often are."""
    last, none, nothing = end & (np.arange(len(r)) == len(r) - 1), np.zeros_like(d), 0 * v2
    for d_, end_, v2_, hint in [
        (end, end, v2, "A path that was cut is treated as terminated: V(s_{t+1}) stands for what was not seen. Only d "
         "says that nothing follows."),
        (none, end, v2, "A terminal state is bootstrapped: where d is True, nothing follows, whatever v2 says."),
        (d, last, v2, "The sum runs on across the ends of paths, into the next path. Start anew where end is True."),
        (d, d | last, v2, "Only terminations stop the sum; paths that were cut run on into the next one. Look at end."),
        (d, end, np.append(v[1:], 0.0), "After a cut, the value of the next path's first state was used (v[t+1]). "
         "v2[t] is that of the state that followed."),
        (d, end, v, "v[t] was used where V(s_{t+1}) = v2[t] belongs: off by one step."),
        (d & last, end & last, nothing, "The ends of paths were not looked at."),
    ]:  # fmt: skip
        yield by_sum(r, v, v2_, d_, end_ | last, gamma, lam)[which], hint


def check_returns(learner):
    """rewards_to_go"""
    r, v, v2, d, end = paths()
    right = by_sum(r, v, v2, d, end, GAMMA, LAM)[0]
    compare(
        "rewards_to_go",
        call(learner.rewards_to_go, r, v2, d, end, GAMMA),
        right,
        [
            *wrong_ends(r, v, v2, d, end, GAMMA, LAM, 0),
            ((right - r) / GAMMA, "R_t begins with r_t; this is R_{t+1}: off by one."),
            (right - r, "R_t begins with r_t; this begins with the next reward: off by one."),
            (GAMMA * right, "r_t itself is not discounted: off by one power of γ."),
            (by_sum(r, v, v2, d, end, 1.0, LAM)[0], "The discount γ is missing."),
            (right[::-1], "The order is the wrong way round."),
            (
                forward(r, end),
                "The sum runs from the past. Rewards-to-go look ahead: go through the steps from the last.",
            ),
        ],
    )


def forward(r, end):
    """Discounted sums of the rewards so far, within each path."""
    out, behind = [], 0.0
    for x, e in zip(r, end):
        out.append(x + GAMMA * behind)
        behind = 0.0 if e else out[-1]
    return np.array(out)


def check_gae(learner):
    """gae"""
    r, v, v2, d, end = paths()
    ret, right = by_sum(r, v, v2, d, end, GAMMA, LAM)
    delta = by_sum(r, v, v2, d, end, GAMMA, 0.0)[1]
    compare(
        "gae",
        call(learner.gae, r, v, v2, d, end, GAMMA, LAM),
        right,
        [
            *wrong_ends(r, v, v2, d, end, GAMMA, LAM, 1),
            (
                mixed(delta, d, GAMMA * LAM),
                "Only terminations stop the sum; paths that were cut run on into the next one. Look at end.",
            ),
            (
                mixed(delta, np.zeros(12), GAMMA * LAM),
                "The sum runs on across the ends of paths, into the next path. Start anew where end is True.",
            ),
            (mixed(delta, end, LAM), "The later δ are weighted by λ alone. Their weight is (γλ)^l."),
            (mixed(delta, end, GAMMA), "The later δ are weighted by γ alone. Their weight is (γλ)^l."),
            (delta, "These are the δ themselves: the sum over later ones is missing."),
            (
                mixed(r + GAMMA * np.where(d, 0, v) - v, end, GAMMA * LAM),
                "In δ, v[t] was used where V(s_{t+1}) = v2[t] belongs: off by one step.",
            ),
            (ret - v, "This is R_t − V(s_t), what λ = 1 gives."),
            (ret, "These are rewards-to-go; the advantage compares with V."),
            (right + v, "V(s_t) was added back: that is the λ-return. The advantage is without it."),
            (mixed(delta + 2 * v, end, GAMMA * LAM), "V(s_t) enters δ with a minus."),
            (mixed(r + np.where(d, 0, v2) - v, end, GAMMA * LAM), "In δ the discount γ of V(s_{t+1}) is missing."),
        ],
    )


def mixed(delta, end, weight):
    out, ahead = np.zeros(len(delta)), 0.0
    for t in reversed(range(len(delta))):
        out[t] = ahead = delta[t] + weight * (0.0 if end[t] else ahead)
    return out


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
        ends = f"(paths end at {np.flatnonzero(end).tolist()}, terminated at {np.flatnonzero(d).tolist()})"
        compare(f"rewards_to_go {ends}", call(learner.rewards_to_go, r, v2, d, end, 0.95), ret)
        compare(f"gae {ends}", call(learner.gae, r, v, v2, d, end, 0.95, 0.7), adv)


def call(f, *args):
    """f(*args), which must leave its arguments as they are."""
    copies = [np.copy(x) for x in args]
    out = f(*copies)
    if not all(np.array_equal(x, y) for x, y in zip(copies, args)):
        raise Wrong("An input array was changed. Write into an array of your own: np.zeros(len(r)).")
    return out


def check_types(learner):
    """arrays come back"""
    r, v, v2, d, end = paths()
    for out in (learner.rewards_to_go(r, v2, d, end, GAMMA), learner.gae(r, v, v2, d, end, GAMMA, LAM)):
        require(isinstance(out, np.ndarray), f"A NumPy array (T,) is asked for, not {type(out).__name__}.")


PARTS = [check_returns, check_gae, check_random, check_types]


def train(learner):
    """PPO on CartPole with both functions."""

    def changes(ppo):
        return dict(compute_returns=learner.rewards_to_go, compute_advantages=learner.gae)

    args = dict(env_id="CartPole-v1", total_timesteps=40_000, steps_per_epoch=2_000, pi_lr=3e-3)
    return short_run("ppo", changes, bar=150, **args)
