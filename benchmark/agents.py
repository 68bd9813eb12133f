"""Keeps trained agents to watch, as benchmark/agents/ALGO-ENV_ID:

    python logx.py play benchmark/agents/sac-Ant-v4

`run.py --agents FOLDER` makes them. An agent is that of seed 0, not of the best seed. Its folder
has checkpoint.pt, with the weights and what `play` needs; config.json, which tells how it was made;
and score.json, the returns of 20 episodes of `play`. In three environments there are policies from
earlier in training, too: of 0, 10 and 50 % of the steps, for films.
"""

import contextlib
import io
import json
import runpy
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch

import logx
from benchmark.scripts import SCRIPTS

EARLY = (0, 10, 50)  # percent of the steps
FILMED = ("HalfCheetah-v4", "Hopper-v4", "Ant-v4")

PAGE = """# Agents to watch

```sh
python logx.py play benchmark/agents/ppo-Hopper-v4
python logx.py play benchmark/agents/ppo-Hopper-v4 --video hopper.mp4
```

Each was trained by its script at its defaults, with seed 0: none was picked for its score. A folder
has the weights, how the agent was made (`config.json`), and the returns of 20 episodes
(`score.json`). HalfCheetah, Hopper and Ant have the policies of 0, 10 and 50 % of the training as
well, in half precision:

```sh
python logx.py play benchmark/agents/ppo-Hopper-v4/10-percent
```

What they score, acting deterministically: mean ± standard deviation of the 20 episodes. Made by
`python benchmark/report.py`.

"""


def early_folder(agent, percent):
    """Where an agent has its policy from earlier in training."""
    return agent / f"{percent}-percent"


def keep_early(run, agent, done):
    """Keeps the policies that a run under way has come to. done: the share of its steps made."""
    missing = [p for p in EARLY if p <= 100 * done and not early_folder(agent, p).exists()]
    # a checkpoint is written after its row, but not after every row
    fresh = (run / "checkpoint.pt").stat().st_mtime >= (run / "progress.csv").stat().st_mtime
    if fresh:
        for percent in missing:
            state = untrained(run) if percent == 0 else logx.read_checkpoint(run)
            write_policy(agent, percent, state)


@logx.closing
def untrained(run):
    """The state of a run before its first step: its seed makes the same weights again."""
    state = logx.read_checkpoint(run)
    script = runpy.run_path(str(run / state["script"]))
    args = script["Args"](**state["args"])
    env = script["make_env"](args)
    logx.seed_training(env, args.seed)
    ac = script["ActorCritic"](env.observation_space, env.action_space, args)
    return state | {"step": 0, "ac": ac.state_dict(), "statistics": [logx.get_statistics(env)]}


def write_policy(agent, percent, state):
    """Writes a policy from earlier in training, in half precision."""
    ac = {}
    for name, x in state["ac"].items():
        # a film needs no critics: in their place, zeros that take no room
        ac[name] = x.half() if name.startswith("pi.") else torch.zeros(()).expand(x.shape)
    write_weights(early_folder(agent, percent), state | {"ac": ac})


def write_weights(folder, state):
    """Writes what `play` needs of a run's checkpoint."""
    kept = {name: state[name] for name in ("script", "args", "step", "ac")}
    kept["statistics"] = state["statistics"][:1]
    folder.mkdir(parents=True, exist_ok=True)
    logx.write_checkpoint(folder, kept)


def keep_agent(run, agent):
    """Keeps the agent of a finished run, and how it scores."""
    write_weights(agent, logx.read_checkpoint(run))
    shutil.copy(run / "config.json", agent / "config.json")
    score = {"returns": [round(x, 2) for x in play(agent)]}
    (agent / "score.json").write_text(json.dumps(score) + "\n", encoding="utf-8")


def play(agent):
    """The returns of 20 episodes, played as `logx.py play` does."""
    with contextlib.redirect_stdout(io.StringIO()):
        return logx.play(logx.Play(str(agent), episodes=20, window=False))


def write_table(folder, envs):
    """Writes README.md, a table of what the agents in a folder score."""
    lines = [f"| | {' | '.join(envs)} |", "| --- |" + " --- |" * len(envs)]
    for algo in SCRIPTS:
        cells = []
        for env in envs:
            path = folder / f"{algo}-{env}" / "score.json"
            if path.exists():
                returns = json.loads(path.read_text(encoding="utf-8"))["returns"]
                cells.append(f"{np.mean(returns):.0f} ± {np.std(returns):.0f}")
            else:
                cells.append("–")
        lines.append(f"| {algo.upper()} | {' | '.join(cells)} |")
    text = PAGE + "\n".join(lines) + "\n"
    folder.mkdir(exist_ok=True)
    (folder / "README.md").write_text(text, encoding="utf-8")
