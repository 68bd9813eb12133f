"""Exercise 1.10: vanilla policy gradient, from an empty file.

Write a script of fewer than 100 lines (comments, blank lines and this text do not count) that
trains a policy on CartPole-v1: collect whole episodes, compute rewards-to-go, step along the
gradient of mean log π_θ(a|s) R̂, repeat. torch and gymnasium are enough; you need no value function.
Make the environment with gymnasium.make("CartPole-v1").

    python exercises/check.py vpg_from_scratch

The checker runs your script for up to 60 seconds and watches the returns of its episodes. It stops
the script as soon as 20 of them in a row have a mean of 150. A pole that nobody balances falls
after some 20 steps.
"""

import gymnasium as gym
import torch
from torch import nn

torch.manual_seed(0)
env = gym.make("CartPole-v1")
env.reset(seed=0)  # for this and all later resets
policy = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 2))
optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)

for epoch in range(200):
    states = []
    actions = []
    weights = []
    returns = []

    # collect whole episodes
    while len(states) < 2000:
        s, _ = env.reset()
        ended = False
        rewards = []
        while not ended:
            states.append(torch.as_tensor(s))
            with torch.no_grad():
                logits = policy(states[-1])
            actions.append(torch.distributions.Categorical(logits=logits).sample())
            s, r, terminated, truncated, _ = env.step(actions[-1].item())
            rewards.append(r)
            ended = terminated or truncated

        # rewards-to-go
        ahead = 0.0
        to_go = []
        for r in reversed(rewards):
            ahead = r + 0.99 * ahead
            to_go.append(ahead)
        weights += reversed(to_go)
        returns.append(sum(rewards))

    # one step of policy gradient
    weights = torch.tensor(weights)
    weights = (weights - weights.mean()) / weights.std()
    pi = torch.distributions.Categorical(logits=policy(torch.stack(states)))
    logp = pi.log_prob(torch.stack(actions))
    loss = -(logp * weights).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"epoch {epoch}: mean return {sum(returns) / len(returns):.0f}")
