"""What was wrong: logp_old was computed again after every step, so the ratio began at 1 each time:
nothing was clipped, and KL was always 0. The old policy is the one that collected the data, for the
whole update.

This file is not the fixed script: the checker makes the broken copy again, and replaces WRONG by
RIGHT in it.
"""

WRONG = """\
        batch = (*batch[:4], ac.pi(batch[0]).log_prob(batch[1]).detach())
"""

RIGHT = ""
