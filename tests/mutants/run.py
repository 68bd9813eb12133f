"""Plants one bug at a time in a copy of the repository, where the fast tests must fail.

    python tests/mutants/run.py [NAME ...] [--jobs N]

A mutant is a file NAME.patch beside this one: a sentence that says what is wrong; where the tests
below cannot see it, a line "Tests: ..." with the files or tests that can; and a diff. It has
survived if no test fails. The last full result is in last_result.txt.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

TESTS = [
    "tests/test_losses.py",
    "tests/test_trpo.py",
    "tests/test_against_sb3.py",
    "tests/test_whole_runs.py",
]
LIMIT = 600  # seconds for the tests of one mutant

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


class Stop(Exception):
    """Ends the program with this sentence."""


@dataclass
class Mutant:
    path: Path  # its patch
    what: str  # what is wrong, in a sentence
    tests: list[str]  # the tests that it needs besides TESTS


def read_mutant(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    tests = []
    if lines[1].startswith("Tests:"):
        tests = lines[1].removeprefix("Tests:").split()
    return Mutant(path, lines[0], tests)


def copy_repository(folder):
    """Copies what git tracks, or would track, to a new folder."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    if listed.returncode:
        raise Stop(f"git cannot list the files of {ROOT}: {listed.stderr.strip()}")
    for name in listed.stdout.split("\0"):
        if (ROOT / name).is_file() and not name.startswith(("runs/", ".venv/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def run_tests(folder, tests):
    """Runs tests in a folder up to the first failure.

    Returns the failed test, or None if all passed. Raises Stop if the tests themselves are broken:
    where a file is missing, say, or cannot be imported.
    """
    options = "-x -q --tb=no -p no:cacheprovider".split()
    command = [sys.executable, "-m", "pytest", *options, *tests]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=LIMIT,
        )
    except subprocess.TimeoutExpired:
        raise Stop(f"the tests did not end in {LIMIT} seconds") from None
    if done.returncode == 0:
        return None
    failed = re.search(r"^(?:FAILED|ERROR) (.+?::.+?)(?: - .*)?$", done.stdout, re.M)
    if done.returncode == 1 and failed:
        return failed[1]
    lines = [f"exit code {done.returncode}", *(done.stdout + done.stderr).strip().splitlines()]
    errors = [line for line in lines if line.startswith("ERROR")]
    raise Stop(f"the tests did not start: {(errors or lines[-1:])[0]}")


def apply(mutant, folder):
    """Plants the bug in a copy of the repository. Raises Stop if it does not fit."""
    env = dict(os.environ)
    env["GIT_CEILING_DIRECTORIES"] = str(folder.parent)  # git looks for no repository around it
    command = ["git", "apply", mutant.path]
    applied = subprocess.run(command, cwd=folder, env=env, capture_output=True, encoding="utf-8")
    if applied.returncode:
        raise Stop(f"the patch does not apply: {applied.stderr.splitlines()[0]}")


def try_mutant(mutant):
    """(whether a test failed, which one or what went wrong, seconds)."""
    started = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            copy_repository(folder)
            apply(mutant, folder)
            failed = run_tests(folder, [*mutant.tests, *TESTS])
        caught = failed is not None
        result = failed if caught else "SURVIVED: no test failed"
    except Stop as e:
        caught = False
        result = f"NOT TRIED: {e}"
    return caught, result, time.perf_counter() - started


def check_without_mutants(mutants):
    """Raises Stop unless all tests pass as they are."""
    tests = dict.fromkeys(test for mutant in mutants for test in mutant.tests)
    with tempfile.TemporaryDirectory() as name:
        copy_repository(Path(name))
        failed = run_tests(name, [*tests, *TESTS])
    if failed:
        raise Stop(f"{failed} fails without any mutant, so it cannot tell whether it notices one")


def choose(names):
    """The mutants of these names, or all. Raises Stop if there is no such name."""
    paths = {path.stem: path for path in sorted(HERE.glob("*.patch"))}
    for name in names:
        if name not in paths:
            raise Stop(f"there is no mutant {name}; there are: {' '.join(paths)}")
    return [read_mutant(paths[name]) for name in names or paths]


def parse():
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    what = "mutants to try; all if none is named"
    parser.add_argument("names", nargs="*", metavar="NAME", help=what)
    what = "how many to try at a time"
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help=what)
    return parser.parse_args()


def main():
    args = parse()
    mutants = choose(args.names)
    started = time.perf_counter()
    check_without_mutants(mutants)
    seconds = time.perf_counter() - started
    print(f"The tests pass without a mutant ({seconds:.0f} s).\n", flush=True)

    survivors = []
    with ThreadPoolExecutor(max(1, args.jobs)) as pool:
        for mutant, (caught, result, seconds) in zip(mutants, pool.map(try_mutant, mutants)):
            name = mutant.path.stem
            print(f"{name:36} {seconds:5.1f} s  {result}\n    {mutant.what}", flush=True)
            if not caught:
                survivors.append(name)

    caught = len(mutants) - len(survivors)
    seconds = time.perf_counter() - started
    summary = f"\n{caught} of {len(mutants)} caught, {seconds:.0f} s"
    if survivors:
        summary += f"; not caught: {' '.join(survivors)}"
    print(summary)
    return 1 if survivors else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Stop, OSError) as e:
        sys.exit(f"{sys.argv[0]}: {e}")
