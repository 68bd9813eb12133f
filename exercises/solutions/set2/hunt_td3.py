"""What was wrong: The targets took the larger of the two Q. The maximising policy finds what Q overestimates, and the
maximum of two estimates overestimates more; TD3's first trick is the minimum.

This file is not the mended script: the checker makes the broken copy anew, and puts RIGHT in the place of WRONG.
"""

WRONG = "torch.max(ac_targ.q1(s2, a2), ac_targ.q2(s2, a2))"

RIGHT = "torch.min(ac_targ.q1(s2, a2), ac_targ.q2(s2, a2))"
