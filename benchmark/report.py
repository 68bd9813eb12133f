"""Makes pictures and tables of the benchmark from its results: python benchmark/report.py

Reads benchmark/results/IMPL/ALGO/ENV_ID/SEED.csv and benchmark/published_curves.csv. Writes a picture for each family,
environment and number of steps, and README.md with the tables, to benchmark/results/report/. A file that cannot be read
is left out, with a line on stderr.
"""

import ast
import csv
import itertools
import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro
from PIL import Image

from benchmark.plot import common, read_table, smooth

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmark" / "results"
ON_POLICY, OFF_POLICY = ("vpg", "trpo", "ppo"), ("ddpg", "td3", "sac")
ENVS = [f"{name}-v4" for name in ("HalfCheetah", "Hopper", "Walker2d", "Swimmer", "Ant")]
PEER = {"vpg": "sb3", "trpo": "sb3", "ppo": "sb3-defaults", "ddpg": "sb3", "td3": "sb3", "sac": "sb3"}
PUBLISHED = {"vpg": "pytorch", "trpo": "tf1", "ppo": "pytorch", "ddpg": "pytorch", "td3": "pytorch", "sac": "pytorch"}


class Result:
    """One run. score: mean of the last whole episodes; steps, values: its curve."""

    def __init__(self, path):
        head, *lines = path.read_text().splitlines() or [""]
        self.made = json.loads(head.removeprefix("# "))
        self.impl, self.algo, self.env = path.parts[-4:-1]
        self.algo = self.algo.replace("a2c", "vpg")  # whose relative it is
        base = self.algo.split(",")[0]
        self.on_policy = base in ON_POLICY
        self.lines = lines
        self.steps, self.values = read_table(lines, ("charts" if self.on_policy else "eval") + "/episodic_return")
        self.total = self.made["args"]["total_timesteps"]
        if not len(self.steps):
            raise ValueError("it has no finished episode")
        if self.steps[-1] < 0.99 * self.total:
            raise ValueError(f"it ends at step {self.steps[-1]} of {self.total}")
        self.score = float(np.mean(self.made["final"] if self.on_policy else self.values[-3:]))
        self.script = f"{base}.py" if self.impl == "ours" else "benchmark/sb3.py"

    def is_old(self):
        """Whether the script's code has changed since the commit that made the result."""
        command = ["git", "-C", ROOT, "show", f"{self.made['commit']}:{self.script}"]  # nothing for a "-dirty" one
        then = subprocess.run(command, capture_output=True, text=True)
        return then.returncode != 0 or bare(then.stdout) != bare((ROOT / self.script).read_text())


def bare(source):
    """A script's code without its comments and docstrings, the words of its messages, and `threads`, which
    logx.setup() once took: run.py had set OMP_NUM_THREADS, so it changed no result."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body.pop(0)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            node.value = " "
        if isinstance(node, ast.Call):
            node.keywords = [k for k in node.keywords if k.arg != "threads"]
    return ast.dump(tree)


def read_results(folder):
    results = []
    for path in sorted(folder.glob("*/*/*/*.csv")):
        try:
            results.append(Result(path))
        except (OSError, ValueError, KeyError, IndexError, TypeError) as e:
            what = e if type(e) is ValueError else f"it is damaged ({type(e).__name__}: {e})"
            print(f"report.py: {path} is left out: {what}", file=sys.stderr)
            continue
        if results[-1].env not in ENVS:
            print(f"report.py: {path} is left out: the report shows {', '.join(ENVS)} only", file=sys.stderr)
            results.pop()
    return results


def read_published():
    """{(source, algo, env): (steps, means, stds)}, the original's curves, ten seeds each."""
    curves = {}
    with open(ROOT / "benchmark" / "published_curves.csv") as f:
        for row in csv.DictReader(f):
            key = row["source"], row["algo"], row["env"] + "-v4"
            curves.setdefault(key, []).append([float(row[k]) for k in ("steps", "mean", "std")])
    return {key: np.array(rows).T for key, rows in curves.items()}


def select(results, impl, algo, env):
    return [r for r in results if (r.impl, r.algo, r.env) == (impl, algo, env)]


def better(pairs):
    """Mean over environments of the probability that a run of ours beats one of theirs; ties count half."""
    return np.mean([np.mean((x[:, None] > y) + 0.5 * (x[:, None] == y)) for x, y in pairs])


def middle_mean(pairs):
    """Interquartile mean of ours over all runs of all environments, each divided by SB3's mean there."""
    x = np.sort(np.concatenate([x / y.mean() for x, y in pairs]))
    cut = len(x) // 4
    return x[cut : len(x) - cut].mean()


def bootstrap(statistic, pairs, n=10_000):
    """95 % interval of a statistic of [(ours, theirs), ...], each resampled within its environment."""
    rng = np.random.default_rng(0)
    draws = [statistic([(rng.choice(x, len(x)), rng.choice(y, len(y))) for x, y in pairs]) for _ in range(n)]
    return np.quantile(draws, [0.025, 0.975])


def cell(runs):
    """The mean of the scores, and each seed's."""
    if not runs:
        return "–"
    scores = [r.score for r in runs]
    seeds = ", ".join(f"{x:.0f}" for x in scores)
    return f"**{np.mean(scores):.0f}** ({seeds}){'†' * any(r.is_old() for r in runs)}"


def count(runs):
    return f"{len(runs)} run{'s' * (len(runs) != 1)}"


def table(*columns):
    return [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]


def or_none(lines):
    return lines if len(lines) > 2 else ["No results yet."]


def scores_table(results, algos):
    lines = table("environment", "algorithm", "steps", "ours", "SB3, matched", "SB3, its defaults")
    for env in ENVS:
        for algo in algos:
            runs = [select(results, impl, algo, env) for impl in ("ours", "sb3", "sb3-defaults")]
            totals = sorted({r.total for rs in runs for r in rs})
            for total in totals:
                cells = [cell([r for r in rs if r.total == total]) for rs in runs]
                if algo == "vpg" and cells[1] != "–":
                    cells[1] = f"A2C: {cells[1]}"
                lines.append(f"| {env} | {algo.upper()} | {total:,} | {' | '.join(cells)} |")
    return lines


JUDGED = ("runs, first / second", "P(first beats second)", "95 %", "interquartile mean", "95 %")


def judge(results, first, second, total):
    """Two (implementation, algorithm), pooled: number of environments, cells of JUDGED, whether they have intervals."""
    pairs = []
    for env in ENVS:
        both = [select(results, *who, env) for who in (first, second)]
        pairs.append([np.array([r.score for r in runs if r.total == total]) for runs in both])
    pairs = [(x, y) for x, y in pairs if len(x) and len(y)]
    if not pairs:
        return 0, [], False
    enough = all(len(x) >= 3 and len(y) >= 3 for x, y in pairs)  # one run resamples to itself
    cells = [" / ".join(str(sum(map(len, side))) for side in zip(*pairs)), f"{better(pairs):.2f}", "–", "–", "–"]
    if enough:
        cells[2] = "{:.2f} to {:.2f}".format(*bootstrap(better, pairs))
    if all(y.min() > 0 for _, y in pairs):  # a share of a negative mean says nothing
        cells[3] = f"{middle_mean(pairs):.2f}"
        if enough:
            cells[4] = "{:.2f} to {:.2f}".format(*bootstrap(middle_mean, pairs))
    return len(pairs), cells, enough


def judgement_table(results):
    """Ours, first, against Stable-Baselines3's."""
    lines = table("algorithm", "against", "steps", "environments", *JUDGED)
    for algo, impl in itertools.product((*ON_POLICY, *OFF_POLICY), ("sb3", "sb3-defaults")):
        for total in sorted({r.total for r in results}):
            envs, cells, enough = judge(results, ("ours", algo), (impl, algo), total)
            if envs:
                bold = "**" if impl == PEER[algo] and algo != "vpg" and enough else ""
                name = "A2C" if algo == "vpg" else "SB3, matched" if impl == "sb3" else "SB3's defaults"
                cells = [f"{bold}{algo.upper()}{bold}", name, f"{total:,}", str(envs), *cells]
                lines.append(f"| {' | '.join(cells)} |")
    return lines


def published_table(results, published):
    """Training (on-policy) or test return, smoothed over 11 epochs as the original's, beside its published mean."""
    lines = table("environment", "algorithm", "steps", "ours", "published mean ± std of ten seeds", "reached")
    reached = []
    for env in ENVS:
        for algo in (*ON_POLICY, *OFF_POLICY):
            for total in (100_000, 500_000, 1_000_000):
                if algo in ON_POLICY and total != 1_000_000:
                    continue
                # as far as the window reaches; half a window is a little low on-policy, and too low with ten tests
                whole = total + 50_000 * (algo in OFF_POLICY and total < 1_000_000)
                runs = [r for r in select(results, "ours", algo, env) if r.total >= whole]
                key = PUBLISHED[algo], algo, env
                if not runs or key not in published:
                    continue
                steps, mean, std = published[key]
                ours = np.mean([np.interp(total, r.steps, smooth(r.values, 11)) for r in runs])
                i = list(steps).index(total)
                reached.append(ours >= mean[i])
                numbers = f"{ours:.0f} ({count(runs)}) | {mean[i]:.0f} ± {std[i]:.0f}"
                lines.append(f"| {env} | {algo.upper()} | {total:,} | {numbers} | {'yes' if reached[-1] else 'no'} |")
    return [*lines, "", f"Reached in {sum(reached)} of {len(reached)} cells."]


def variants_tables(results):
    """Runs with other knobs than the defaults, beside those with the defaults, and both judged."""
    lines, judged = table("environment", "variant", "steps", "with it", "at the defaults"), []
    for algo in sorted({r.algo for r in results if "," in r.algo}):
        base = algo.split(",")[0]
        for total in sorted({r.total for r in results if r.algo == algo}):
            for env in ENVS:
                cells = [cell([r for r in select(results, "ours", x, env) if r.total == total]) for x in (algo, base)]
                if cells[0] != "–":
                    lines.append(f"| {env} | `{algo}` | {total:,} | {' | '.join(cells)} |")
            envs, cells, _ = judge(results, ("ours", base), ("ours", algo), total)
            if envs:
                judged.append(f"| `{algo}` | {total:,} | {envs} | {' | '.join(cells)} |")
    if judged:
        title = "The defaults, first, against the variant:"
        lines += ["", title, "", *table("variant", "steps", "environments", *JUDGED), *judged]
    return lines if len(lines) > 2 else []


def columns_tables(results):
    """Of each algorithm of ours the losses and values: median, and 5 % to 95 %, over all epochs and seeds."""
    head, lines = table("column", *(env.removesuffix("-v4") for env in ENVS)), []
    for algo in (*ON_POLICY, *OFF_POLICY):
        runs = [r for r in results if (r.impl, r.algo) == ("ours", algo)]
        for total in sorted({r.total for r in runs}):
            lines += [f"### {algo.upper()}, {total:,} steps", "", *head]
            for name in (n for n in runs[0].lines[0].split(",") if n.startswith(("losses/", "values/"))):
                cells = []
                for env in ENVS:
                    values = [read_table(r.lines, name)[1] for r in runs if (r.env, r.total) == (env, total)]
                    cells.append(spread(np.concatenate(values)) if values else "–")
                lines.append(f"| `{name}` | {' | '.join(cells)} |")
            lines.append("")
    return lines


def spread(values):
    values = np.where(np.abs(values) < 1e-6, 0.0, values)  # rounding
    low, middle, high = (f"{x:.0f}" if abs(x) >= 100 else f"{x:.2g}" for x in np.quantile(values, [0.05, 0.5, 0.95]))
    return f"{middle} ({low} to {high})"


def picture(results, published, env, algos, total, path):
    """Draws the algorithms that have results of `total` steps, and returns their names."""
    results = [r for r in results if r.total == total]
    shown = [a for a in algos if select(results, "ours", a, env) or select(results, PEER[a], a, env)]
    if not shown:
        return ""
    fig, axes = plt.subplots(1, len(shown), figsize=(4.2 * len(shown), 3.4), squeeze=False, layout="constrained")
    for ax, algo in zip(axes[0], shown):
        peer = "A2C" if algo == "vpg" else "SB3, matched"
        names = {"ours": "ours", "sb3": peer, "sb3-defaults": "SB3, its defaults"}
        for color, (impl, name) in zip(("C0", "C1", "C2"), names.items(), strict=True):
            runs = select(results, impl, algo, env)
            if not runs:
                continue
            window = 11 if algos == ON_POLICY else 1
            steps, values = common([(np.minimum(r.steps, total), smooth(r.values, window)) for r in runs])
            ax.plot(steps, values.mean(axis=0), color=color, label=f"{name} ({count(runs)})")
            ax.fill_between(steps, values.min(axis=0), values.max(axis=0), color=color, alpha=0.2, lw=0)
        if (PUBLISHED[algo], algo, env) in published:
            curve = published[PUBLISHED[algo], algo, env]
            steps, mean, std = curve[:, curve[0] <= total]
            ax.errorbar(steps, mean, std, fmt="k.--", lw=1, ms=5, label="Spinning Up, published, ± std")
        ax.set(title=f"{algo.upper()}, {env}", xlabel="environment steps")
        ax.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
        ax.grid(alpha=0.3)
        ax.legend(fontsize=7)
    axes[0, 0].set_ylabel("return in training" if algos == ON_POLICY else "return in test episodes")
    fig.savefig(path, dpi=110)
    plt.close(fig)
    Image.open(path).convert("RGB").quantize(128).save(path)  # with a palette: a third of the size
    return ", ".join(shown).upper()


def main():
    results, published = read_results(RESULTS), read_published()
    if not results:
        print(f"report.py: no results in {RESULTS}", file=sys.stderr)
        return 2
    out = RESULTS / "report"
    out.mkdir(exist_ok=True)
    lines = ["# Results", "", f"Made by `python benchmark/report.py` from {len(results)} runs.", ""]
    lines += ["## Judgement, pooled over the environments", ""]
    lines += ["Ours, first, against Stable-Baselines3's:", "", *or_none(judgement_table(results)), ""]
    for family, algos in (("on-policy", ON_POLICY), ("off-policy", OFF_POLICY)):
        what = "20 whole episodes of the last policy" if family == "on-policy" else "the last three tests"
        lines += [f"## {family.capitalize()}: {what}", "", *or_none(scores_table(results, algos)), ""]
        for env, total in itertools.product(ENVS, sorted({r.total for r in results})):
            path = out / f"{family}-{env}-{total}.png"
            if names := picture(results, published, env, algos, total, path):
                curves = f"Learning curves of {names} on {env}, {total:,} steps: means, and ranges over seeds"
                lines += [f"![{curves}]({path.name})", ""]
    lines += ["## Beside the original's published curves", "", *published_table(results, published), ""]
    variants = variants_tables(results)
    if variants:
        lines += ["## Variants", "", *variants, ""]
    lines += ["## What losses and values look like", ""]
    lines += ["In our runs, over all epochs and seeds: the median, and the middle 90 %.", "", *columns_tables(results)]
    if any(r.is_old() for r in results):
        lines += ["† made before the last change of its script's code (`logx.py` is not looked at).", ""]
    (out / "README.md").write_text("\n".join(lines))
    print(f"{len(results)} results: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(tyro.cli(main, description=__doc__))
