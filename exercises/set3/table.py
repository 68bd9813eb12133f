"""Prints the table of a study from its runs, as Markdown.

    python exercises/set3/table.py clipping             of the committed runs
    python exercises/set3/table.py clipping MY_FOLDER   of the launcher's --results

The committed runs are in exercises/set3/results.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
STUDIES = {  # study: what varies, and what is shown besides the return
    "seeds": (["lam"], []),
    "variance": (["lam"], ["values/explained_variance", "values/kl"]),
    "clipping": (["clip_ratio", "train_pi_iters"], ["values/kl", "values/clip_frac"]),
    "exploration": (["act_noise", "alpha"], ["charts/episodic_return", "values/q1", "values/logp"]),
    "time_limits": (["env_id"], ["values/v", "values/explained_variance", "values/q"]),
}
MEASURED = ["seeds", "mean return", "lowest seed", "highest seed", "half-way"]


def read_run(path):
    """(algorithm, arguments, {column: its numbers}) of one run."""
    first, *lines = path.read_text(encoding="utf-8").splitlines()
    args = json.loads(first.removeprefix("#"))["args"]
    rows = list(csv.DictReader(lines))
    columns = {}
    for name in rows[0]:
        columns[name] = [float(row[name]) for row in rows if row[name]]
    return args["exp_name"].split(",")[0], args, columns


def read(folder):
    """The runs in a folder."""
    return [read_run(path) for path in sorted(Path(folder).rglob("*.csv"))]


def mean(xs, begin=0.8, end=1.0):
    """The mean over a part of a run, by default its last fifth; None where the column is empty."""
    if not xs:
        return None
    first = min(round(begin * len(xs)), len(xs) - 1)
    stop = max(first + 1, round(end * len(xs)))
    return float(np.mean(xs[first:stop]))


def mean_over_seeds(name, members):
    """The mean of a column over the ends of some runs; None where one of them lacks it."""
    means = [mean(columns.get(name, [])) for columns in members]
    if None in means:
        return None
    return np.mean(means)


def returns(columns):
    """Returns of the test episodes where there are any, else of the training."""
    return columns.get("eval/episodic_return") or columns["charts/episodic_return"]


def setting(args, knob):
    """The value of a knob in a run, without the module in front of an environment's name."""
    if knob not in args:
        return ""
    return str(args[knob]).split(":")[-1]


def groups(runs, knobs):
    """{(algorithm, value of each knob): its runs' columns}."""
    found = {}
    for algo, args, columns in runs:
        key = (algo, *(setting(args, knob) for knob in knobs))
        found.setdefault(key, []).append(columns)
    return found


def number(x):
    if x is None:
        return ""
    if abs(x) < 10:
        return f"{x:.3g}"
    return f"{x:,.0f}"


def markdown(cells):
    return "| " + " | ".join(cells) + " |"


def table(study, folder):
    """A row for each setting."""
    knobs, others = STUDIES[study]
    runs = read(folder)
    used_args = set()
    used_columns = set()
    for _, args, columns in runs:
        used_args.update(args)
        used_columns.update(columns)
    knobs = [knob for knob in knobs if knob in used_args]
    shown = [name for name in others if name in used_columns]

    head = ["algorithm", *knobs, *MEASURED]
    head += [name.removeprefix("values/") for name in shown]
    lines = [markdown(head), markdown(["---"] * len(head))]
    for key, members in groups(runs, knobs).items():
        scores = [mean(returns(columns)) for columns in members]
        half_way = np.mean([mean(returns(columns), 0.4, 0.6) for columns in members])
        extra = [mean_over_seeds(name, members) for name in shown]
        numbers = [np.mean(scores), min(scores), max(scores), half_way, *extra]
        lines.append(markdown([*key, str(len(members)), *map(number, numbers)]))
    return "\n".join(lines)


def how_many(folder, knob, draws=10_000):
    """How often the mean of n seeds ranks the two best settings as all of their seeds do."""
    scores = {}
    for key, members in groups(read(folder), [knob]).items():
        scores[" ".join(key)] = np.array([mean(returns(columns)) for columns in members])
    best, other = sorted(scores, key=lambda name: -scores[name].mean())[:2]
    rng = np.random.default_rng(0)
    lines = [
        f"| seeds each | {best} is ahead of {other} | 95 % of the means of {best} |",
        "| --- | --- | --- |",
    ]
    for n in (1, 2, 3, 5, 10, 20):
        means = rng.choice(scores[best], (draws, n)).mean(axis=1)
        other_means = rng.choice(scores[other], (draws, n)).mean(axis=1)
        ahead = 100 * (means > other_means).mean()
        low, high = np.percentile(means, [2.5, 97.5])
        lines.append(f"| {n} | {ahead:.0f} % | {number(low)} to {number(high)} |")
    return "\n".join(lines)


def main(study=None, folder=None):
    """Prints the tables of a study; returns a sentence if it cannot."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # for terminals that lack a letter
    if study not in STUDIES:
        return f"The studies are {', '.join(STUDIES)}."
    folder = Path(folder or HERE / "results" / study)
    if not any(folder.rglob("*.csv")):
        return f"There are no runs in {folder}. The study's page has the command that makes them."
    print(table(study, folder))
    if study == "seeds":
        print("\n" + how_many(folder, "lam"))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
