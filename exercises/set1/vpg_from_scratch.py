"""Exercise 1.10: vanilla policy gradient, from an empty file.

Write a script of fewer than 100 lines (comments, blank lines and this text not counted) that trains a policy on
CartPole-v1: collect whole episodes, compute rewards-to-go, step along the gradient of mean log π_θ(a|s) R̂, repeat.
torch and gymnasium are enough; a value function is not needed. Make the environment by gymnasium.make("CartPole-v1").

    python exercises/check.py vpg_from_scratch

The checker runs your script for up to 60 seconds, watches the returns of its episodes, and stops it as soon as the mean
of 20 of them in a row has reached 150. A pole that nobody balances falls after some 20 steps.
"""

# your script here
