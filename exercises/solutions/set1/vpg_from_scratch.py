"""Exercise 1.10: vanilla policy gradient, from an empty file.

Write a script of fewer than 100 lines (comments, blank lines and this text not counted) that trains a policy on
CartPole-v1: collect whole episodes, compute rewards-to-go, step along the gradient of mean log π_θ(a|s) R̂, repeat.
torch and gymnasium are enough; a value function is not needed. Make the environment by gymnasium.make("CartPole-v1").

    python exercises/check.py vpg_from_scratch

The checker runs your script for up to 60 seconds, watches the returns of its episodes, and stops it as soon as the mean
of 20 of them in a row has reached 150. A pole that nobody balances falls after some 20 steps.
"""

import gymnasium as gym
import torch
from torch import nn

torch.manual_seed(0)
env = gym.make("CartPole-v1")
policy = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 2))
optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)

for epoch in range(200):
    states, actions, weights, returns = [], [], [], []
    while len(states) < 2000:
        (s, _), ended, rewards = env.reset(seed=0 if epoch == 0 and not states else None), False, []
        while not ended:
            states.append(torch.as_tensor(s))
            with torch.no_grad():
                logits = policy(states[-1])
            actions.append(torch.distributions.Categorical(logits=logits).sample())
            s, r, terminated, truncated, _ = env.step(actions[-1].item())
            rewards.append(r)
            ended = terminated or truncated
        ahead, to_go = 0.0, []
        for r in reversed(rewards):
            ahead = r + 0.99 * ahead
            to_go.append(ahead)
        weights += reversed(to_go)
        returns.append(sum(rewards))
    weights = torch.tensor(weights)
    weights = (weights - weights.mean()) / weights.std()
    logp = torch.distributions.Categorical(logits=policy(torch.stack(states))).log_prob(torch.stack(actions))
    loss = -(logp * weights).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"epoch {epoch}: mean return {sum(returns) / len(returns):.0f}")
