"""Draws the curves of runs: mean over the runs of a group, and the range from the smallest to the largest.

    python benchmark/plot.py runs/                                           a panel for each environment
    python benchmark/plot.py runs/ --group exp_name seed --value losses/v    a curve for each seed, of another column
    python benchmark/plot.py runs/ --smooth 11 --out curves.png

Finds every folder with a progress.csv below those given. Runs whose arguments differ only in the seed, or in where
they end, are one group, unless --group names the arguments that make one. A run that cannot be read is left out, with
a line that says why.
"""

import csv
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro

NO_CONFIGURATION = {"env_id", "seed", "resume", "total_timesteps"}  # do not make another configuration


@dataclass
class Args:
    folders: tyro.conf.Positional[tuple[str, ...]]  # where to look for runs
    group: tuple[str, ...] = ()  # arguments that make a group, in place of all but the seed and the end
    value: str = ""  # column to draw; by default eval/episodic_return, else charts/episodic_return
    smooth: int = 1  # epochs of a centred moving average
    out: str = "curves.png"  # the picture: .png, .svg or .pdf


def read_table(lines, value):
    """Steps and values of a progress.csv, (n,) each, without the rows where the value is empty."""
    rows = [row for row in csv.DictReader(lines) if row["global_step"] and row.get(value)]
    return np.array([int(r["global_step"]) for r in rows]), np.array([float(r[value]) for r in rows])


def read_run(folder, value):
    """Arguments, column, steps, values. Raises OSError, ValueError, KeyError or TypeError where the run is damaged."""
    args = json.loads((folder / "config.json").read_text())["args"]
    if missing := {"env_id", "exp_name"} - args.keys():
        raise ValueError(f"its config.json lacks {' and '.join(sorted(missing))}")
    lines = (folder / "progress.csv").read_text().splitlines()
    name = value or (
        "eval/episodic_return" if "eval/episodic_return" in lines[0].split(",") else "charts/episodic_return"
    )
    if name not in lines[0].split(","):
        raise ValueError(f"it has no column {name}")
    steps, values = read_table(lines, name)
    if len(steps) == 0:
        raise ValueError(f"{name} is empty")
    return args, name, steps, values


def smooth(x, window):
    """Centred moving average, (n,) -> (n,); at the ends over the part of the window that is there."""
    half = window // 2
    return np.array([x[max(0, i - half) : i + half + 1].mean() for i in range(len(x))])


def common(curves):
    """Curves [(steps, values), ...] on the steps of the first, as far as all of them go: (n,), (len(curves), n)."""
    steps = curves[0][0][curves[0][0] <= min(s[-1] for s, _ in curves)]
    if len(steps) == 0:
        steps = curves[0][0][:1]
    return steps, np.array([np.interp(steps, s, x) for s, x in curves])


def main(a):
    if a.smooth < 1:
        return "--smooth must be 1 or more"
    folders = sorted({f.parent for folder in a.folders for f in Path(folder).rglob("progress.csv")})
    runs = []
    for folder in folders:
        try:
            runs.append(read_run(folder, a.value))
        except (OSError, ValueError, KeyError, TypeError, IndexError) as e:
            print(f"plot.py: {folder} is left out: {e}", file=sys.stderr)
    if not runs:
        return f"no runs to draw below {', '.join(a.folders) or 'no folder: name one, for instance runs/'}"
    keys = list(a.group) or sorted({k for args, *_ in runs for k in args} - NO_CONFIGURATION)
    unknown = [k for k in a.group if not any(k in args for args, *_ in runs)]
    if unknown:
        return f"no run has an argument {', '.join(unknown)}"
    # what differs: not the knobs that only some scripts have, and the name alone where it tells all of them apart
    shown = [k for k in keys if a.group or len({str(args[k]) for args, *_ in runs if k in args}) > 1]
    if len({tuple(str(args.get(k)) for k in shown) for args, *_ in runs}) == len(
        {args["exp_name"] for args, *_ in runs}
    ):
        shown = a.group or ["exp_name"]
    envs = sorted({args["env_id"] for args, *_ in runs})
    columns = min(3, len(envs))
    rows = -(-len(envs) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(5.2 * columns, 3.9 * rows), squeeze=False, layout="constrained")
    for ax in axes.ravel()[len(envs) :]:
        ax.axis("off")
    for ax, env in zip(axes.ravel(), envs):
        groups = {}
        for args, _, steps, values in runs:
            if args["env_id"] == env:
                label = ", ".join(str(args[k]) if k == "exp_name" else f"{k} {args[k]}" for k in shown if k in args)
                groups.setdefault(label, []).append((steps, smooth(values, a.smooth)))
        for label, curves in sorted(groups.items()):
            steps, values = common(curves)
            count = f"{len(curves)} run{'s' * (len(curves) > 1)}"
            (line,) = ax.plot(steps, values.mean(axis=0), label=f"{label} ({count})" if label else count)
            ax.fill_between(steps, values.min(axis=0), values.max(axis=0), color=line.get_color(), alpha=0.2, lw=0)
        ax.set(
            title=env,
            xlabel="environment steps",
            ylabel=", ".join({name for args, name, *_ in runs if args["env_id"] == env}),
        )
        ax.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
        ax.grid(alpha=0.3)
        ax.legend(fontsize=8)
    try:
        fig.savefig(a.out, dpi=150)
    except (OSError, ValueError) as e:
        return f"cannot write {a.out}: {e}"
    print(f"{len(runs)} runs: {a.out}")
    return None


if __name__ == "__main__":
    complaint = main(tyro.cli(Args))
    if complaint:
        print(f"plot.py: {complaint}", file=sys.stderr)
        sys.exit(2)
