"""Runs before every test: one thread, and the repository's root on sys.path."""

import os
import sys
from pathlib import Path

# before torch is imported, and for every script that a test starts
os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parent.parent))
