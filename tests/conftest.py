import os
import sys
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = (
    "1"  # before torch is imported, and for every script that a test starts
)
sys.path.insert(0, str(Path(__file__).parent.parent))
