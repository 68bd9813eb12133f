"""The simplest policy gradient: ∇_θ J = E[Σ_t ∇_θ log π_θ(a_t|s_t) R(τ)].

 1: input: policy parameters θ_0
 2: for k = 0, 1, 2, ... do
 3:   run the policy π_{θ_k} for whole episodes, until there are batch_size steps
 4:   weigh every step by the return of its episode, w_t = R(τ)
 5:   estimate the policy gradient ĝ_k = mean over all steps of ∇_θ log π_θ(a_t|s_t) w_t
 6:   take one step of gradient ascent, θ_{k+1} = θ_k + α ĝ_k, with Adam

Returns are undiscounted, and the environment's time limit is the horizon T.

    python docs/rl/examples/simplest_pg.py --seed 1
"""

import gymnasium as gym
import numpy as np
import torch
import tyro
from torch import nn
from torch.distributions import Categorical


def compute_weights(rewards):
    """(4) w_t = R(τ) = r_0 + ... + r_{T−1}. An episode's rewards (T,) -> weights (T,)."""
    return np.full(len(rewards), np.sum(rewards))


def compute_loss(pi, s, a, w):
    """(5) −mean log π_θ(a|s) w: its gradient is −ĝ_k. A batch of B steps -> scalar."""
    return -(Categorical(logits=pi(s)).log_prob(a) * w).mean()


def run_episode(env, pi):
    """(3) One episode of T steps: states (T, obs_dim), actions (T,), rewards (T,)."""
    (s, _), ended, states, actions, rewards = env.reset(), False, [], [], []
    while not ended:
        with torch.no_grad():
            policy = Categorical(logits=pi(torch.as_tensor(s)), validate_args=False)
            a = policy.sample().item()
        s2, r, terminated, truncated, _ = env.step(a)
        states.append(s), actions.append(a), rewards.append(r)
        s, ended = s2, terminated or truncated
    return states, actions, rewards


def train(
    env_id: str = "CartPole-v1",
    seed: int = 0,
    epochs: int = 50,
    batch_size: int = 5_000,
    lr: float = 1e-2,
):
    """Trains a policy; returns the mean return of every epoch."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    env = gym.make(env_id)
    env.reset(seed=seed)
    obs_dim, n_actions = env.observation_space.shape[0], int(env.action_space.n)
    pi = nn.Sequential(nn.Linear(obs_dim, 32), nn.Tanh(), nn.Linear(32, n_actions))  # (1)
    optimizer = torch.optim.Adam(pi.parameters(), lr=lr)

    print("epoch      loss    return")
    history = []
    for epoch in range(epochs):  # (2)
        s, a, w, returns = [], [], [], []
        while len(s) < batch_size:
            states, actions, rewards = run_episode(env, pi)  # (3)
            s, a, w = s + states, a + actions, [*w, *compute_weights(rewards)]  # (4)
            returns.append(np.sum(rewards))
        s, a = torch.as_tensor(np.array(s)), torch.as_tensor(a)
        w = torch.as_tensor(w, dtype=torch.float32)
        loss = compute_loss(pi, s, a, w)  # (5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()  # (6)
        history.append(np.mean(returns))
        print(f"{epoch:5d} {loss.item():9.3f} {history[-1]:9.1f}")
    return history


if __name__ == "__main__":
    tyro.cli(train)
