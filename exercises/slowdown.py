"""By what factor to stretch time limits, so that a busy machine does not fail right answers."""

import os


def factor():
    """1 on an idle machine; on a busy one, the number of processes for each core."""
    if not hasattr(os, "getloadavg"):  # on Windows
        return 1.0
    return max(1.0, os.getloadavg()[0] / os.cpu_count())
