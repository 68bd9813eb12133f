"""The shim that gives MKL's fast path to AMD processors with AVX-512.

MKL, which multiplies torch's matrices, asks a function of its own whether the processor is one of
Intel's. The shim is a library of that one function, which says yes; preloaded, it is asked instead.
"""

import atexit
import ctypes
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import logx

SOURCE = "int mkl_serv_intel_cpu_true(void) { return 1; }\n"


def shim_environment():
    """The environment variables that preload the shim; {} where it is not needed, or not possible.

    It is not possible without the C compiler cc.
    """
    if not logx.needs_mkl_shim() or logx.has_mkl_shim():
        return {}
    library = build_shim()
    if library is None:
        return {}
    # keep what is preloaded already
    before = os.environ.get("LD_PRELOAD")
    return {"LD_PRELOAD": f"{library} {before}" if before else str(library)}


def describe_shim():
    """A sentence on what shim_environment() does here, and why."""
    if not logx.needs_mkl_shim():
        return "This processor needs no shim for MKL."
    if logx.has_mkl_shim():
        return "The shim for MKL was preloaded for all measurements."
    if shim_environment():
        return "Measured with the shim for MKL, unless a row says otherwise."
    return "Measured without the shim for MKL, which needs the C compiler `cc`."


@functools.cache
def build_shim():
    """The path of the library, which is built once and removed at exit; None if that fails."""
    if shutil.which("cc") is None:
        return None
    folder = tempfile.mkdtemp(prefix="mkl-shim-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    library = Path(folder, "libmklamd.so")
    command = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)]
    done = subprocess.run(command, input=SOURCE, capture_output=True, text=True)
    if done.returncode != 0:
        return None

    # a library in a folder mounted with noexec cannot be loaded
    try:
        ctypes.CDLL(str(library))
    except OSError:
        return None
    return library
