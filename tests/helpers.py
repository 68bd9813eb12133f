"""What several test files need: starts scripts and reads what they leave."""

import csv
import importlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tokenize
from functools import partial
from pathlib import Path

import pytest

from benchmark.scripts import OFF_POLICY, ON_POLICY, SCRIPTS

ROOT = Path(__file__).parent.parent

# A run of about a second, several epochs long. A flag that a test gives after these wins.
TINY = dict.fromkeys(ON_POLICY, "--steps-per-epoch 200 --total-timesteps 600 --train-v-iters 5")
TINY |= dict.fromkeys(
    OFF_POLICY,
    "--steps-per-epoch 200 --total-timesteps 600 --start-steps 100 --update-after 250 "
    "--num-test-episodes 1",
)
TINY = {
    name: f"--env-id Pendulum-v1 --max-episode-steps 50 --hidden-sizes 8 {TINY[name]}".split()
    for name in SCRIPTS
}


def start(script, *args, cwd, mpi=0, env=None):
    """Starts a script of the repository, or any by absolute path; under mpirun if mpi > 0."""
    command = [sys.executable, str(ROOT / script), *map(str, args)]
    if mpi:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        mpirun = shutil.which("mpirun", path=path)
        if not mpirun:
            pytest.skip("there is no mpirun")
        command = [mpirun, "-np", str(mpi), *command]
    # users have no PYTHONPATH; without a display, no window opens
    dropped = {"PYTHONPATH", "DISPLAY", "WAYLAND_DISPLAY"}
    env = {k: v for k, v in os.environ.items() if k not in dropped} | (env or {})
    # a process in the background may have inherited "ignore" for Ctrl-C
    ctrl_c = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipes = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    pipes["encoding"] = env.get("PYTHONIOENCODING", "utf-8")
    return subprocess.Popen(command, cwd=cwd, env=env, preexec_fn=ctrl_c, **pipes)


def wait(process, timeout=300):
    """Waits for a process, and kills it after `timeout` seconds. Returns a CompletedProcess."""
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def run(script, *args, cwd, mpi=0, timeout=300, env=None):
    """Starts a script as start() does, and waits until it ends."""
    return wait(start(script, *args, cwd=cwd, mpi=mpi, env=env), timeout)


def train(script, *args, cwd, **kwargs):
    """Runs a script, which must succeed; returns its run folder, the only one in cwd."""
    done = run(script, *args, cwd=cwd, **kwargs)
    assert done.returncode == 0, done.stderr
    return only_run(cwd)


def only_run(cwd):
    (folder,) = Path(cwd, "runs").iterdir()
    return folder


def read_rows(folder, without=()):
    """The rows of a run's progress.csv as dicts of strings, less the columns in `without`."""
    with open(folder / "progress.csv", newline="", encoding="utf-8") as f:
        return [{k: v for k, v in row.items() if k not in without} for row in csv.DictReader(f)]


def load(names):
    """The modules of scripts, by name."""
    return tuple(importlib.import_module(name) for name in names)


def comment_lines(text):
    """{line number: comment} of a source text."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {t.start[0]: t.string for t in tokens if t.type == tokenize.COMMENT}
