"""Makes the pictures and tables of the benchmark from its results: python benchmark/report.py

Reads benchmark/results/IMPL/ALGO/ENV_ID/SEED.csv and benchmark/published_curves.csv. Writes to
benchmark/results/report/: README.md with the verdict, the pictures and the tables, and a picture
for each algorithm and environment. A file that cannot be read is skipped, with a line on stderr.
"""

import ast
import csv
import functools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro

from benchmark.agents import write_table
from benchmark.plot import count, draw_band, read_table, smooth
from benchmark.scripts import OFF_POLICY, ON_POLICY, SCRIPTS
from benchmark.terminal import replace_unprintable

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmark" / "results"
AGENTS = ROOT / "benchmark" / "agents"
ENVS = ("HalfCheetah-v4", "Hopper-v4", "Walker2d-v4", "Swimmer-v4", "Ant-v4")

# which of Stable-Baselines3's implementations each algorithm is judged against
PEER = dict.fromkeys(SCRIPTS, "sb3")
PEER["ppo"] = "sb3-defaults"

# which of the original's implementations each algorithm's published curve is from
PUBLISHED = dict.fromkeys(SCRIPTS, "pytorch")
PUBLISHED["trpo"] = "tf1"

NOTHING = "–"


# Results ------------------------------------------------------------------------------------------


class Result:
    """One run: its score, and its curve as steps and values (n,).

    The score is the mean return of whole episodes after training, or of the last tests.
    """

    def __init__(self, path):
        head, *self.lines = path.read_text(encoding="utf-8").splitlines() or [""]
        self.made = json.loads(head.removeprefix("# "))
        self.total = self.made["args"]["total_timesteps"]

        self.impl, algo, self.env = path.parts[-4:-1]
        # A2C is shown beside VPG, its nearest relative
        self.algo = algo.replace("a2c", "vpg")
        # a variant is named after its script and its knobs: trpo,delta=0.02
        script = self.algo.split(",")[0]

        if script in ON_POLICY:
            self.steps, self.values = read_table(self.lines, "charts/episodic_return")
            last = self.made["final"]
        else:
            self.steps, self.values = read_table(self.lines, "eval/episodic_return")
            last = self.values[-3:]
        if len(self.steps) == 0:
            raise ValueError("it has no finished episode")
        if self.steps[-1] < 0.99 * self.total:
            raise ValueError(f"it ends at step {self.steps[-1]} of {self.total}")
        self.score = float(np.mean(last))

        if self.impl == "ours":
            self.script = f"{script}.py"
        else:
            self.script = "benchmark/sb3.py"

    def is_old(self):
        """Whether the code has changed since the commit that made the result."""
        commit = self.made["commit"]
        return has_changed(commit, self.script) or has_changed(commit, "logx.py")


@functools.cache
def has_changed(commit, file):
    """Whether the code of a file has changed since a commit."""
    command = ["git", "-C", ROOT, "show", f"{commit}:{file}"]
    then = subprocess.run(command, capture_output=True, encoding="utf-8")
    # a commit that ends in "-dirty" is none that git knows
    if then.returncode != 0:
        return True
    now = (ROOT / file).read_text(encoding="utf-8")
    return comparable_code(then.stdout) != comparable_code(now)


def comparable_code(source):
    """A file's code in a form to compare: without comments, docstrings, messages, and play.

    The last section of logx.py, Play, takes no part in training.
    """
    tree = ast.parse(source.split("\n# Play ---")[0])
    for node in ast.walk(tree):
        may_have_docstring = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if may_have_docstring and ast.get_docstring(node) is not None:
            node.body.pop(0)

        # texts with a space are messages; names of columns and files have none
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            node.value = " "

        # logx.setup() once took `threads`; run.py had set OMP_NUM_THREADS, so it changed no result
        if isinstance(node, ast.Call):
            node.keywords = [k for k in node.keywords if k.arg != "threads"]
    return ast.dump(tree)


def read_results(folder):
    """All results in a folder; says on stderr which are skipped, and why."""
    results = []
    for path in sorted(folder.glob("*/*/*/*.csv")):
        try:
            result = Result(path)
        except (OSError, ValueError, LookupError, TypeError) as e:
            # a plain ValueError is a sentence of ours; json's, for one, is a class of its own
            why = str(e)
            if type(e) is not ValueError:
                why = f"it is damaged ({type(e).__name__}: {e})"
            print(f"report.py: skipped {path}: {why}", file=sys.stderr)
            continue
        if result.env in ENVS:
            results.append(result)
        else:
            only = ", ".join(ENVS)
            print(f"report.py: skipped {path}: the report shows only {only}", file=sys.stderr)
    return results


def read_published():
    """The original's curves over ten seeds: {(source, algo, env): steps, means, stds (3, n)}."""
    curves = {}
    path = ROOT / "benchmark" / "published_curves.csv"
    with open(path, encoding="utf-8") as f:
        for row in csv.DictReader(f):
            key = row["source"], row["algo"], row["env"] + "-v4"
            point = float(row["steps"]), float(row["mean"]), float(row["std"])
            curves.setdefault(key, []).append(point)
    return {key: np.array(points).T for key, points in curves.items()}


def select(results, impl, algo, env, total=None):
    """The results of one implementation, algorithm and environment, of `total` steps if given."""
    wanted = impl, algo, env
    found = [r for r in results if (r.impl, r.algo, r.env) == wanted]
    if total is not None:
        found = [r for r in found if r.total == total]
    return found


def totals(results):
    """The numbers of steps that there are results of, in ascending order."""
    return sorted({r.total for r in results})


# Statistics ---------------------------------------------------------------------------------------
# pairs: [(ours, theirs), ...], the scores in each environment, (n,) and (m,)


def better(pairs):
    """The probability that a run of ours beats one of theirs, averaged over the environments."""
    probabilities = []
    for ours, theirs in pairs:
        wins = ours[:, None] > theirs
        ties = ours[:, None] == theirs
        # a tie counts half
        probabilities.append(np.mean(wins + 0.5 * ties))
    return np.mean(probabilities)


def middle_mean(pairs):
    """Interquartile mean of our scores, each divided by their mean score in its environment."""
    shares = [ours / theirs.mean() for ours, theirs in pairs]
    shares = np.sort(np.concatenate(shares))
    cut = len(shares) // 4
    return shares[cut : len(shares) - cut].mean()


def bootstrap(statistic, pairs, n=10_000):
    """95 % interval of a statistic of the pairs, resampled within each environment."""
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(n):
        resampled = [(rng.choice(x, len(x)), rng.choice(y, len(y))) for x, y in pairs]
        draws.append(statistic(resampled))
    return np.quantile(draws, [0.025, 0.975])


class Judgement(NamedTuple):
    """One implementation against another. cells: those of the columns JUDGED."""

    environments: int
    cells: list
    has_intervals: bool


JUDGED = (
    "runs, first / second",
    "P(first beats second)",
    "95 %",
    "interquartile mean",
    "95 %",
)


def judge(results, first, second, total):
    """Compares two (implementation, algorithm) in all environments that have runs of both.

    Returns a Judgement, or None if there is no such environment.
    """
    pairs = []
    for env in ENVS:
        ours = [r.score for r in select(results, *first, env, total)]
        theirs = [r.score for r in select(results, *second, env, total)]
        if ours and theirs:
            pairs.append((np.array(ours), np.array(theirs)))
    if not pairs:
        return None

    n_ours = sum(len(ours) for ours, _ in pairs)
    n_theirs = sum(len(theirs) for _, theirs in pairs)
    cells = [f"{n_ours} / {n_theirs}", f"{better(pairs):.2f}", NOTHING, NOTHING, NOTHING]

    # resampling one or two runs would give an interval that is far too narrow
    enough = all(len(ours) >= 3 and len(theirs) >= 3 for ours, theirs in pairs)
    if enough:
        cells[2] = interval(better, pairs)

    # a share of a negative mean would say nothing
    if all(theirs.min() > 0 for _, theirs in pairs):
        cells[3] = f"{middle_mean(pairs):.2f}"
        if enough:
            cells[4] = interval(middle_mean, pairs)
    return Judgement(len(pairs), cells, enough)


def interval(statistic, pairs):
    low, high = bootstrap(statistic, pairs)
    return f"{low:.2f} to {high:.2f}"


# Tables -------------------------------------------------------------------------------------------
# each a list of lines


def table_row(*cells):
    return f"| {' | '.join(cells)} |"


def table_head(*columns):
    return [table_row(*columns), "|" + " --- |" * len(columns)]


def or_none(table):
    """The table, or a sentence if it has a head only."""
    if len(table) > 2:
        return table
    return ["No results yet."]


def score_cell(runs):
    """The mean of the scores, and each seed's."""
    if not runs:
        return NOTHING
    mean = np.mean([r.score for r in runs])
    seeds = ", ".join(f"{r.score:.0f}" for r in runs)
    text = f"**{mean:.0f}** ({seeds})"
    if any(r.is_old() for r in runs):
        text += "†"
    return text


def scores_table(results, algos):
    """Every environment and algorithm: our scores, and those of Stable-Baselines3."""
    head = ("environment", "algorithm", "steps", "ours", "SB3, matched", "SB3, its defaults")
    lines = table_head(*head)
    for env in ENVS:
        for algo in algos:
            here = [r for r in results if r.env == env and r.algo == algo]
            for total in totals(here):
                ours = score_cell(select(here, "ours", algo, env, total))
                matched = score_cell(select(here, "sb3", algo, env, total))
                defaults = score_cell(select(here, "sb3-defaults", algo, env, total))
                if algo == "vpg" and matched != NOTHING:
                    matched = f"A2C: {matched}"
                lines.append(table_row(env, algo.upper(), f"{total:,}", ours, matched, defaults))
    return lines


def judgement_table(results):
    """Ours, first, against each of Stable-Baselines3's; the comparison that counts is bold."""
    lines = table_head("algorithm", "against", "steps", "environments", *JUDGED)
    for algo in SCRIPTS:
        for impl in ("sb3", "sb3-defaults"):
            for total in totals(results):
                judgement = judge(results, ("ours", algo), (impl, algo), total)
                if judgement is None:
                    continue

                name = algo.upper()
                if impl == PEER[algo] and algo != "vpg" and judgement.has_intervals:
                    name = f"**{name}**"
                if algo == "vpg":
                    against = "A2C"
                elif impl == "sb3":
                    against = "SB3, matched"
                else:
                    against = "SB3's defaults"
                environments = str(judgement.environments)
                lines.append(table_row(name, against, f"{total:,}", environments, *judgement.cells))
    return lines


def published_table(results, published):
    """Our return in training (on-policy) or in tests (off-policy) beside the published one.

    Ours is smoothed over 11 epochs, as the original's is.
    """
    head = (
        "environment",
        "algorithm",
        "steps",
        "ours",
        "published mean ± std of ten seeds",
        "reached",
    )
    lines = table_head(*head)
    reached = []
    for env in ENVS:
        for algo in SCRIPTS:
            key = PUBLISHED[algo], algo, env
            if key not in published:
                continue
            for total, least in published_steps(algo):
                runs = [r for r in select(results, "ours", algo, env) if r.total >= least]
                if not runs:
                    continue
                ours = at_step(runs, total)
                steps, means, stds = published[key]
                i = list(steps).index(total)

                reached.append(ours >= means[i])
                answer = "yes" if reached[-1] else "no"
                mine = f"{ours:.0f} ({count(runs)})"
                theirs = f"{means[i]:.0f} ± {stds[i]:.0f}"
                lines.append(table_row(env, algo.upper(), f"{total:,}", mine, theirs, answer))
    return [*lines, "", f"Reached in {sum(reached)} of {len(reached)} cells."]


def published_steps(algo):
    """Where to compare with the published curves: [(steps, steps that a run must have), ...]."""
    if algo in ON_POLICY:
        return [(1_000_000, 1_000_000)]

    # Smoothing needs half a window beyond the point. The end of a run has none: that makes ours a
    # little low after 1,000,000 steps, and after 100,000, which are only ten tests, far too low.
    return [(100_000, 150_000), (500_000, 550_000), (1_000_000, 1_000_000)]


def variants_tables(results):
    """Our runs with other settings than the defaults, beside those with the defaults."""
    scores = table_head("environment", "variant", "steps", "with it", "at the defaults")
    judgements = table_head("variant", "steps", "environments", *JUDGED)
    variants = sorted({r.algo for r in results if "," in r.algo})
    for variant in variants:
        algo = variant.split(",")[0]
        runs = [r for r in results if r.algo == variant]
        for total in totals(runs):
            for env in ENVS:
                with_it = score_cell(select(results, "ours", variant, env, total))
                at_defaults = score_cell(select(results, "ours", algo, env, total))
                if with_it != NOTHING:
                    scores.append(
                        table_row(env, f"`{variant}`", f"{total:,}", with_it, at_defaults)
                    )

            judgement = judge(results, ("ours", algo), ("ours", variant), total)
            if judgement is not None:
                environments = str(judgement.environments)
                row = table_row(f"`{variant}`", f"{total:,}", environments, *judgement.cells)
                judgements.append(row)

    if not variants:
        return []
    if len(judgements) == 2:
        return scores
    return [*scores, "", "The defaults, first, against the variant:", "", *judgements]


def columns_tables(results):
    """The losses and values of each algorithm of ours over all epochs and seeds."""
    lines = []
    for algo in SCRIPTS:
        runs = [r for r in results if r.impl == "ours" and r.algo == algo]
        for total in totals(runs):
            lines += [f"### {algo.upper()}, {total:,} steps", ""]
            lines += columns_table([r for r in runs if r.total == total], runs[0].lines[0])
            lines += [""]
    return lines


def columns_table(runs, columns):
    """The losses and values among the columns, in each environment."""
    lines = table_head("column", *(env.removesuffix("-v4") for env in ENVS))
    for column in columns.split(","):
        if not column.startswith(("losses/", "values/")):
            continue
        cells = []
        for env in ENVS:
            values = [read_table(r.lines, column)[1] for r in runs if r.env == env]
            cells.append(spread(np.concatenate(values)) if values else NOTHING)
        lines.append(table_row(f"`{column}`", *cells))
    return lines


def spread(values):
    """Median, and the range of the middle 90 %."""
    # smaller numbers are rounding errors around 0
    values = np.where(np.abs(values) < 1e-6, 0.0, values)
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    return f"{short(middle)} ({short(low)} to {short(high)})"


def short(x):
    """A number with two digits, or as an integer from 100 on."""
    if abs(x) >= 100:
        return f"{x:.0f}"
    return f"{x:.2g}"


# Pictures -----------------------------------------------------------------------------------------

# What is drawn in this colour gets the page's own: see themed().
INK = "#010203"
POINTS = 100
STYLE = {
    "font.family": "sans-serif",
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.facecolor": "none",
    "legend.edgecolor": "none",
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor"), INK),
    **dict.fromkeys(("xtick.color", "ytick.color", "grid.color"), INK),
}
# Orange, blue and green that can be told apart on white, on black, and by the colour-blind.
COLORS = {"ours": "#d55e00", "sb3": "#3584e4", "sb3-defaults": "#2a9d6f"}
NAMES = {"ours": "ours", "sb3": "SB3, matched", "sb3-defaults": "SB3, its defaults"}


def thinned(run, window, end):
    """A run's curve, smoothed over `window` epochs, at no more than POINTS steps up to `end`."""
    steps = np.minimum(run.steps, end)
    at = np.linspace(steps[0], steps[-1], min(POINTS, len(steps)))
    return at, np.interp(at, steps, smooth(run.values, window))


def longest(runs):
    """Those of the runs that have the largest number of steps."""
    return [r for r in runs if r.total == max(totals(runs))]


def draw_curves(ax, results, published, env, algo):
    """Draws the longest runs of one algorithm: ours, Stable-Baselines3's, and the original's."""
    window = 11 if algo in ON_POLICY else 1
    end = 0
    for impl, name in NAMES.items():
        runs = longest(select(results, impl, algo, env))
        if algo == "vpg" and impl == "sb3":
            name = "SB3's A2C"
        if runs:
            end = max(end, runs[0].total)
            curves = [thinned(r, window, runs[0].total) for r in runs]
            draw_band(ax, curves, f"{name} ({count(runs)})", COLORS[impl])

    key = PUBLISHED[algo], algo, env
    if key in published:
        curve = published[key]
        steps, means, stds = curve[:, curve[0] <= end]
        label = "Spinning Up, published, ± std"
        ax.errorbar(steps, means, stds, fmt=".--", color=INK, lw=1, ms=5, label=label)

    ax.set(title=f"{algo.upper()}, {env}", xlabel="environment steps")
    ax.set_ylabel("return in training" if algo in ON_POLICY else "return in test episodes")
    ax.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
    ax.grid(alpha=0.2)
    ax.legend(fontsize=8)


def draw_picture(results, published, env, algo, path):
    """Draws one algorithm in one environment."""
    with matplotlib.rc_context(STYLE):
        fig, ax = plt.subplots(figsize=(4.6, 3.5), layout="constrained")
        draw_curves(ax, results, published, env, algo)
        fig.savefig(path, metadata={"Date": None})
        plt.close(fig)
    path.write_text(themed(path.read_text(encoding="utf-8")), encoding="utf-8")


def themed(svg):
    """An SVG whose ink follows the reader's light or dark mode."""
    svg = re.sub(r"^.*?(?=<svg )", "", svg, flags=re.DOTALL).replace(INK, "currentColor")
    svg = re.sub(r"\d+\.\d\d+", lambda m: f"{float(m[0]):.1f}", svg)  # half the size
    style = "svg{color:#222}@media(prefers-color-scheme:dark){svg{color:#ddd}}"
    return svg.replace(">", f"><style>{style}</style>", 1)


# The report ---------------------------------------------------------------------------------------


def verdict_table(results, published):
    """One line for each algorithm: beside the original's published means, and against SB3."""
    lines = table_head(
        "algorithm",
        "runs",
        "published mean reached, or within one standard deviation",
        "P(ours beats SB3's)",
        "95 %",
    )
    for algo in SCRIPTS:
        runs = [r for r in results if (r.impl, r.algo) == ("ours", algo)]
        if not runs:
            continue
        cells = beside_published(results, published, algo)
        near = sum(ours >= mean - std for ours, mean, std in cells)
        beaten = [NOTHING, NOTHING]
        if algo != "vpg":
            judgements = [
                judge(results, ("ours", algo), (PEER[algo], algo), t) for t in totals(runs)
            ]
            judgements = [j for j in judgements if j is not None]
            if judgements:
                most = max(judgements, key=lambda j: (j.has_intervals, j.environments))
                beaten = most.cells[1:3]
        lines.append(table_row(algo.upper(), str(len(runs)), f"{near} of {len(cells)}", *beaten))
    return lines


def beside_published(results, published, algo):
    """[(our return, published mean, std), ...] at the end of the curves, one per environment."""
    found = []
    for env in ENVS:
        key = PUBLISHED[algo], algo, env
        runs = [r for r in select(results, "ours", algo, env) if r.total >= 1_000_000]
        if runs and key in published:
            steps, means, stds = published[key]
            i = list(steps).index(1_000_000)
            found.append((at_step(runs, 1_000_000), means[i], stds[i]))
    return found


def at_step(runs, step):
    """The runs' mean return at a step, smoothed over 11 epochs, as the original's is."""
    return np.mean([np.interp(step, r.steps, smooth(r.values, 11)) for r in runs])


def pictures(results, published, out):
    """Draws all pictures; returns the lines that show them, by environment."""
    lines = []
    for env in ENVS:
        shown = []
        for algo in SCRIPTS:
            if select(results, "ours", algo, env):
                path = out / f"{algo}-{env}.svg"
                draw_picture(results, published, env, algo, path)
                alt = f"Learning curves of {algo.upper()} on {env}: means, and ranges over seeds"
                shown.append(f"![{alt}]({path.name})")
        if shown:
            lines += [f"### {env}", "", *shown, ""]
    return lines


def make_report(results, published, out):
    """The lines of README.md; draws the pictures."""
    lines = ["# Results", "", f"Made by `python benchmark/report.py` from {len(results)} runs.", ""]

    lines += ["## Verdict", "", *or_none(verdict_table(results, published)), ""]
    lines += ["## Learning curves", "", *pictures(results, published, out)]

    for family, algos, score in (
        ("On-policy", ON_POLICY, "20 whole episodes of the last policy"),
        ("Off-policy", OFF_POLICY, "the last three tests"),
    ):
        lines += [f"## {family}: {score}", "", *or_none(scores_table(results, algos)), ""]

    lines += ["## Judgement, pooled over the environments", ""]
    lines += ["Ours, first, against Stable-Baselines3's:", ""]
    lines += [*or_none(judgement_table(results)), ""]

    lines += ["## Beside the original's published curves", ""]
    lines += [*published_table(results, published), ""]

    variants = variants_tables(results)
    if variants:
        lines += ["## Variants", "", *variants, ""]

    lines += ["## What losses and values look like", ""]
    lines += ["In our runs, over all epochs and seeds: the median, and the middle 90 %.", ""]
    lines += columns_tables(results)

    if any(r.is_old() for r in results):
        mark = "† made before the last change of the code of its script or of `logx.py`."
        lines += [mark, ""]
    return lines


def main():
    results = read_results(RESULTS)
    if not results:
        print(f"report.py: no results in {RESULTS}", file=sys.stderr)
        return 2
    out = RESULTS / "report"
    out.mkdir(exist_ok=True)
    lines = make_report(results, read_published(), out)
    (out / "README.md").write_text("\n".join(lines), encoding="utf-8")
    write_table(AGENTS, ENVS)
    print(f"{len(results)} results: {out}")
    return 0


if __name__ == "__main__":
    replace_unprintable()
    sys.exit(tyro.cli(main, description=__doc__))
