"""The process in which a learner's file runs: check.py starts it, learners never call it.

    python judge.py NAME FILE RESULTS [train]

It runs FILE against the parts of checks/NAME.py and writes the findings to RESULTS, as JSON, after
every part, so that they survive whatever the learner's code does.
"""

import ast
import contextlib
import importlib
import json
import os
import re
import sys
import traceback
import types
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch

from benchmark.scripts import SCRIPTS
from checks.common import Missing, Wrong

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
OURS = {*SCRIPTS, "logx"}
KEEP_OUT = [ROOT / f"{name}.py" for name in OURS]
KEEP_OUT += [ROOT / "__pycache__", HERE / "solutions"]
SMILE = (
    "Nice try! {} would give the answer away, so it is out of bounds here. "
    "Yours will be just as good. :)"
)

# Patterns in the messages of exceptions, and the usual cause; an exercise may add its own.
HINTS = {
    r"backward through the graph a second time": (
        "The graph is used more than once: torch.autograd.grad(..., retain_graph=True)."
    ),
    r"does not require grad": (
        "Something on the way was cut off from the graph: a detach(), a no_grad(), a NumPy array, "
        "or a first derivative taken without create_graph=True."
    ),
    r"size of tensor .* must match|shapes? .*cannot be|broadcast|inconsistent tensor size": (
        "Two shapes do not fit. Print the shapes just before this line."
    ),
    r"File too large": "It prints or writes without end.",
    r"in-?place operation": (
        "A tensor that the gradient still needs was changed in place (+=, copy_, [...] =)."
    ),
    r"Can't call numpy\(\) on Tensor that requires grad": (
        "Stay in torch, or the gradient is lost here."
    ),
}


class Refused(BaseException):
    """The learner's file reached for a ready-made answer."""


class Learner(types.SimpleNamespace):
    """What the learner's file defines; a missing name becomes a finding, not an error."""

    def __getattr__(self, name):
        raise Wrong(f"`{name}` is not there. Was it renamed or lost?")


# Keeping answers out of reach ---------------------------------------------------------------------


def arm(allowed):
    """From here on, opening or importing a script or a solution raises Refused."""
    keep_out = [str(path) for path in KEEP_OUT]
    armed = {"on": True}

    def is_kept_out(path):
        if path == allowed:
            return False
        return any(path == place or path.startswith(place + os.sep) for place in keep_out)

    def hook(event, args):
        if not armed["on"]:
            return
        if event == "import" and args[0].split(".")[0] in OURS | {"solutions"}:
            raise Refused(f"`import {args[0]}`")
        if event == "open" and isinstance(args[0], str | bytes | os.PathLike):
            path = os.path.abspath(os.fsdecode(args[0]))
            if is_kept_out(path):
                raise Refused(f"opening {os.path.relpath(path, ROOT)}")

    sys.addaudithook(hook)
    return armed


def prefixes(name):
    """The name and the packages it is in: a.b.c, a.b, a."""
    words = name.split(".")
    return {".".join(words[:n]) for n in range(1, len(words) + 1)}


def refused_name(tree, refused):
    """What a source imports or names that is out of bounds, e.g. ppo; None if nothing is."""
    for node in ast.walk(tree):
        names = []
        out_of_bounds = OURS | {"solutions", "exercises"} | set(refused)
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node)]
            out_of_bounds = set(refused)  # a variable may well be called ppo
        for name in names:
            found = prefixes(name) & out_of_bounds
            if found:
                return min(found)
    return None


# Running the file ---------------------------------------------------------------------------------


def explain(e, file, source, hints):
    """{status, text} for whatever exception came out of the learner's code."""
    frames = [f for f in traceback.extract_tb(e.__traceback__) if f.filename == file]
    where = ""
    if frames and frames[-1].lineno:
        where = f" in line {frames[-1].lineno}"

    if isinstance(e, Missing):
        return {"status": "missing", "text": str(e)}
    if isinstance(e, NotImplementedError):
        return {"status": "missing", "text": f"not written yet{where}."}
    if isinstance(e, Wrong):
        return {"status": "wrong", "text": str(e)}
    if isinstance(e, Refused):
        return {"status": "refused", "text": SMILE.format(str(e))}
    if isinstance(e, SyntaxError) and e.filename == file:
        return {"status": "wrong", "text": f"Python cannot read line {e.lineno}: {e.msg}."}
    if isinstance(e, SystemExit):
        text = f"your code called sys.exit{where}; let it return instead."
        return {"status": "wrong", "text": text}

    lines = str(e).strip().splitlines()
    message = lines[0] if lines else ""
    if where:
        line = source.splitlines()[frames[-1].lineno - 1].strip()
        text = f"your code stopped{where} with {type(e).__name__}: {message}\n    {line}"
    else:
        text = f"the result is not of the expected kind ({type(e).__name__}: {message})."
    for pattern, hint in {**hints, **HINTS}.items():
        if re.search(pattern, str(e)):
            text += f"\n{hint}"
            break
    return {"status": "wrong", "text": text}


def load(exercise, source, file):
    """Runs the learner's file and returns a Learner; raises whatever is wrong with it."""
    tree = ast.parse(source, file)
    name = refused_name(tree, exercise.refused)
    if name is not None:
        raise Refused(f"`{name}`")
    if exercise.is_script:  # its check runs it
        return Learner(source=source, file=file)
    fresh = types.ModuleType("learner")
    fresh.__file__ = file
    exec(compile(tree, file, "exec"), fresh.__dict__)
    return Learner(**{k: v for k, v in vars(fresh).items() if not k.startswith("__")})


def examine(exercise, source, file, report=lambda parts, left: None):
    """Goes through an exercise's parts with a learner's file: (Learner, [{name, status, text}])."""
    parts = []
    left = [part.__doc__ for part in exercise.parts]
    report(parts, left)
    try:
        learner = load(exercise, source, file)
    except BaseException as e:
        return None, [{"name": "the file", **explain(e, file, source, exercise.hints)}]
    for part in exercise.parts:
        torch.manual_seed(0)
        np.random.seed(0)
        try:
            part(learner)
            found = {"status": "done", "text": ""}
        except BaseException as e:
            found = explain(e, file, source, exercise.hints)
        parts.append({"name": left.pop(0), **found})
        report(parts, left)
    return learner, parts


def limit_output():
    """Stops loops that print without end."""
    with contextlib.suppress(ImportError):  # on Windows, where only the time limit stops them
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000_000, 20_000_000))


def main(name, file, results, mode=""):
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")  # as check.py reads it
    rank = int(os.environ.get("PMI_RANK") or os.environ.get("OMPI_COMM_WORLD_RANK") or 0)
    if rank > 0:
        results = f"{results}.{rank}"
    module = importlib.import_module(f"checks.{name}")
    exercise = module.EXERCISE
    source = Path(file).read_text(encoding="utf-8", errors="replace")

    def write(parts, left, finished=False):
        state = {"parts": parts, "left": left, "finished": finished}
        Path(f"{results}.new").write_text(json.dumps(state), encoding="utf-8")
        os.replace(f"{results}.new", results)

    write([], [])
    if mode != "train":
        limit_output()
    armed = arm(file)
    learner, parts = examine(exercise, source, file, write)
    if mode == "train" and all(part["status"] == "done" for part in parts):
        part = "a short training run"
        write(parts, [part])
        armed["on"] = False
        try:
            found = {"status": "done", "text": module.train(learner)}
        except BaseException as e:
            found = explain(e, file, source, exercise.hints)
        parts.append({"name": part, **found})
    write(parts, [], finished=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
