"""What was wrong: The value function was fitted to its own predictions, v, instead of the rewards-to-go, ret. Its loss
was 0 and its explained variance 1 from the first epoch on: perfect, and worth nothing, since it never heard of a
reward.

This file is not the mended script: the checker makes the broken copy anew, and puts RIGHT in the place of WRONG.
"""

WRONG = "ret, adv = torch.as_tensor(v, dtype=torch.float32)"

RIGHT = "ret, adv = torch.as_tensor(ret, dtype=torch.float32)"
