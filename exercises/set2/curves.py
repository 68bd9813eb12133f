"""Makes the learning curves of set 2: short runs of the right and the broken version of a script.

    python exercises/set2/curves.py hunt_ppo

writes exercises/set2/curves/hunt_ppo.csv, in a minute or two.
"""

import csv
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for hunts
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for benchmark

import hunts
from benchmark.scripts import ON_POLICY

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SEEDS = (0, 1)
SHOWN = {  # in addition to the return
    "hunt_vpg": ["values/kl"],
    "hunt_trpo": ["values/explained_variance"],
    "hunt_ppo": ["values/kl", "values/clip_frac"],
    "hunt_ddpg": ["values/q"],
    "hunt_td3": ["values/q1"],
    "hunt_sac": ["values/q1"],
    "trpo_value_function": ["values/kl", "values/explained_variance"],
    "ddpg_shapes": ["losses/q", "values/q"],
}
SQUEEZED = "self.net(torch.cat([s, a], dim=-1)).squeeze(-1)"


def source(script):
    return (ROOT / f"{script}.py").read_text(encoding="utf-8")


def versions(name):
    """(the script's name, {version: its text}, {version: its flags})."""
    if name in hunts.HUNTS:
        hunt = hunts.HUNTS[name]
        _, broken = hunts.plant(hunt.mutant)
        texts = {"right": source(hunt.script), "broken": broken}
        return hunt.script, texts, {"right": hunt.flags, "broken": hunt.flags}

    if name == "trpo_value_function":
        text = source("trpo")
        flags = hunts.HUNTS["hunt_trpo"].flags
        without_fit = f"{flags} --train-v-iters 0"
        return "trpo", {"right": text, "broken": text}, {"right": flags, "broken": without_fit}

    text = source("ddpg")
    assert SQUEEZED in text
    broken = text.replace(SQUEEZED, SQUEEZED.removesuffix(".squeeze(-1)"))
    flags = hunts.HUNTS["hunt_ddpg"].flags
    return "ddpg", {"right": text, "broken": broken}, {"right": flags, "broken": flags}


def train(script, text, flags, seed):
    """The rows of progress.csv that a run of this version writes."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, f"{script}.py").write_text(text, encoding="utf-8")
        Path(folder, "logx.py").write_bytes((ROOT / "logx.py").read_bytes())
        command = [sys.executable, f"{script}.py", *flags.split(), "--seed", str(seed)]
        quiet = subprocess.DEVNULL
        subprocess.run(command, cwd=folder, check=True, stdout=quiet, stderr=quiet)
        progress = next(Path(folder, "runs").glob("*/progress.csv"))
        with open(progress, newline="", encoding="utf-8") as f:
            return list(csv.DictReader(f))


def cell(number):
    if number == "":
        return ""
    return f"{float(number):.4g}"


def main(name):
    script, texts, flags = versions(name)
    returns = "eval/episodic_return"
    if script in ON_POLICY:
        returns = "charts/episodic_return"
    columns = [returns, *SHOWN[name]]
    lines = [
        f"# python exercises/set2/curves.py {name}: {script}.py {flags['broken']}",
        ",".join(["version", "seed", "step", *columns]),
    ]
    for version, text in texts.items():
        for seed in SEEDS:
            for row in train(script, text, flags[version], seed):
                cells = [cell(row[column]) for column in columns]
                lines.append(",".join([version, str(seed), row["global_step"], *cells]))
    out = HERE / "curves" / f"{name}.csv"
    out.parent.mkdir(exist_ok=True)
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(out)


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    main(sys.argv[1])
