"""Builds the site once, with the README's command, for all tests and all their processes."""

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
    """Builds the site into `folder`, once for all. Returns (exit code, messages, seconds)."""
    result = folder.with_suffix(".result")
    with FileLock(folder.with_suffix(".lock")):
        if not result.exists():
            readme = (ROOT / "README.md").read_text(encoding="utf-8")
            line = re.search(r"^\.venv/bin/python (-m sphinx .*) docs docs/_build$", readme, re.M)
            start = os.times()
            command = [sys.executable, *shlex.split(line[1]), "-q", "docs", str(folder)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            end = os.times()
            # the processor's seconds: a busy machine does not make them more
            seconds = end.children_user - start.children_user
            seconds += end.children_system - start.children_system
            text = f"{done.returncode}\n{seconds}\n{done.stdout}{done.stderr}"
            result.write_text(text, encoding="utf-8")
    code, seconds, messages = result.read_text(encoding="utf-8").split("\n", 2)
    return int(code), messages, float(seconds)


def folder_of(tmp_path_factory, worker_id):
    """The folder to build into, the same for all processes of this test run."""
    base = tmp_path_factory.getbasetemp()
    return (base if worker_id == "master" else base.parent) / "site"


@functools.cache
def soup(page):
    return BeautifulSoup(Path(page).read_text(encoding="utf-8"), "html.parser")
