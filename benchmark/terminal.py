"""What the benchmark's programs print, on terminals of every kind."""

import sys


def replace_unprintable():
    """Makes print() write "?" for what the terminal or file cannot encode, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        # a stream that somebody put in place of the real one may lack it
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
