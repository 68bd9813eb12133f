"""What was wrong: the targets took the larger of the two Q. The maximising policy finds what Q
overestimates, and the maximum of two estimates overestimates more; TD3's first trick is the
minimum.

This file is not the fixed script: the checker makes the broken copy again, and replaces WRONG by
RIGHT in it.
"""

WRONG = "torch.max(ac_targ.q1(s2, a2), ac_targ.q2(s2, a2))"

RIGHT = "torch.min(ac_targ.q1(s2, a2), ac_targ.q2(s2, a2))"
