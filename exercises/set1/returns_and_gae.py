"""Exercise 1.4: rewards-to-go and generalised advantage estimation, with paths that end.

The T steps of an epoch lie one after another: several paths, or parts of them. For each step t

    r[t]    is its reward;
    v[t]    is V(s_t);
    v2[t]   is V(s_{t+1}) of the state that really followed, also where a path ends with this step;
    d[t]    is True where s_{t+1} is terminal: nothing comes after it, so its value is 0, whatever
            v2[t] says;
    end[t]  is True where the path ends with this step: terminated, or cut by a time limit or the
            end of the epoch. The last one is always True.

A path that is cut would have gone on: V(s_{t+1}) stands for the rewards that were not seen.

    python exercises/check.py returns_and_gae
"""

import numpy as np


def rewards_to_go(r, v2, d, end, gamma):
    """R_t = r_t + γ R_{t+1} within a path; after its end R_{t+1} is V(s_{t+1}).

    Where s_{t+1} is terminal, it is 0. Arrays (T,) -> array (T,)
    """
    raise NotImplementedError  # your code here


def gae(r, v, v2, d, end, gamma, lam):
    """A_t = Σ_l (γλ)^l δ_{t+l} over the rest of the path, with δ_t = r_t + γ V(s_{t+1}) − V(s_t).

    V of a terminal state is 0. Arrays (T,) -> array (T,)
    """
    raise NotImplementedError  # your code here
