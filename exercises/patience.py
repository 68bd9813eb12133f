"""How much longer things may take than on a machine that has nothing else to do."""

import os


def factor():
    """1 on a quiet machine; on a busy one, processes for each core."""
    return max(1.0, os.getloadavg()[0] / os.cpu_count()) if hasattr(os, "getloadavg") else 1.0
