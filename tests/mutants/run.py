"""Plants one bug at a time in a copy of the repository, where the fast tests must fail.

    python tests/mutants/run.py [NAME ...] [--jobs N]

A mutant is a file NAME.patch beside this one: a sentence that says what is wrong; where the tests below cannot see it,
a line "Tests: ..." with the files or tests that can; and a diff. It has survived if no test fails. The last full result
is in last_result.txt.
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
from pathlib import Path

TESTS = ["tests/test_losses.py", "tests/test_trpo.py", "tests/test_against_sb3.py", "tests/test_whole_runs.py"]
LIMIT = 600  # seconds for the tests of one mutant

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


class Stop(Exception):
    """Ends the program with this sentence."""


def copy_repository(folder):
    """Copies what git tracks, or would track, to a new folder."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        raise Stop(f"git cannot list the files of {ROOT}: {listed.stderr.strip()}")
    for name in listed.stdout.split("\0"):
        if (ROOT / name).is_file() and not name.startswith(("runs/", ".venv/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def run_tests(folder, tests):
    """Runs tests in a folder up to the first failure: the failed test, None if all passed. Raises Stop."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        raise Stop(f"the tests did not end in {LIMIT} seconds") from None
    if done.returncode == 0:
        return None
    failed = re.search(r"^(?:FAILED|ERROR) (.+?::.+?)(?: - .*)?$", done.stdout, re.M)
    if done.returncode != 1 or not failed:  # broken, not failed: a file that is not there or cannot be imported, say
        lines = [f"exit code {done.returncode}", *(done.stdout + done.stderr).strip().splitlines()]
        raise Stop(f"the tests did not start: {next((x for x in lines if x.startswith('ERROR')), lines[-1])}")
    return failed[1]


def read_mutant(path):
    """What a patch's header says: the sentence, and the tests that the mutant needs besides TESTS."""
    what, *rest = path.read_text().splitlines()
    tests = rest[0].removeprefix("Tests:").split() if rest and rest[0].startswith("Tests:") else []
    return what, tests


def try_mutant(path):
    """(whether a test failed, which one or what went wrong, seconds)."""
    started = time.perf_counter()
    _, tests = read_mutant(path)
    try:
        with tempfile.TemporaryDirectory() as folder:
            copy_repository(Path(folder))
            env = os.environ | {"GIT_CEILING_DIRECTORIES": str(Path(folder).parent)}  # no repository around it
            applied = subprocess.run(["git", "apply", path], cwd=folder, env=env, capture_output=True, text=True)
            if applied.returncode:
                raise Stop(f"the patch does not apply: {applied.stderr.splitlines()[0]}")
            failed = run_tests(folder, [*tests, *TESTS])
        result = failed is not None, failed or "SURVIVED: no test failed"
    except Stop as e:
        result = False, f"NOT TRIED: {e}"
    return *result, time.perf_counter() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutants to try; all if none is named")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="how many to try at a time")
    args = parser.parse_args()
    known = {path.stem: path for path in sorted(HERE.glob("*.patch"))}
    if unknown := [name for name in args.names if name not in known]:
        raise Stop(f"there is no mutant {unknown[0]}; there are: {' '.join(known)}")
    paths = [known[name] for name in args.names or known]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:  # first without any mutant
        copy_repository(Path(folder))
        tests = dict.fromkeys(test for path in paths for test in read_mutant(path)[1])
        if failed := run_tests(folder, [*tests, *TESTS]):
            raise Stop(f"{failed} fails without any mutant, so it cannot tell whether it notices one")
    print(f"The tests pass without a mutant ({time.perf_counter() - started:.0f} s).\n", flush=True)
    survivors = []
    with ThreadPoolExecutor(max(1, args.jobs)) as pool:
        for path, (caught, result, seconds) in zip(paths, pool.map(try_mutant, paths)):
            print(f"{path.stem:36} {seconds:5.1f} s  {result}\n    {read_mutant(path)[0]}", flush=True)
            survivors += [] if caught else [path.stem]
    print(f"\n{len(paths) - len(survivors)} of {len(paths)} caught, {time.perf_counter() - started:.0f} s", end="")
    print(f"; not caught: {' '.join(survivors)}" if survivors else "")
    return 1 if survivors else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Stop, OSError) as e:
        sys.exit(f"{sys.argv[0]}: {e}")
