"""Agents to watch: what run.py keeps of a run, and what the committed agents score."""

import importlib
import json
from copy import deepcopy

import numpy as np
import pytest
import torch
from helpers import ROOT, TINY, run
from tyro import cli

import logx
import sac
from benchmark import agents
from benchmark.report import ENVS
from benchmark.scripts import SCRIPTS

AGENTS = ROOT / "benchmark" / "agents"


@pytest.mark.parametrize("algo", SCRIPTS)
def test_an_untrained_agent_is_what_the_run_began_with(algo, tmp_path, monkeypatch):
    saved = []
    write = logx.write_checkpoint

    def save(folder, state):
        saved.append(deepcopy(state))
        write(folder, state)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logx, "write_checkpoint", save)
    script = importlib.import_module(algo)
    folder = script.train(cli(script.Args, args=TINY[algo]))
    assert saved[0]["step"] == 0 and saved[-1]["step"] == 600
    again = agents.untrained(folder)
    assert again["step"] == 0
    for name, x in saved[0]["ac"].items():
        assert torch.equal(x, again["ac"][name])
    assert not all(torch.equal(x, saved[-1]["ac"][name]) for name, x in saved[0]["ac"].items())


def test_the_launcher_keeps_the_agent_of_seed_0(tmp_path):
    words = "ppo --env-id Hopper-v4 --seed 0 1 --total-timesteps 12000".split()
    words += "--results results --agents agents".split()
    done = run("benchmark/run.py", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (agent,) = (tmp_path / "agents").iterdir()
    assert agent.name == "ppo-Hopper-v4"
    files = sorted(p.relative_to(agent).as_posix() for p in agent.rglob("*") if p.is_file())
    early = [f"{percent}-percent/checkpoint.pt" for percent in (0, 10, 50)]
    assert files == [*early, "checkpoint.pt", "config.json", "score.json"]

    # the weights are the run's; the early policies are rounded, and without their critic
    (folder,) = tmp_path.glob("runs/Hopper-v4__ppo__0__*")
    state = logx.read_checkpoint(folder)
    kept = logx.read_checkpoint(agent)
    assert set(kept) == {"script", "args", "step", "ac", "statistics"}
    assert all(torch.equal(x, kept["ac"][name]) for name, x in state["ac"].items())
    begun = agents.untrained(folder)
    first = logx.read_checkpoint(agent / "0-percent")
    for name, x in begun["ac"].items():
        expected = x if name.startswith("pi.") else x * 0
        torch.testing.assert_close(first["ac"][name].float(), expected, rtol=1e-3, atol=1e-6)
    steps = [logx.read_checkpoint(agent / f"{p}-percent")["step"] for p in (10, 50)]
    assert 1_200 <= steps[0] <= 12_000 and 6_000 <= steps[1] <= 12_000
    assert (agent / "10-percent" / "checkpoint.pt").stat().st_size < 30_000

    recorded = json.loads((agent / "score.json").read_text(encoding="utf-8"))["returns"]
    done = run("logx.py", "play", agent, "--episodes", 20, cwd=tmp_path)
    assert f"return {np.mean(recorded):.1f} ± {np.std(recorded):.1f}" in done.stdout, done.stderr
    done = run("logx.py", "play", agent / "0-percent", "--episodes", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr

    # once more: nothing to do, unless the agent is gone
    done = run("benchmark/run.py", *words, cwd=tmp_path)
    assert "0 runs to do, 2 already there" in done.stderr
    before = (agent / "checkpoint.pt").read_bytes()
    (agent / "score.json").unlink()
    (agent / "checkpoint.pt").unlink()
    done = run("benchmark/run.py", *words, cwd=tmp_path)
    assert "0 runs to do, 2 already there" in done.stderr
    assert (agent / "checkpoint.pt").read_bytes() == before

    agents.write_table(tmp_path / "agents", ENVS)
    text = (tmp_path / "agents" / "README.md").read_text(encoding="utf-8")
    mean, std = np.mean(recorded), np.std(recorded)
    assert f"| PPO | – | {mean:.0f} ± {std:.0f} | – | – | – |" in text


COMMITTED = {algo: sorted(AGENTS.glob(f"{algo}-*")) for algo in SCRIPTS}


@pytest.mark.parametrize("algo", [algo for algo in SCRIPTS if COMMITTED[algo]])
def test_a_committed_agent_scores_what_was_recorded(algo):
    agent = COMMITTED[algo][0]
    recorded = json.loads((agent / "score.json").read_text(encoding="utf-8"))["returns"]
    returns = agents.play(agent)
    error = np.sqrt((np.var(returns) + np.var(recorded)) / 20)
    assert abs(np.mean(returns) - np.mean(recorded)) <= 3 * error


def test_the_agents_are_small():
    sizes = [path.stat().st_size for path in AGENTS.rglob("*") if path.is_file()]
    assert sum(sizes) < 20_000_000


def test_the_camera_of_a_film_moves_with_the_agent():
    args = sac.Args(env_id="HalfCheetah-v4")
    env = logx.make_play_env(sac.make_env, args, logx.Play("run", video="film.mp4"))
    env.reset(seed=0)
    renderer, data = env.unwrapped.mujoco_renderer, env.unwrapped.data
    track = renderer.camera_id
    assert renderer.default_cam_config["fixedcamid"] == track
    before = data.cam_xpos[track][0]
    data.qpos[0] += 30
    env.unwrapped.set_state(data.qpos, data.qvel)
    assert data.cam_xpos[track][0] - before == pytest.approx(30, abs=1e-6)
    logx.opened.close()
    logx.opened_envs.clear()
