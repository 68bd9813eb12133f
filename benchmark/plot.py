"""Draws learning curves: the mean of each group of runs, and a band from the lowest to the highest.

One panel per environment; a curve for each seed, of another column; smoothed, to another file:

    python benchmark/plot.py runs/
    python benchmark/plot.py runs/ --group exp_name seed --value losses/v
    python benchmark/plot.py runs/ --smooth 11 --out curves.png

Finds every folder with a progress.csv, at any depth. Runs that differ only in their seed or their
number of steps form a group, unless --group names the arguments to group by. A run that cannot be
read is skipped, with a line that says why.
"""

import csv
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro

# arguments that may differ within a group
NOT_A_SETTING = {"env_id", "seed", "resume", "total_timesteps"}


@dataclass
class Args:
    folders: tyro.conf.Positional[tuple[str, ...]]  # where to look for runs
    group: tuple[str, ...] = ()  # arguments to group by; by default all but the seed and the steps
    value: str = ""  # column to draw; by default eval/episodic_return, else charts/episodic_return
    smooth: int = 1  # window of a centred moving average in epochs, an odd number
    out: str = "curves.png"  # output file: .png, .svg or .pdf


class Run(NamedTuple):
    """A run's arguments, and a column of its progress.csv: name, steps (n,) and values (n,)."""

    args: dict
    column: str
    steps: np.ndarray
    values: np.ndarray


def read_table(lines, column):
    """Steps and values (n,) of a column of progress.csv, without the rows where it is empty."""
    steps = []
    values = []
    for row in csv.DictReader(lines):
        if row["global_step"] and row.get(column):
            steps.append(int(row["global_step"]))
            values.append(float(row[column]))
    return np.array(steps), np.array(values)


def read_run(folder, column):
    """The Run in a folder. Raises OSError, ValueError, LookupError, TypeError if it is damaged."""
    args = json.loads((folder / "config.json").read_text(encoding="utf-8"))["args"]
    missing = {"env_id", "exp_name"} - args.keys()
    if missing:
        raise ValueError(f"its config.json lacks {' and '.join(sorted(missing))}")

    lines = (folder / "progress.csv").read_text(encoding="utf-8").splitlines()
    columns = lines[0].split(",")
    if not column and "eval/episodic_return" in columns:
        column = "eval/episodic_return"
    elif not column:
        column = "charts/episodic_return"
    if column not in columns:
        raise ValueError(f"it has no column {column}")

    steps, values = read_table(lines, column)
    if len(steps) == 0:
        raise ValueError(f"{column} is empty")
    return Run(args, column, steps, values)


def read_runs(folders, column):
    """All runs below the folders; says on stderr which cannot be read."""
    found = set()
    for folder in folders:
        for path in Path(folder).rglob("progress.csv"):
            found.add(path.parent)

    runs = []
    for folder in sorted(found):
        try:
            runs.append(read_run(folder, column))
        except (OSError, ValueError, LookupError, TypeError) as e:
            print(f"plot.py: skipped {folder}: {e}", file=sys.stderr)
    return runs


def smooth(x, window):
    """Centred moving average, (n,) -> (n,); at the ends, over the part of the window inside."""
    half = window // 2
    means = [x[max(0, i - half) : i + half + 1].mean() for i in range(len(x))]
    return np.array(means)


def common(curves):
    """Curves [(steps, values), ...] at the same steps: those of the first, until the shortest ends.

    Returns the steps (n,) and the values (len(curves), n).
    """
    steps, _ = curves[0]
    end = min(s[-1] for s, _ in curves)
    shared = steps[steps <= end]
    if len(shared) == 0:
        shared = steps[:1]
    return shared, np.array([np.interp(shared, s, x) for s, x in curves])


def choose_labels(runs, group):
    """Names of the arguments that tell the groups apart, for the legend."""
    if group:
        return list(group)

    names = set()
    for run in runs:
        names |= run.args.keys()

    # a knob that only some scripts have does not differ
    differing = []
    for name in sorted(names - NOT_A_SETTING):
        values = {str(run.args[name]) for run in runs if name in run.args}
        if len(values) > 1:
            differing.append(name)

    # the experiment's name is enough if no two groups share one
    settings = set()
    for run in runs:
        settings.add(tuple(str(run.args.get(name)) for name in differing))
    exp_names = {run.args["exp_name"] for run in runs}
    if len(settings) == len(exp_names):
        return ["exp_name"]
    return differing


def label(run, names):
    """The run's group as the legend shows it."""
    parts = []
    for name in names:
        if name == "exp_name":
            parts.append(str(run.args[name]))
        elif name in run.args:
            parts.append(f"{name} {run.args[name]}")
    return ", ".join(parts)


def count(runs):
    """How many runs there are, in words."""
    if len(runs) == 1:
        return "1 run"
    return f"{len(runs)} runs"


def draw_band(ax, curves, name, color=None):
    """Draws the mean of the curves, and a band from the lowest to the highest."""
    steps, values = common(curves)
    (line,) = ax.plot(steps, values.mean(axis=0), color=color, label=name)
    low = values.min(axis=0)
    high = values.max(axis=0)
    ax.fill_between(steps, low, high, color=line.get_color(), alpha=0.2, lw=0)


def draw_environment(ax, env_id, runs, names, window):
    """Draws the runs in one environment, a curve for each group."""
    groups = {}
    for run in runs:
        curve = run.steps, smooth(run.values, window)
        groups.setdefault(label(run, names), []).append(curve)

    for group, curves in sorted(groups.items()):
        if group:
            draw_band(ax, curves, f"{group} ({count(curves)})")
        else:
            draw_band(ax, curves, count(curves))

    columns = {run.column for run in runs}
    ax.set(title=env_id, xlabel="environment steps", ylabel=", ".join(sorted(columns)))
    ax.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8)


def draw(runs, names, window):
    """The figure, a panel for each environment."""
    env_ids = sorted({run.args["env_id"] for run in runs})
    columns = min(3, len(env_ids))
    rows = math.ceil(len(env_ids) / columns)
    size = (5.2 * columns, 3.9 * rows)
    fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")

    for ax, env_id in zip(axes.ravel(), env_ids):
        here = [run for run in runs if run.args["env_id"] == env_id]
        draw_environment(ax, env_id, here, names, window)
    for ax in axes.ravel()[len(env_ids) :]:
        ax.axis("off")
    return fig


def main(a):
    """Draws the picture. Returns what went wrong, or None."""
    if a.smooth < 1 or a.smooth % 2 == 0:
        return f"--smooth must be an odd number, since the window is centred, not {a.smooth}"

    if not a.folders:
        return "name a folder with runs, for instance runs/"

    runs = read_runs(a.folders, a.value)
    if not runs:
        return f"no runs to draw in {', '.join(a.folders)}"
    for name in a.group:
        if not any(name in run.args for run in runs):
            return f"no run has an argument {name}"

    fig = draw(runs, choose_labels(runs, a.group), a.smooth)
    try:
        fig.savefig(a.out, dpi=150)
    except (OSError, ValueError) as e:
        return f"cannot write {a.out}: {e}"
    print(f"{count(runs)}: {a.out}")
    return None


if __name__ == "__main__":
    # this file also works alone, so it does not import benchmark/terminal.py
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")

    complaint = main(tyro.cli(Args))
    if complaint:
        print(f"plot.py: {complaint}", file=sys.stderr)
        sys.exit(2)
