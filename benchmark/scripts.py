"""The six scripts, by family."""

ON_POLICY = ("vpg", "trpo", "ppo")
OFF_POLICY = ("ddpg", "td3", "sac")
SCRIPTS = ON_POLICY + OFF_POLICY
