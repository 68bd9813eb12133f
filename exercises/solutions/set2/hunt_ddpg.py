"""What was wrong: `p_targ = ...` gave the name p_targ to a new tensor; the parameter that had the
name before stayed as it was. So the targets came from networks as they were at the start. To move
a parameter, write into it: lerp_, copy_, mul_.

This file is not the fixed script: the checker makes the broken copy again, and replaces WRONG by
RIGHT in it.
"""

WRONG = """\
        p_targ = polyak * p_targ + (1 - polyak) * p
"""

RIGHT = """\
        p_targ.lerp_(p, 1 - polyak)
"""
