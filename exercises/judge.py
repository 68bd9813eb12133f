"""Judges one exercise, in a process of its own: check.py starts it, and reads the file of results that it leaves.

    python judge.py CHECKS FILE RESULTS [train]

RESULTS is rewritten after every part of the exercise, so that what was found survives whatever the learner's code does.
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

import numpy as np
import torch

from checks.common import Missing, Wrong

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SCRIPTS = {"vpg", "trpo", "ppo", "ddpg", "td3", "sac", "logx"}
KEEP_OUT = [ROOT / f"{name}.py" for name in SCRIPTS] + [ROOT / "__pycache__", HERE / "solutions"]
SMILE = "Nice try! {} would give the answer away, so it is out of bounds here. Yours will be just as good. :)"

HINTS = {  # messages of exceptions, and what is usually behind them; an exercise may have its own besides
    r"backward through the graph a second time": "The graph "
    "is used more than once: torch.autograd.grad(..., retain_graph=True).",
    r"does not require grad": "Something on the way was cut off from the graph: "
    "a detach(), a no_grad(), a NumPy array, "
    "or a first derivative taken without "
    "create_graph=True.",
    r"size of tensor .* must match|shapes? .*cannot be|broadcast|inconsistent tensor size": "Two shapes "
    "do "
    "not fit. Print the shapes just before this line.",
    r"File too large": "It prints, or writes, without end.",
    r"in-?place operation": "A tensor that the gradient still needs was changed in place (+=, copy_, [...] =).",
    r"Can't call numpy\(\) on Tensor that requires grad": "Stay in torch, or the gradient is lost here.",
}


class Refused(BaseException):
    """The learner's file reached for an answer that is ready made."""


class Learner(types.SimpleNamespace):
    """What the learner's file defines; a name that it does not have is a finding, not an error."""

    def __getattr__(self, name):
        raise Wrong(f"`{name}` is not there. Was it renamed, or lost?")


def arm(allowed):
    """From here on, opening or importing a script or a solution raises Refused."""
    keep_out = [str(path) for path in KEEP_OUT]
    armed = {"on": True}

    def hook(event, args):
        if not armed["on"]:
            return
        if event == "import" and args[0].split(".")[0] in SCRIPTS | {"solutions"}:
            raise Refused(f"`import {args[0]}`")
        if event == "open" and isinstance(args[0], str | bytes | os.PathLike):
            path = os.path.abspath(os.fsdecode(args[0]))
            if path != allowed and any(path == x or path.startswith(x + os.sep) for x in keep_out):
                raise Refused(f"opening {os.path.relpath(path, ROOT)}")

    sys.addaudithook(hook)
    return armed


def refused_names(tree, refused):
    """What a source imports or names that is out of bounds, e.g. an import of ppo, or torch.distributions."""
    out_of_bounds = SCRIPTS | {"solutions", "exercises"} | set(refused)
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node)]
        for name in names:
            starts = {name, *(name[:i] for i, c in enumerate(name) if c == ".")}
            if isinstance(node, ast.Attribute):
                starts &= set(refused)
            if starts & out_of_bounds:
                return min(starts & out_of_bounds)
    return None


def explain(e, file, source, hints):
    """{status, text} for whatever came out of the learner's code."""
    frames = [f for f in traceback.extract_tb(e.__traceback__) if f.filename == file]
    line = frames[-1].lineno if frames else None
    where = f" in line {line}" if line else ""
    message = (str(e).strip().splitlines() or [""])[0]
    if isinstance(e, NotImplementedError | Missing):
        return {"status": "missing", "text": str(e) if isinstance(e, Missing) else f"still to be written{where}."}
    if isinstance(e, Wrong):
        return {"status": "wrong", "text": str(e)}
    if isinstance(e, Refused):
        return {"status": "refused", "text": SMILE.format(str(e))}
    if isinstance(e, SyntaxError) and e.filename == file:
        return {"status": "wrong", "text": f"Python cannot read line {e.lineno}: {e.msg}."}
    if isinstance(e, SystemExit):
        return {"status": "wrong", "text": f"your code called sys.exit{where}; let it return instead."}
    if line:
        text = (
            f"your code stopped{where} with {type(e).__name__}: {message}\n    {source.splitlines()[line - 1].strip()}"
        )
    else:
        text = f"what came back is not of the kind that is asked for ({type(e).__name__}: {message})."
    hint = next((h for pattern, h in {**hints, **HINTS}.items() if re.search(pattern, str(e))), None)
    return {"status": "wrong", "text": text + (f"\n{hint}" if hint else "")}


def load(module, source, file):
    """The learner's file, run, as a Learner; raises whatever is wrong with it."""
    tree = ast.parse(source, file)
    if name := refused_names(tree, getattr(module, "REFUSED", ())):
        raise Refused(f"`{name}`")
    if getattr(module, "IS_SCRIPT", False):  # its check runs it
        return Learner(source=source, file=file)
    fresh = types.ModuleType("learner")
    fresh.__file__ = file
    exec(compile(tree, file, "exec"), fresh.__dict__)
    return Learner(**{k: v for k, v in vars(fresh).items() if not k.startswith("__")})


def examine(module, source, file, report=lambda parts, left: None):
    """Goes through an exercise's parts with a learner's file: (what it defines, [{name, status, text}])."""
    parts, left, hints = [], [part.__doc__ for part in module.PARTS], getattr(module, "HINTS", {})
    report(parts, left)
    try:
        learner = load(module, source, file)
    except BaseException as e:
        return None, [{"name": "the file", **explain(e, file, source, hints)}]
    for part in module.PARTS:
        torch.manual_seed(0)
        np.random.seed(0)
        try:
            part(learner)
            found = {"status": "done", "text": ""}
        except BaseException as e:
            found = explain(e, file, source, hints)
        parts.append({"name": left.pop(0), **found})
        report(parts, left)
    return learner, parts


def main(checks, file, results, mode=""):
    rank = int(os.environ.get("PMI_RANK") or os.environ.get("OMPI_COMM_WORLD_RANK") or 0)
    results = f"{results}.{rank}" if rank else results
    module, source = importlib.import_module(f"checks.{checks}"), Path(file).read_text(errors="replace")

    def write(parts, left, finished=False):
        state = {"parts": parts, "left": left, "finished": finished}
        Path(f"{results}.new").write_text(json.dumps(state))
        os.replace(f"{results}.new", results)

    write([], [])
    if mode != "train":
        with contextlib.suppress(ImportError):  # on Windows
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000_000, 20_000_000))  # for loops that print
    armed = arm(file)
    learner, parts = examine(module, source, file, write)
    if mode == "train" and all(part["status"] == "done" for part in parts):
        name = "a short training run"
        write(parts, [name])
        armed["on"] = False
        try:
            found = {"status": "done", "text": module.train(learner)}
        except BaseException as e:
            found = explain(e, file, source, getattr(module, "HINTS", {}))
        parts.append({"name": name, **found})
    write(parts, [], finished=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
