"""Prints the table of a study from its runs, as Markdown.

python exercises/set3/table.py clipping             of the committed runs, in exercises/set3/results/clipping
python exercises/set3/table.py clipping MY_FOLDER   of the folder that the launcher's --results named
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


def read(folder):
    """The runs in a folder: (algorithm, arguments, {column: numbers})."""
    runs = []
    for path in sorted(Path(folder).rglob("*.csv")):
        first, *lines = path.read_text().splitlines()
        rows = list(csv.DictReader(lines))
        columns = {name: [float(row[name]) for row in rows if row[name]] for name in rows[0]}
        args = json.loads(first.removeprefix("#"))["args"]
        runs.append((args["exp_name"].split(",")[0], args, columns))
    return runs


def mean(xs, begin=0.8, end=1.0):
    """Over a part of a run, by default its last fifth; None where the column is empty."""
    first = min(round(begin * len(xs)), len(xs) - 1)
    return float(np.mean(xs[first : max(first + 1, round(end * len(xs)))])) if xs else None


def returns(columns):
    """Of test episodes where there are any, else of the training's."""
    return columns.get("eval/episodic_return") or columns["charts/episodic_return"]


def groups(runs, knobs):
    """{(algorithm, value of each knob): its runs' columns}."""
    found = {}
    for algo, args, columns in runs:
        key = (algo, *(str(args[knob]).split(":")[-1] if knob in args else "" for knob in knobs))
        found.setdefault(key, []).append(columns)
    return found


def number(x):
    return "" if x is None else f"{x:.3g}" if abs(x) < 10 else f"{x:,.0f}"


def table(study, folder):
    knobs, others = STUDIES[study]
    runs = read(folder)
    shown = [name for name in others if any(name in columns for _, _, columns in runs)]
    knobs = [knob for knob in knobs if any(knob in args for _, args, _ in runs)]
    measured = ["seeds", "mean return", "lowest seed", "highest seed", "half-way"]
    lines = [["algorithm", *knobs, *measured, *(name.removeprefix("values/") for name in shown)]]
    for key, members in groups(runs, knobs).items():
        scores = [mean(returns(columns)) for columns in members]
        half_way = np.mean([mean(returns(columns), 0.4, 0.6) for columns in members])
        extra = [[mean(columns.get(name, [])) for columns in members] for name in shown]
        extra = [None if None in xs else np.mean(xs) for xs in extra]
        cells = [np.mean(scores), min(scores), max(scores), half_way, *extra]
        lines.append([*key, str(len(members)), *map(number, cells)])
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def how_many(folder, knob, draws=10_000):
    """How often the mean of n seeds puts the setting first that is first by all of its seeds."""
    settings = groups(read(folder), [knob]).items()
    found = {key: np.array([mean(returns(columns)) for columns in members]) for key, members in settings}
    (best, x), (other, y) = sorted(found.items(), key=lambda item: -item[1].mean())[:2]
    rng = np.random.default_rng(0)
    lines = [
        f"| seeds each | {' '.join(best)} is ahead of {' '.join(other)} | 95 % of the means of {' '.join(best)} |",
        "| --- | --- | --- |",
    ]
    for n in (1, 2, 3, 5, 10, 20):
        means = [rng.choice(z, (draws, n)).mean(axis=1) for z in (x, y)]
        low, high = np.percentile(means[0], [2.5, 97.5])
        lines.append(f"| {n} | {100 * (means[0] > means[1]).mean():.0f} % | {number(low)} to {number(high)} |")
    return "\n".join(lines)


def main(study=None, folder=None):
    if study not in STUDIES:
        return f"The studies are {', '.join(STUDIES)}."
    folder = Path(folder or HERE / "results" / study)
    if not any(folder.rglob("*.csv")):
        return f"There are no runs in {folder}. The page of the study has the command that makes them."
    print(table(study, folder))
    if study == "seeds":
        print("\n" + how_many(folder, "lam"))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
