"""Trains once without a break and once with many kill -9: both must end with the same weights.

    python tests/kill_program.py SCRIPT KILLS

Run it in an empty folder, as test_resume.py does. It prints what it did, and exits with 1 if the
weights differ.
"""

import importlib
import os
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch

import logx

ON_POLICY = dict(steps_per_epoch=200, total_timesteps=12_000, hidden_sizes=(16,), train_v_iters=10)
OFF_POLICY = dict(
    steps_per_epoch=200,
    total_timesteps=3_000,
    hidden_sizes=(16,),
    start_steps=300,
    update_after=200,
)
FLAGS = dict.fromkeys(["vpg", "trpo", "ppo"], ON_POLICY) | dict.fromkeys(
    ["ddpg", "td3", "sac"], OFF_POLICY
)


def killed_save(state, f):
    """A torch.save that is killed halfway through the file."""
    torch_save(state, f)
    f.truncate(f.tell() // 2)
    f.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def child(script, folder, name, in_save):
    """Forks a child that trains, or resumes the folder's run if there is one. Returns its pid."""
    pid = os.fork()
    if pid == 0:
        os.chdir(folder)
        sys.stdout = open("log.txt", "a", encoding="utf-8")  # noqa: SIM115
        sys.stderr = sys.stdout
        (run,) = list(Path("runs").glob("*/checkpoint.pt")) or [None]
        if run is None:
            args = script.Args(env_id="Pendulum-v1", seed=3, max_episode_steps=100, **FLAGS[name])
        else:
            state = logx.read_checkpoint(run.parent)
            args = script.Args(**state["args"] | {"resume": str(run.parent)})
            if state["step"] >= args.total_timesteps:
                os._exit(0)
        if in_save:
            saves = random.randrange(1, 6)

            def save(state, f):
                nonlocal saves
                saves -= 1
                (torch_save if saves else killed_save)(state, f)

            torch.save = save
        script.train(args)
        os._exit(0)
    return pid


def weights(folder):
    return logx.read_checkpoint(next(Path(folder, "runs").iterdir()))["ac"]


def main(name, kills):
    script = importlib.import_module(name)
    Path("whole").mkdir()
    begin = time.monotonic()
    status = os.waitpid(child(script, "whole", name, in_save=False), 0)[1]
    assert status == 0, Path("whole/log.txt").read_text(encoding="utf-8")
    whole = time.monotonic() - begin
    signals, in_saves, ends = 0, 0, []
    while signals < kills:  # if a run ends before the last kill, another one follows
        folder = Path(f"killed-{len(ends)}")
        folder.mkdir()
        status = None
        while status != 0:
            in_save = signals < kills and signals % 3 == 2
            if not list(folder.glob("runs/*/checkpoint.pt")):
                # killed before its first checkpoint: there is nothing to resume
                for run in folder.glob("runs/*"):
                    run.rename(folder / f"{run.name}-{signals}")
            pid = child(script, folder, name, in_save)
            if signals < kills and not in_save:
                time.sleep(random.uniform(0.0, 2 * whole / kills))
                os.kill(pid, signal.SIGKILL)
            status = os.waitpid(pid, 0)[1]
            log = (folder / "log.txt").read_text(encoding="utf-8")
            assert status == 0 or os.WIFSIGNALED(status), log
            signals, in_saves = signals + (status != 0), in_saves + (status != 0 and in_save)
        ends.append(weights(folder))
    print(f"{name}: killed {signals} times, {in_saves} of them while a checkpoint was written")
    sys.exit(not all(torch.equal(x, end[k]) for end in ends for k, x in weights("whole").items()))


if __name__ == "__main__":
    torch_save = torch.save
    random.seed(int(sys.argv[2]))
    main(sys.argv[1], int(sys.argv[2]))
