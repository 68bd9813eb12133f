"""What several test files need: starting a script, reading what it left, and the text of a script's Args."""

import csv
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

# a run of about a second, several epochs long; numbers that a test gives after these win
TINY = dict.fromkeys(ON_POLICY, "--steps-per-epoch 200 --total-timesteps 600 --train-v-iters 5")
TINY |= dict.fromkeys(
    OFF_POLICY,
    "--steps-per-epoch 200 --total-timesteps 600 --start-steps 100 --update-after 250 --num-test-episodes 1",
)
TINY = {
    name: f"--env-id Pendulum-v1 --max-episode-steps 50 --hidden-sizes 8 {TINY[name]}".split()
    for name in SCRIPTS
}


def start(script, *args, cwd, mpi=0, env=None):
    """A script of the repository (or any, by absolute path), started from a folder, under mpirun if mpi > 0."""
    command = [sys.executable, str(ROOT / script), *map(str, args)]
    if mpi:
        mpirun = shutil.which(
            "mpirun", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        )
        if not mpirun:
            pytest.skip("there is no mpirun")
        command = [mpirun, "-np", str(mpi), *command]
    dropped = {
        "PYTHONPATH",
        "DISPLAY",
        "WAYLAND_DISPLAY",
    }  # a user has no path set; and no window shall open
    env = {k: v for k, v in os.environ.items() if k not in dropped} | (env or {})
    ctrl_c = partial(
        signal.signal, signal.SIGINT, signal.SIG_DFL
    )  # what runs in the background may inherit "ignore"
    pipes = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    pipes["encoding"] = env.get("PYTHONIOENCODING", "utf-8")
    return subprocess.Popen(command, cwd=cwd, env=env, preexec_fn=ctrl_c, **pipes)


def wait(process, timeout=300):
    """The CompletedProcess of a process; it is killed after `timeout` seconds."""
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def run(script, *args, cwd, mpi=0, timeout=300, env=None):
    """Starts a script as start() does, and waits for its end."""
    return wait(start(script, *args, cwd=cwd, mpi=mpi, env=env), timeout)


def train(script, *args, cwd, **kwargs):
    """Runs a script, which must succeed; returns the one run folder that there is then."""
    done = run(script, *args, cwd=cwd, **kwargs)
    assert done.returncode == 0, done.stderr
    return only_run(cwd)


def only_run(cwd):
    (folder,) = Path(cwd, "runs").iterdir()
    return folder


def read_rows(folder, without=()):
    """The rows of a run's progress.csv, as dicts of strings."""
    with open(folder / "progress.csv", newline="") as f:
        return [{k: v for k, v in row.items() if k not in without} for row in csv.DictReader(f)]


def comment_lines(text):
    """{line number: comment} of a source text."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {t.start[0]: t.string for t in tokens if t.type == tokenize.COMMENT}
