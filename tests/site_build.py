"""One build of the site by the README's line, shared by all tests and all of their processes."""

import functools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from bs4 import BeautifulSoup
from filelock import FileLock
from helpers import ROOT

DOCS = ROOT / "docs"


@functools.cache
def build(folder):
    """Builds the site into `folder`, unless another process has; returns (exit code, messages, seconds)."""
    result = folder.with_suffix(".result")
    with FileLock(folder.with_suffix(".lock")):
        if not result.exists():
            line = re.search(
                r"^\.venv/bin/python (-m sphinx .*) docs docs/_build$",
                (ROOT / "README.md").read_text(),
                re.M,
            )
            start = os.times()
            command = [sys.executable, *shlex.split(line[1]), "-q", "docs", str(folder)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            end = os.times()  # of a processor, so that a busy machine does not count
            seconds = (
                end.children_user
                + end.children_system
                - start.children_user
                - start.children_system
            )
            result.write_text(f"{done.returncode}\n{seconds}\n{done.stdout}{done.stderr}")
    code, seconds, messages = result.read_text().split("\n", 2)
    return int(code), messages, float(seconds)


def folder_of(tmp_path_factory, worker_id):
    """The folder to build into: of this test run, and the same for all of its processes."""
    base = tmp_path_factory.getbasetemp()
    return (base if worker_id == "master" else base.parent) / "site"


@functools.cache
def soup(page):
    return BeautifulSoup(Path(page).read_text(), "html.parser")
