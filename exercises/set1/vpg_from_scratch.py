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

# your script here
