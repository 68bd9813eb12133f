"""What was wrong: the value function was fitted to its own predictions, v, instead of the
rewards-to-go, ret. Its loss was 0 and its explained variance 1 from the first epoch on: perfect,
and worth nothing, since it never heard of a reward.

This file is not the fixed script: the checker makes the broken copy again, and replaces WRONG by
RIGHT in it.
"""

WRONG = "ret = torch.as_tensor(v, dtype=torch.float32)"

RIGHT = "ret = torch.as_tensor(ret, dtype=torch.float32)"
