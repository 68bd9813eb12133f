"""Makes the learning curves of set 2: short runs of the right and the broken version of a script.

python exercises/set2/curves.py hunt_ppo        writes exercises/set2/curves/hunt_ppo.csv, in a minute or two
"""

import csv
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))

import hunts  # noqa: E402

SEEDS = (0, 1)
RETURN = {"vpg": "charts/episodic_return", "trpo": "charts/episodic_return", "ppo": "charts/episodic_return"}
SHOWN = {  # besides the return
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


def versions(name):
    """The script's name, {version: its text}, and the arguments of each version."""
    if name in hunts.HUNTS:
        hunt = hunts.HUNTS[name]
        script, broken, args = hunt.script, hunts.plant(hunt.mutant)[1], {"right": hunt.env, "broken": hunt.env}
    elif name == "trpo_value_function":
        script, env = "trpo", hunts.HUNTS["hunt_trpo"].env
        args, broken = {"right": env, "broken": f"{env} --train-v-iters 0"}, None
    else:
        script, env = "ddpg", hunts.HUNTS["hunt_ddpg"].env
        broken, args = None, {"right": env, "broken": env}
    text = (ROOT / f"{script}.py").read_text()
    if name == "ddpg_shapes":
        assert SQUEEZED in text
        broken = text.replace(SQUEEZED, SQUEEZED.removesuffix(".squeeze(-1)"))
    return script, {"right": text, "broken": broken or text}, args


def main(name):
    script, texts, args = versions(name)
    columns = [RETURN.get(script, "eval/episodic_return"), *SHOWN[name]]
    lines = [
        f"# python exercises/set2/curves.py {name}: {script}.py {args['broken']}",
        ",".join(["version", "seed", "step", *columns]),
    ]
    for version, text in texts.items():
        for seed in SEEDS:
            with tempfile.TemporaryDirectory() as folder:
                Path(folder, f"{script}.py").write_text(text)
                Path(folder, "logx.py").write_bytes((ROOT / "logx.py").read_bytes())
                command = [sys.executable, f"{script}.py", *args[version].split(), "--seed", str(seed)]
                subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                with open(next(Path(folder, "runs").glob("*/progress.csv")), newline="") as f:
                    for row in csv.DictReader(f):
                        cells = [f"{float(row[c]):.4g}" if row[c] else "" for c in columns]
                        lines.append(",".join([version, str(seed), row["global_step"], *cells]))
    out = HERE / "curves" / f"{name}.csv"
    out.parent.mkdir(exist_ok=True)
    out.write_text("\n".join(lines) + "\n")
    print(out)


if __name__ == "__main__":
    main(sys.argv[1])
