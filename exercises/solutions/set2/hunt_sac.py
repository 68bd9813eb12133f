"""What was wrong: s was overwritten by the next state before the transition was stored, so the
buffer held (s', a, r, s', d). The state in which the action was taken was lost, and nothing in
the losses could tell.

This file is not the fixed script: the checker makes the broken copy again, and replaces WRONG by
RIGHT in it.
"""

WRONG = """\
        s = s2
        buf.store(s, a, r, s2, d)  # (7)
"""

RIGHT = """\
        buf.store(s, a, r, s2, d)  # (7)
        s = s2
"""
