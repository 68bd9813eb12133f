"""Exercise 1.4: rewards-to-go and generalised advantage estimation, where paths terminate or are cut.

The T steps of an epoch lie one after another: several paths, or parts of them. For each step t there is

    r[t]    its reward
    v[t]    V(s_t);  v2[t] is V(s_{t+1}), of the state that really followed, also where a path ends with this step
    d[t]    True where s_{t+1} is terminal: nothing comes after it, so its value is 0, whatever v2[t] says
    end[t]  True where the path ends with this step, terminated or cut (by a time limit, or the end of the epoch)

A path that is cut would have gone on: V(s_{t+1}) stands for the rewards that were not seen. The last end is True.

    python exercises/check.py returns_and_gae
"""

import numpy as np


def rewards_to_go(r, v2, d, end, gamma):
    """R_t = r_t + γ R_{t+1} within a path; after its end, R_{t+1} is V(s_{t+1}), or 0 if s_{t+1} is terminal.

    Arrays (T,) -> array (T,)
    """
    ret, ahead = np.zeros(len(r)), 0.0
    for t in reversed(range(len(r))):
        if end[t]:
            ahead = 0.0 if d[t] else v2[t]
        ret[t] = ahead = r[t] + gamma * ahead
    return ret


def gae(r, v, v2, d, end, gamma, lam):
    """A_t = Σ_l (γλ)^l δ_{t+l} over the rest of the path, δ_t = r_t + γ V(s_{t+1}) − V(s_t), V(terminal) = 0.

    Arrays (T,) -> array (T,)
    """
    delta = r + gamma * np.where(d, 0.0, v2) - v
    adv, ahead = np.zeros(len(r)), 0.0
    for t in reversed(range(len(r))):
        adv[t] = ahead = delta[t] + gamma * lam * (0.0 if end[t] else ahead)
    return adv
