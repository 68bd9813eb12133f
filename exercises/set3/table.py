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
    "clipping": (["clip_ratio", "target_kl"], ["values/kl", "values/clip_frac", "values/stop_iter"]),
    "exploration": (["act_noise", "alpha"], ["charts/episodic_return", "values/q1", "values/logp"]),
    "time_limits": (["env_id"], ["values/v", "values/explained_variance", "values/q"]),
}
LAST = 0.2  # the share of a run, at its end, that its score is the mean of


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


def at_the_end(xs):
    return float(np.mean(xs[-max(1, round(LAST * len(xs))) :])) if xs else None


def score(columns):
    """A run's score: the mean return at its end; of tests where there are any, else of the episodes of the training."""
    return at_the_end(columns.get("eval/episodic_return") or columns["charts/episodic_return"])


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
    lines = [
        [
            "algorithm",
            *knobs,
            "seeds",
            "mean return",
            "lowest seed",
            "highest seed",
            *(x.removeprefix("values/") for x in shown),
        ]
    ]
    for key, members in groups(runs, knobs).items():
        scores = [score(columns) for columns in members]
        cells = [number(f(scores)) for f in (np.mean, np.min, np.max)]
        extra = [[at_the_end(columns.get(name, [])) for columns in members] for name in shown]
        extra = [
            number(np.mean([x for x in xs if x is not None])) if any(x is not None for x in xs) else "" for xs in extra
        ]
        lines.append([*key, str(len(members)), *cells, *extra])
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def how_many(folder, knob, draws=10_000):
    """How often the mean of n seeds puts the setting first that is first by all of its seeds."""
    found = {
        key: np.array([score(columns) for columns in members]) for key, members in groups(read(folder), [knob]).items()
    }
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
