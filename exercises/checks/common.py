"""What the files in checks/ share; each of them holds the right numbers of one exercise.

An answer is compared with the right numbers first, then with those that the usual mistakes give.
"""

import csv
import importlib
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Exercise:
    """What judge.py needs to know about an exercise."""

    parts: list  # functions of a Learner, which raise Wrong or Missing; the docstring is the name
    refused: tuple = ()  # names that would give the answer away
    hints: dict = field(default_factory=dict)  # {pattern of an exception's message: hint}
    is_script: bool = False  # a part runs the learner's file, not judge.py


class Wrong(Exception):
    """An answer is wrong; the text says what, and where to look."""


class Missing(Exception):
    """Nothing is wrong: it has not been done yet."""


def equal(x, y, rtol=1e-4, atol=1e-5):
    """Equal shapes and nearly equal numbers; np.allclose alone would broadcast."""
    return np.shape(x) == np.shape(y) and np.allclose(x, y, rtol=rtol, atol=atol, equal_nan=True)


def to_array(what, x):
    """The numbers of a tensor, an array or a float; anything else is not an answer."""
    if x is None:
        raise Wrong(f"{what} is None. Is a `return` missing?")
    try:
        if torch.is_tensor(x):
            x = x.detach().cpu()
        return np.asarray(x).astype(float)
    except (TypeError, ValueError, RuntimeError):
        kind = type(x).__name__
        raise Wrong(f"{what} should be numbers (a tensor, an array), and is {kind}.") from None


def compare(what, got, want, mistakes=(), tensor=False, rtol=1e-4, atol=1e-5):
    """Raises Wrong unless `got` has the shape and numbers of `want`.

    mistakes: pairs (what a usual mistake gives, its hint). tensor: it must be a torch tensor.
    """
    x = to_array(what, got)
    want = np.asarray(want, dtype=float)
    if equal(x, want, rtol, atol):
        if tensor and not torch.is_tensor(got):
            kind = type(got).__name__
            raise Wrong(f"{what} has the right numbers, but should be a torch tensor, not {kind}.")
        return

    for wrong, hint in mistakes:
        if equal(x, np.asarray(wrong, dtype=float), rtol, atol):
            raise Wrong(hint)

    if x.shape != want.shape:
        raise Wrong(f"{what} has shape {x.shape}, and should have {want.shape}.")
    if not np.isfinite(x).all():
        raise Wrong(
            f"{what} is not finite: {short(x)}. "
            "Where could something be divided by 0, or the logarithm of 0 be taken?"
        )
    if equal(-x, want, rtol, atol):
        raise Wrong(f"{what} has the wrong sign; the size is right.")
    with np.errstate(all="ignore"):
        ratio = (x / want)[np.abs(want) > 1e-6]
    if ratio.size > 1 and equal(ratio, np.full(ratio.shape, ratio[0]), 1e-3):
        raise Wrong(
            f"{what} is {ratio[0]:.4g} times what it should be, everywhere. Which factor is that?"
        )
    offset = (x - want).flat[0]
    if x.size > 1 and equal(x - want, np.full(x.shape, offset), 1e-3, 1e-4):
        raise Wrong(f"{what} is off by {offset:+.4g} everywhere. Which term is that?")

    bad = ~np.isclose(x, want, rtol=rtol, atol=atol)
    where = ""
    if x.ndim > 0:
        where = f" at index {tuple(map(int, np.argwhere(bad)[0]))}"
    count = ""
    if bad.size > 1:
        count = f" ({bad.sum()} of {bad.size} numbers are off)"
    raise Wrong(f"{what} is {x[bad][0]:.6g}{where}, and should be {want[bad][0]:.6g}{count}.")


def require(condition, hint):
    if not condition:
        raise Wrong(hint)


def has_gradient(x):
    return torch.is_tensor(x) and x.requires_grad


def short(x):
    return np.array2string(np.asarray(x).ravel()[:4], precision=4, separator=", ")


def f32(x):
    return torch.tensor(np.array(x), dtype=torch.float32)


def f64(x):
    return torch.tensor(np.array(x), dtype=torch.float64)


def same_mistakes(of, what):
    """What the usual mistakes with axes give for `what`, the sum of the terms `of` (B, n)."""
    return [
        (
            of,
            "One number for each dimension came back; "
            f"{what} is one number for each row: sum over the last axis.",
        ),
        (
            of.mean(axis=-1),
            "This is the mean over the dimensions. "
            "Independent densities multiply, so logarithms add up.",
        ),
        (
            of.sum(),
            "Everything is summed, over the batch too. "
            "Sum over the last axis only, so that (B,) is left.",
        ),
        (
            of.sum(axis=0),
            "The sum runs over the batch, axis 0. "
            "It should run over the dimensions, the last axis.",
        ),
    ]


def short_run(script, changes, bar, column="charts/episodic_return", last=3, **args):
    """Trains a script of the repository with the learner's code; the last returns must reach `bar`.

    changes: a function of the script's module that returns {name: the learner's version}.
    """
    sys.path.insert(0, str(ROOT))
    module = importlib.import_module(script)
    for name, x in changes(module).items():
        setattr(module, name, x)
    folder = module.train(module.Args(**args))
    with open(Path(folder, "progress.csv"), newline="", encoding="utf-8") as f:
        returns = [float(row[column]) for row in csv.DictReader(f) if row[column]]
    reached = sum(returns[-last:]) / max(1, len(returns[-last:]))
    path = " ".join(f"{x:.0f}" for x in returns[:: max(1, len(returns) // 8)])
    text = (
        f"{script}.py on {args['env_id']} with your code: returns {path}; {reached:.0f} at the end"
    )
    require(
        reached >= bar,
        f"{text}, where {bar:.0f} is expected. It may be bad luck once; run it again.",
    )
    return text + "."
