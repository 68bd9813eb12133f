"""What the checks share: comparing an answer with the right numbers, and with the numbers that usual mistakes give."""

import csv
import importlib
import sys
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]


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
        return np.asarray(x.detach().cpu() if torch.is_tensor(x) else x).astype(float)
    except (TypeError, ValueError, RuntimeError):
        raise Wrong(f"{what} should be numbers (a tensor, an array), and is {type(x).__name__}.") from None


def compare(what, got, want, mistakes=(), tensor=False, rtol=1e-4, atol=1e-5):
    """Raises Wrong unless `got` has the shape and numbers of `want`.

    mistakes: pairs of what a usual mistake gives and the hint made for it. tensor: a torch tensor is asked for.
    """
    x, want = to_array(what, got), np.asarray(want, dtype=float)
    if equal(x, want, rtol, atol):
        if tensor and not torch.is_tensor(got):
            raise Wrong(f"{what} has the right numbers, but should be a torch tensor, not {type(got).__name__}.")
        return
    for wrong, hint in mistakes:
        if equal(x, np.asarray(wrong, dtype=float), rtol, atol):
            raise Wrong(hint)
    if x.shape != want.shape:
        raise Wrong(f"{what} has shape {x.shape}, and should have {want.shape}.")
    if not np.isfinite(x).all():
        raise Wrong(f"{what} is not finite: {short(x)}. Where could a 0 be divided by, or a logarithm taken of it?")
    if equal(-x, want, rtol, atol):
        raise Wrong(f"{what} has the wrong sign; the size is right.")
    with np.errstate(all="ignore"):
        ratio = (x / want)[np.abs(want) > 1e-6]
    if ratio.size > 1 and equal(ratio, np.full(ratio.shape, ratio[0]), 1e-3):
        raise Wrong(f"{what} is {ratio[0]:.4g} times what it should be, everywhere. Which factor is that?")
    if x.size > 1 and equal(x - want, np.full(x.shape, (x - want).flat[0]), 1e-3, 1e-4):
        raise Wrong(f"{what} is off by {(x - want).flat[0]:+.4g} everywhere. Which term is that?")
    bad = ~np.isclose(x, want, rtol=rtol, atol=atol)
    where = f" at index {tuple(map(int, np.argwhere(bad)[0]))}" if x.ndim else ""
    count = f" ({bad.sum()} of {bad.size} numbers are off)" if bad.size > 1 else ""
    raise Wrong(f"{what} is {x[bad][0]:.6g}{where}, and should be {want[bad][0]:.6g}{count}.")


def require(condition, hint):
    if not condition:
        raise Wrong(hint)


def short(x):
    return np.array2string(np.asarray(x).ravel()[:4], precision=4, separator=", ")


def f32(x):
    return torch.tensor(np.array(x), dtype=torch.float32)


def f64(x):
    return torch.tensor(np.array(x), dtype=torch.float64)


def same_mistakes(of, shape_of):
    """For a sum over dimensions, `of` (B, n) being its terms: what the usual mistakes with axes give."""
    return [
        (
            of,
            f"One number for each dimension came back; {shape_of} is one number for each row: sum over the last axis.",
        ),
        (of.mean(axis=-1), "This is the mean over the dimensions. Independent densities multiply: logarithms add up."),
        (of.sum(), "Everything is summed, over the batch too. Sum over the last axis only, so that (B,) is left."),
        (of.sum(axis=0), "The sum runs over the batch, axis 0. It should run over the dimensions, the last axis."),
    ]


def short_run(script, changes, bar, column="charts/episodic_return", last=3, **args):
    """Trains with a script of the repository in which `changes` {name: yours} are made; judges its last rows."""
    sys.path.insert(0, str(ROOT))
    module = importlib.import_module(script)
    for name, x in changes(module).items():
        setattr(module, name, x)
    folder = module.train(module.Args(**args))
    with open(Path(folder, "progress.csv"), newline="") as f:
        returns = [float(row[column]) for row in csv.DictReader(f) if row[column]]
    reached = sum(returns[-last:]) / max(1, len(returns[-last:]))
    path = " ".join(f"{x:.0f}" for x in returns[:: max(1, len(returns) // 8)])
    text = f"{script}.py on {args['env_id']} with your code: returns {path}; {reached:.0f} at the end"
    require(reached >= bar, f"{text}, where {bar:.0f} is expected. Chance may be to blame once; run it again.")
    return text + "."
