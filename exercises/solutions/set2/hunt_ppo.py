"""What was wrong: logp_old was computed anew after every step, so the ratio began at 1 each time: nothing was clipped,
and KL was always 0. The old policy is the one that collected the data, for the whole update.

This file is not the mended script: the checker makes the broken copy anew, and puts RIGHT in the place of WRONG.
"""

WRONG = """\
        batch = (*batch[:4], ac.pi(batch[0]).log_prob(batch[1]).detach())
"""

RIGHT = ""
