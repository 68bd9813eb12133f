"""The benchmark's programs: launcher, SB3 reference runner, plotter, report and throughput."""

import csv
import ctypes
import importlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import make_dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT, read_rows, run
from stable_baselines3.common.buffers import ReplayBuffer

sys.path.insert(0, str(ROOT))

import logx
from benchmark import plot, report, sb3, shim, throughput
from benchmark import run as launcher
from benchmark.scripts import OFF_POLICY, SCRIPTS

CARTPOLE = "--env-id CartPole-v1 --steps-per-epoch 200"
TINY = f"{CARTPOLE} --total-timesteps 400 --train-v-iters 3 --hidden-sizes 8,8".split()


needs_cc = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and cc"
)


def lines(done):
    return [x for x in done.stderr.splitlines() if x.startswith("run.py")]


def read(path):
    return Path(path).read_text(encoding="utf-8")


def write(path, text):
    Path(path).write_text(text, encoding="utf-8")


# The launcher -------------------------------------------------------------------------------------


def test_a_grid_is_run_continued_and_collected(tmp_path):
    grid = "--clip-ratio 0.1 0.3 -1 --seed 1 2 --jobs 2 --results results"
    words = ["ppo", *TINY, *grid.split()]
    done = run("benchmark/run.py", *words, cwd=tmp_path)
    # the two with −1 are refused, the others run
    assert done.returncode == 1 and len(lines(done)) == 2, done.stderr
    assert all("--clip-ratio must be finite, and at least 0" in x for x in lines(done))

    results = tmp_path / "results"
    found = sorted(p.relative_to(results).as_posix() for p in results.rglob("*.csv"))
    name = "ours/ppo,steps_per_epoch=200,train_v_iters=3,hidden_sizes=8-8,clip_ratio="
    assert found == [
        f"{name}{clip_ratio}/CartPole-v1/{seed}.csv" for clip_ratio in (0.1, 0.3) for seed in (1, 2)
    ]
    head, *rows = read(results / found[0]).splitlines()
    made = json.loads(head.removeprefix("# "))
    assert made["args"]["clip_ratio"] == 0.1 and len(made["final"]) == 20 and made["commit"]
    assert [int(r["global_step"]) for r in csv.DictReader(rows)] == [200, 400]

    # the run is still there, and need not be made again
    (results / found[0]).unlink()
    runs = sorted((tmp_path / "runs").iterdir())
    done = run("benchmark/run.py", *words, cwd=tmp_path)
    assert "0 runs to do, 4 already there" in done.stderr
    assert sorted((tmp_path / "runs").iterdir()) == runs
    assert (results / found[0]).exists()

    done = run("benchmark/run.py", *words, "--total-timesteps", "600", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("made with other arguments; move it away") == 4


def test_a_run_is_made_once_at_a_time_and_anew_when_its_code_has_changed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["vpg", *TINY]
    (job,), _ = launcher.grid(launcher.parse(words))
    (tmp_path / "runs").mkdir()
    with job.lock:
        done = run("benchmark/run.py", *words, cwd=tmp_path)
    assert done.returncode == 1 and "another launcher is making it" in done.stderr
    job.start()
    job.process.wait()
    assert job.end(results=None, agents=None) is None and job.is_done()
    copy = job.folder / "vpg.py"
    write(copy, read(copy) + "# a comment\n")
    assert launcher.grid(launcher.parse(words))[0][0].is_done()
    write(copy, read(copy) + "x = 1\n")
    assert not launcher.grid(launcher.parse(words))[0][0].is_done()


def test_switches_and_names():
    words = "sac --learn-alpha True False --total-timesteps 9 --seed 1 1".split()
    jobs, refused = launcher.grid(launcher.parse(words))
    assert not refused and [job.args.learn_alpha for job in jobs] == [True, False]
    labels = [f"HalfCheetah-v4__sac,learn_alpha={x}__1" for x in (True, False)]
    assert [job.label for job in jobs] == labels
    result = jobs[0].result("results").as_posix()
    assert result == "results/ours/sac,learn_alpha=True/HalfCheetah-v4/1.csv"


def test_a_run_from_before_a_knob_was_added_had_its_default():
    (job,), _ = launcher.grid(launcher.parse(["ppo", *TINY]))
    made = json.loads(json.dumps(vars(job.args)))
    assert job.fits(made)
    del made["clip_ratio"]
    assert job.fits(made)
    (job,), _ = launcher.grid(launcher.parse(["ppo", *TINY, "--clip-ratio", "0.3"]))
    assert not job.fits(made)


def test_compiled_results_share_the_folder_but_no_run_mixes(tmp_path):
    for words, cell in (
        ("sac --compile True", "sac"),
        ("sac --compile True --total-timesteps 9 --gamma 0.9", "sac,gamma=0.9"),
        ("sac --compile True False", "sac,compile=True"),
    ):
        jobs, refused = launcher.grid(launcher.parse(words.split()))
        assert not refused and jobs[0].args.compile
        assert jobs[0].result("results").parts[2] == cell

    (eager,), _ = launcher.grid(launcher.parse(["sac"]))
    (fast,), _ = launcher.grid(launcher.parse("sac --compile True".split()))
    assert eager.label == fast.label
    made = vars(eager.args)
    write(tmp_path / "config.json", json.dumps({"args": made}))
    write(tmp_path / "sac.py", read(ROOT / "sac.py"))
    assert eager.same(tmp_path) and not fast.same(tmp_path)
    # a run from before there was --compile was eager
    del made["compile"]
    assert eager.fits(made) and not fast.fits(made)


@needs_cc
def test_runs_have_the_shim_where_it_is_needed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logx, "needs_mkl_shim", lambda: True)
    monkeypatch.setattr(logx, "has_mkl_shim", lambda: False)
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    # main() would change how pytest takes SIGTERM
    monkeypatch.setattr(launcher.signal, "signal", lambda *args: None)
    words = [*CARTPOLE.split(), "--total-timesteps", "400", "--impl", "ours", "sb3"]
    for flags, expected in (([], True), (["--no-shim"], False)):
        assert launcher.main(["ppo", *words, *flags]) == 0
        configs = [json.loads(read(path)) for path in Path("runs").glob("*/config.json")]
        assert [config["mkl_shim"] for config in configs] == [expected, expected]
        shutil.rmtree("runs")


@pytest.mark.parametrize("recorded", [True, False, None])
def test_a_resumed_run_keeps_its_shim(recorded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    monkeypatch.setattr(launcher, "shim_environment", lambda: {"LD_PRELOAD": "shim.so"})
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda *_, env, **__: started.append(env))
    (job,), _ = launcher.grid(launcher.parse(["ppo", *TINY]))
    folder = tmp_path / "runs" / f"{job.label}__1"
    folder.mkdir(parents=True)
    config = {"args": vars(job.args)}
    if recorded is not None:
        config["mkl_shim"] = recorded
    write(folder / "config.json", json.dumps(config))
    write(folder / "ppo.py", read(ROOT / "ppo.py"))
    write(folder / "progress.csv", "global_step\n200\n")
    write(folder / "checkpoint.pt", "")

    job.start(shim=not recorded)
    assert ("LD_PRELOAD" in started[0]) == bool(recorded)


def test_keyword_arguments_of_the_environment(tmp_path):
    """JSON's commas, quotes and braces reach every implementation, but no file name."""
    first = '{"sutton_barto_reward": false}'
    second = '{"sutton_barto_reward": true, "disable_env_checker": true}'
    words = ["ppo", "--impl", "ours", "sb3", "sb3-defaults", "--env-kwargs", first, second]
    words += "--env-id CartPole-v1 --steps-per-epoch 1024 --total-timesteps 2048".split()
    jobs, refused = launcher.grid(launcher.parse(words))
    assert not refused and [job.args.env_kwargs for job in jobs] == [first, second] * 3
    assert len({job.label for job in jobs}) == 6
    for job in jobs:
        parts = [job.label, *job.result("results").parts]
        assert all(re.fullmatch(r"[A-Za-z0-9._=,-]+", part) for part in parts)

    done = run("benchmark/run.py", *words, "--results", "kept", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    paths = sorted((tmp_path / "kept").rglob("*.csv"))
    assert len(paths) == 6
    for path in paths:
        made = json.loads(read(path).splitlines()[0].removeprefix("# "))
        # with Sutton and Barto's rewards an episode gives 0 or −1, else 1 a step
        is_second = made["args"]["env_kwargs"] == second
        assert (max(made["final"]) <= 0) == is_second, path

    for bad in ("{half", "[1]", '{"no_such_argument": 1}'):
        words = ["ppo", *TINY, "--env-kwargs", bad]
        done = run("benchmark/run.py", *words, cwd=tmp_path)
        assert done.returncode in (1, 2) and len(lines(done)) == 1, done.stderr
        assert "Traceback" not in done.stderr


def test_two_runs_never_share_a_name():
    """In names, characters that file names cannot have are dashes, so two values may collide."""
    pair = ['{"a": 1}', '{"a":1}']
    jobs, refused = launcher.grid(launcher.parse(["ppo", *TINY, "--env-kwargs", *pair]))
    assert len(jobs) == 1 and len(refused) == 1 and "would have this name" in refused[0]


def test_an_interrupted_run_is_resumed(tmp_path):
    words = ["vpg", *CARTPOLE.split(), "--total-timesteps", "10000"]
    command = [sys.executable, ROOT / "benchmark" / "run.py", *words]
    launcher = subprocess.Popen(command, cwd=tmp_path)

    def count_rows():
        return sum(len(read_rows(path.parent)) for path in tmp_path.glob("runs/*/progress.csv"))

    while count_rows() < 2:
        time.sleep(0.05)
    launcher.terminate()
    assert launcher.wait() == 130
    (folder,) = [p for p in (tmp_path / "runs").iterdir() if p.is_dir()]
    time.sleep(0.5)
    before = len(read_rows(folder))
    time.sleep(0.5)
    # the run has ended with the launcher
    assert len(read_rows(folder)) == before < 50

    done = run("benchmark/run.py", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [p for p in (tmp_path / "runs").iterdir() if p.is_dir()] == [folder]
    steps = [str(200 * (i + 1)) for i in range(50)]
    assert [r["global_step"] for r in read_rows(folder)] == steps


@pytest.mark.parametrize(
    "words, says",
    [
        ("sarsa", "algorithms are vpg"),
        ("--gamma 0.9", "name an algorithm: vpg"),
        ("ppo --impl theirs", "implementations ours"),
        ("ppo --env-id Hoper-v4", "Did you mean: `Hopper`"),
        ("ppo --alpha 0.1", "ppo.py has no --alpha"),
        ("sac --resume runs/x", "sac.py has no --resume"),
        ("sac --gamma 1.5", "--gamma must be between 0 and 1"),
        ("sac --gamma", "no value for gamma"),
        ("vpg --impl sb3 --gamma 0.9", "SB3's A2C cannot be given --gamma"),
        ("ppo --impl sb3-defaults --clip-ratio 0.1", "SB3's PPO cannot be given --clip-ratio"),
        ("td3 --impl sb3 --q-lr 1e-4", "SB3's TD3 cannot be given --q-lr"),
        ("vpg --impl sb3 --compile True", "SB3's A2C cannot be given --compile"),
        ("trpo --impl sb3 --compile True", "SB3's TRPO cannot be given --compile"),
        ("sac --impl sb3-defaults --compile True", "SB3's SAC cannot be given --compile"),
        ("sac --jobs none", "--jobs"),
        ("sac --results a b", "--results"),
        ("sac --no-shim 1", "--no-shim takes no value"),
        ("sac --impl sb3 --compile True", "SB3's SAC cannot be given --compile"),
        ("", "python benchmark/run.py"),
    ],
)
def test_what_the_launcher_refuses(words, says, tmp_path):
    done = run("benchmark/run.py", *words.split(), cwd=tmp_path)
    assert done.returncode == 2 and says in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_run_that_fails_does_not_stop_the_others(tmp_path):
    # DDPG takes no discrete actions
    words = ["ddpg", "ppo", *CARTPOLE.split(), "--total-timesteps", "200", "--jobs", "1"]
    done = run("benchmark/run.py", *words, cwd=tmp_path)
    assert done.returncode == 1
    (line,) = lines(done)
    assert "ddpg on CartPole-v1, seed 0" in line and "needs a Box of actions" in line
    assert len(list((tmp_path / "runs").glob("*__ppo__*/checkpoint.pt"))) == 1


@pytest.mark.parametrize(
    "words",
    [
        "run.py",
        "report.py",
        "plot.py",
        "throughput.py",
        "sb3.py",
        *(f"sb3.py {x}" for x in SCRIPTS),
    ],
)
def test_help_on_an_old_terminal(words, tmp_path):
    """Characters that the terminal's encoding lacks become "?"."""
    program, *more = words.split()
    env = {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    command = [sys.executable, ROOT / "benchmark" / program, *more, "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | env, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"--" in done.stdout and not done.stderr


# The reference ------------------------------------------------------------------------------------


@pytest.mark.parametrize("algo", ["trpo", "td3"])
def test_the_reference_writes_our_columns_and_is_not_played(algo, tmp_path):
    steps = {"trpo": [200, 400], "td3": [200, 400, 500]}[algo]
    flags = "--env-id Pendulum-v1 --max-episode-steps 50 --hidden-sizes 8 --steps-per-epoch 200"
    flags += f" --total-timesteps {steps[-1]}"
    if algo == "td3":
        flags += " --start-steps 100 --update-after 100 --num-test-episodes 1"
    for script in (["benchmark/sb3.py", algo], [f"{algo}.py"]):
        done = run(*script, *flags.split(), cwd=tmp_path)
        assert done.returncode == 0, done.stderr

    columns = []
    for folder in sorted((tmp_path / "runs").iterdir()):
        rows = read_rows(folder)
        assert [int(r["global_step"]) for r in rows] == steps
        columns.append({k for k in rows[0] if "/episodic" in k})
    assert len(columns) == 2 and columns[0] == columns[1]

    (theirs,) = (tmp_path / "runs").glob(f"*__sb3-{algo}__*")
    assert json.loads(read(theirs / "config.json"))["stable_baselines3"]
    done = run("logx.py", "play", theirs, cwd=tmp_path)
    assert done.returncode == 2 and "agent (ac)" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("algo", OFF_POLICY)
def test_the_reference_steps_updates_and_tests_when_ours_does(algo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = importlib.import_module(algo)
    trace = []
    actions = []
    flags = "--env-id Pendulum-v1 --max-episode-steps 15 --steps-per-epoch 100"
    flags += " --total-timesteps 220 --hidden-sizes 8 --batch-size 4"
    flags += " --start-steps 100 --update-after 60 --num-test-episodes 1"
    if algo != "sac":
        # so that all but the first, uniform actions are ±1
        flags += " --act-noise 1e9"
    monkeypatch.setattr(sys, "argv", [algo, *flags.split()])

    def spy(where, name, event):
        plain = getattr(where, name)

        def spied(*args, **kwargs):
            trace.append(event(args))
            return plain(*args, **kwargs)

        monkeypatch.setattr(where, name, spied)

    def step(a):
        actions.append(np.array(a).item())
        return "noisy step" if abs(actions[-1]) == 1 else "step"

    # the reference puts another in its place
    monkeypatch.setattr(script, "get_action", script.get_action)
    spy(script, "evaluate", lambda args: f"test at {args[-1]}")
    spy(script.ReplayBuffer, "store", lambda args: step(args[2]))
    spy(ReplayBuffer, "add", lambda args: step(args[3]))
    for buffer in (script.ReplayBuffer, ReplayBuffer):
        spy(buffer, "sample", lambda args: "update")

    def runs_of(events):
        return [(event, len(list(group))) for event, group in itertools.groupby(events)]

    logx.main(script.train, script.Args)
    ours = runs_of(trace)
    trace.clear()
    sb3.main(algo)
    assert runs_of(trace) == ours

    # the uniform ones
    assert len(actions) == 450
    assert actions[:100] == pytest.approx(actions[225:325], abs=1e-6)
    noisy = "step" if algo == "sac" else "noisy step"
    assert ours[:4] == [("step", 60), ("update", 15), ("step", 15), ("update", 15)]
    if algo != "sac":
        assert ours[6:10] == [("step", 10), (noisy, 5), ("update", 15), ("test at 105", 1)]
    assert ours[-3:] == [(noisy, 15), ("update", 15), ("test at 225", 1)]


@pytest.mark.parametrize("algo", OFF_POLICY)
def test_the_reference_has_our_settings(algo):
    script = importlib.import_module(algo)
    Args = make_dataclass("Args", [("defaults", bool, False)], bases=(script.Args,))
    knobs = {
        "ddpg": {"act_noise": 0.3},
        "td3": {"act_noise": 0.3, "policy_delay": 3},
        "sac": {"alpha": 0.4},
    }[algo]
    a = Args(
        env_id="Pendulum-v1",
        hidden_sizes=(9, 7),
        batch_size=5,
        replay_size=300,
        gamma=0.8,
        polyak=0.9,
        pi_lr=3e-3,
        **knobs,
    )
    env = script.make_env(a)
    model = sb3.make_model(algo, a, env)
    assert model.tau == pytest.approx(0.1)
    assert (model.gamma, model.batch_size, model.buffer_size) == (0.8, 5, 300)
    assert model.gradient_steps == -1
    assert len(model.critic.q_networks) == (1 if algo == "ddpg" else 2)

    ours = script.ActorCritic(env.observation_space, env.action_space, a)
    for optimizer in (model.actor.optimizer, model.critic.optimizer):
        assert (optimizer.defaults["lr"], optimizer.defaults["eps"]) == (3e-3, 1e-8)
    theirs = sum(p.numel() for net in (model.actor, model.critic) for p in net.parameters())
    # (log α has no shape)
    assert theirs == sum(p.numel() for p in ours.parameters() if p.shape)

    if algo == "sac":
        assert model.ent_coef_tensor.item() == pytest.approx(0.4)
        return
    assert model.action_noise._sigma == 0.3
    if algo == "ddpg":
        assert (model.policy_delay, model.target_noise_clip) == (1, 0.0)
    else:
        assert (model.policy_delay, model.target_noise_clip) == (3, a.noise_clip)


# The plotter --------------------------------------------------------------------------------------


def test_the_plotter(tmp_path):
    for seed in (1, 2):
        folder = tmp_path / "runs" / f"a{seed}"
        folder.mkdir(parents=True)
        args = {"env_id": "E", "exp_name": "a", "seed": seed}
        write(folder / "config.json", json.dumps({"args": args}))
        rows = f"10,{seed}\n20,\n30,{3 * seed}\n"
        write(folder / "progress.csv", f"global_step,charts/episodic_return\n{rows}")
    damaged = tmp_path / "runs" / "half"
    damaged.mkdir()
    write(damaged / "progress.csv", "global_st")
    done = run("benchmark/plot.py", "runs", "--smooth", 3, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout == "2 runs: curves.png\n", done.stderr
    assert done.stderr.count("\n") == 1 and f"skipped {Path('runs', 'half')}" in done.stderr
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    args, name, steps, values = plot.read_run(tmp_path / "runs" / "a2", "")
    assert name == "charts/episodic_return" and args["seed"] == 2
    assert list(steps) == [10, 30] and list(values) == [2, 6]

    for bad in ("nothing", "runs --value losses/none", "runs --group clip"):
        done = run("benchmark/plot.py", *bad.split(), cwd=tmp_path)
        assert done.returncode == 2 and "plot.py: " in done.stderr
        assert "Traceback" not in done.stderr
    # a centred window of an even number of epochs has no centre
    for window in (0, 10):
        done = run("benchmark/plot.py", "runs", "--smooth", window, cwd=tmp_path)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert "plot.py: --smooth must be an odd number" in line


@pytest.mark.parametrize(
    "group, settings, labels",
    [
        # a single group has the experiment's name
        ((), [{"lam": 1}, {"lam": 1}], ["x", "x"]),
        # what differs, but for a knob that only some have
        ((), [{"lam": 1}, {"lam": 2}, {"lam": 2, "tau": 0}], ["lam 1", "lam 2", "lam 2"]),
        (("seed",), [{"seed": 1}, {"seed": 2}], ["seed 1", "seed 2"]),
        # the name alone, if it is different for each group
        ((), [{"exp_name": "a", "lam": 1}, {"exp_name": "b", "lam": 2}], ["a", "b"]),
    ],
)
def test_labels_of_groups(group, settings, labels):
    runs = []
    for i, args in enumerate(settings):
        args = {"env_id": "E", "exp_name": "x", "seed": i} | args
        runs.append(plot.Run(args, "charts/episodic_return", np.array([1]), np.array([1.0])))
    names = plot.choose_labels(runs, group)
    assert [plot.label(run, names) for run in runs] == labels


def test_smoothing_and_common_steps():
    np.testing.assert_allclose(plot.smooth(np.array([1.0, 2, 6, 7]), 3), [1.5, 3, 5, 6.5])
    np.testing.assert_allclose(plot.smooth(np.array([1.0, 2]), 11), [1.5, 1.5])
    first = np.array([10, 20, 30]), np.array([1.0, 2, 3])
    second = np.array([5, 25]), np.array([0.0, 4])
    steps, values = plot.common([first, second])
    assert list(steps) == [10, 20]
    np.testing.assert_allclose(values, [[1, 2], [1, 3]])


# The report ---------------------------------------------------------------------------------------


def test_judgements_by_hand():
    # 3 > 2, 3 > 1, 1 < 2, 1 = 1
    one = [(np.array([3.0, 1.0]), np.array([2.0, 1.0]))]
    assert report.better(one) == pytest.approx(2.5 / 4)
    assert report.better([*one, (np.array([0.0]), np.array([1.0]))]) == pytest.approx(2.5 / 8)

    # of −9 1 2 3 | 3 4 5 50, the middle four
    first = np.array([2.0, 4, 6, 100]), np.array([2.0])
    second = np.array([-9.0, 3, 4, 5]), np.array([1.0])
    assert report.middle_mean([first, second]) == pytest.approx((2 + 3 + 3 + 4) / 4)

    low, high = report.bootstrap(report.better, one, n=1_000)
    assert low == 0 and high == 1


def test_the_report(tmp_path, monkeypatch, capsys):
    command = ["git", "-C", ROOT, "rev-parse", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    totals = (1_000_000, 1_000_000, 1_000_000, 200_000)
    gains = {("ours", "trpo"): 2.0, ("sb3", "trpo"): 1.0, ("ours", "trpo,delta=9"): 4.0}
    for (impl, algo), gain in gains.items():
        for seed, total in enumerate(totals):
            path = tmp_path / impl / algo / "Hopper-v4" / f"{seed}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            final = [gain * 1_000 + seed] * 20
            made = {"args": {"total_timesteps": total}, "commit": commit, "final": final}
            rows = ["# " + json.dumps(made), "global_step,charts/episodic_return,values/kl"]
            for step in range(4_000, total + 4_000, 4_000):
                rows.append(f"{step},{gain * step / 1_000},{step / 1_000_000}")
            write(path, "\n".join(rows) + "\n")
    folder = tmp_path / "ours" / "trpo" / "Hopper-v4"
    write(folder / "7.csv", "# {half")
    write(folder / "8.csv", "# " + json.dumps(made) + "\nglobal_step\n4000\n")

    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr(report, "AGENTS", tmp_path)
    assert report.main() == 0
    assert capsys.readouterr().err.count("report.py: skipped ") == 2
    text = read(tmp_path / "report" / "README.md")
    for row in (
        "| **TRPO** | SB3, matched | 1,000,000 | 1 | 3 / 3 | 1.00 | 1.00 to 1.00 | 2.00 |",
        "| Hopper-v4 | TRPO | 1,000,000 | **2001** (2000, 2001, 2002)"
        " | **1001** (1000, 1001, 1002) | – |",
        "| Hopper-v4 | `trpo,delta=9` | 1,000,000 | **4001** (4000, 4001, 4002) | **2001** (2000,",
        "| `trpo,delta=9` | 1,000,000 | 1 | 3 / 3 | 0.00 | 0.00 to 0.00 | 0.50 |",
        # the last 6 of the 11 epochs: 1980 on average
        "| Hopper-v4 | TRPO | 1,000,000 | 1980 (3 runs) |",
        "| `values/kl` | – | 0.5 (0.052 to 0.95) | – | – | – |",
    ):
        assert row in text
    picture = read(tmp_path / "report" / "trpo-Hopper-v4.svg")
    # the longest runs, with ink that follows the page
    assert "ours (3 runs)" in picture and "SB3, matched (3 runs)" in picture
    assert picture.startswith("<svg ") and "currentColor" in picture and report.INK not in picture


def test_a_result_is_old_when_the_code_has_changed():
    source = read(ROOT / "sac.py")
    code = report.comparable_code(source)
    other_docstring = source.replace("Soft Actor-Critic", "Hard Actor-Critic")
    other_message = source.replace("the reward", "a reward")
    other_code = source.replace("lr=args.q_lr", "lr=args.pi_lr")
    assert source not in (other_docstring, other_message, other_code)
    assert code == report.comparable_code(other_docstring + "# end")
    assert code == report.comparable_code(other_message)
    assert code != report.comparable_code(other_code)

    shared = read(ROOT / "logx.py")
    train, play = shared.split("# Play ---")
    assert report.comparable_code(shared) == report.comparable_code(f"{train}# Play ---{play}x = 1")
    other = f"{train}x = 1\n# Play ---{play}"
    assert report.comparable_code(shared) != report.comparable_code(other)


def test_an_unknown_flag_makes_no_report():
    def files():
        return sorted((path, path.stat().st_mtime) for path in report.RESULTS.rglob("*"))

    before = files()
    assert run("benchmark/report.py", "--out", "here", cwd=ROOT).returncode == 2
    assert files() == before


# Throughput ---------------------------------------------------------------------------------------


def test_throughput(tmp_path):
    words = ["start", "--algos", "vpg", "--rounds", 1]
    done = run("benchmark/throughput.py", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1].split("|")[2].split()[0]) > 0


@pytest.mark.parametrize("kind, algo", [("ours", "ppo"), ("sb3", "ppo"), ("rollout", "trpo")])
def test_measurements_of_speed(kind, algo):
    flags = {"steps_per_epoch": 500, "total_timesteps": 2_500}
    steps, seconds, memory = throughput.run(throughput.Job(kind, algo, flags), threads=1)
    assert steps >= 400 and seconds > 0 and memory > 50


def test_memory_is_not_measured_where_there_is_no_way_to(monkeypatch):
    monkeypatch.setattr(throughput, "resource", None)
    assert np.isnan(throughput.peak_memory())
    assert throughput.memory(np.zeros((1, 3)), np.zeros((1, 3))).startswith("not measured")


def test_an_update_is_measured():
    job = throughput.Job("stored", "sac", {"stored": 2_000, "batch_size": 4, "hidden_sizes": [8]})
    updates, seconds, floor, _ = throughput.run(job, threads=1)
    assert updates == 390 and seconds / updates > floor > 0


def test_without_sbx_a_sentence_tells_how_to_get_it(tmp_path):
    for python in ("no/such/python", sys.executable):
        words = ["peers", "sbx", "--sbx-python", python]
        done = run("benchmark/throughput.py", *words, cwd=tmp_path)
        assert done.returncode == 2 and not done.stdout
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"throughput.py: {python} cannot import sbx")
        assert "python -m venv .venv-sbx && " in line and "requirements-sbx.txt" in line
    assert "sbx" in throughput.TABLES and "sbx" not in throughput.Args().tables


@pytest.mark.parametrize("algo", ["ppo", *OFF_POLICY])
def test_sbx_is_told_our_settings(algo):
    flags = {} if algo == "ppo" else {"batch_size": 7}
    job = json.loads(json.dumps(throughput.sbx_settings(algo, flags)))
    assert (job["act_noise"] == 0.1) == (algo in ("ddpg", "td3"))
    if algo == "ppo":
        assert job["settings"] == {} and job["total_timesteps"] == 24_000
    else:
        assert job["settings"]["batch_size"] == 7
        assert job["settings"]["learning_rate"] == 1e-3
        assert job["total_timesteps"] == 4_000


def test_start_up_is_measured_apart():
    flags = {"steps_per_epoch": 500, "total_timesteps": 2_000}
    job = throughput.Job("pinned", "ppo", flags)
    steps, seconds, start_up, _ = throughput.run(job, threads=1)
    # the epochs after the second
    assert steps == 1_000 and seconds > 0 and start_up > 0


# The shim -----------------------------------------------------------------------------------------


@needs_cc
def test_the_shim_has_the_function_that_mkl_asks(monkeypatch):
    monkeypatch.setattr(logx, "needs_mkl_shim", lambda: True)
    monkeypatch.setattr(logx, "has_mkl_shim", lambda: False)
    monkeypatch.setenv("LD_PRELOAD", "")
    (path,) = shim.shim_environment().values()
    assert ctypes.CDLL(path).mkl_serv_intel_cpu_true() == 1
    assert shim.describe_shim().startswith("Measured with the shim")
    # keeps what is preloaded already
    monkeypatch.setenv("LD_PRELOAD", "other.so")
    assert shim.shim_environment() == {"LD_PRELOAD": f"{path} other.so"}
    # torch sees it in a process of its own
    monkeypatch.setenv("LD_PRELOAD", path)
    command = [sys.executable, "-c", "import logx; print(logx.has_mkl_shim())"]
    assert subprocess.check_output(command, cwd=ROOT, text=True) == "True\n"


def test_no_shim_where_none_is_needed_or_none_can_be_built(monkeypatch):
    monkeypatch.setattr(logx, "needs_mkl_shim", lambda: False)
    assert shim.shim_environment() == {} and "needs no shim" in shim.describe_shim()

    monkeypatch.setattr(logx, "needs_mkl_shim", lambda: True)
    monkeypatch.setattr(logx, "has_mkl_shim", lambda: False)
    monkeypatch.setattr(shim, "build_shim", lambda: None)
    assert shim.shim_environment() == {} and "needs the C compiler" in shim.describe_shim()


# The variants -------------------------------------------------------------------------------------


def test_the_variants_apply():
    patches = list((ROOT / "benchmark" / "variants").glob("*.patch"))
    assert patches
    for patch in patches:
        subprocess.run(["git", "apply", "--check", patch], cwd=ROOT, check=True)


@pytest.mark.parametrize("algo", ["ppo", "td3", "sac"])
def test_the_variants_for_a_gpu_compute_the_same(algo, tmp_path, monkeypatch):
    """On the CPU in place of the GPU, they reach the script's own weights, bit for bit.

    Neither draws random numbers here.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    patch = ROOT / "benchmark" / "variants" / f"{algo}_cuda.patch"
    path = Path(f"{algo}_cuda.py")
    command = ["patch", "--fuzz=0", f"--output={path}", ROOT / f"{algo}.py", patch]
    subprocess.run(command, check=True)
    source = read(path).replace(".cuda()", "").replace('device="cuda"', 'device="cpu"')
    write(path, source.replace(" or not torch.cuda.is_available()", ""))

    def first_rows(buf, n):
        # the patched buffer has a copy on the GPU
        if hasattr(buf, "copy"):
            return [x[:n] for x in buf.copy]
        arrays = (buf.s, buf.a, buf.r, buf.s2, buf.d)
        return [torch.as_tensor(x[:n]) for x in arrays]

    knobs = dict(env_id="Pendulum-v1", max_episode_steps=50, hidden_sizes=(8,), total_timesteps=150)
    weights = []
    for script in (importlib.import_module(algo), importlib.import_module(f"{algo}_cuda")):
        monkeypatch.setattr(script, "Replayed", lambda f: f, raising=False)
        if algo == "ppo":
            folder = script.train(script.Args(**knobs, steps_per_epoch=50))
        else:
            monkeypatch.setattr(script.ReplayBuffer, "sample", first_rows)
            args = script.Args(**knobs, batch_size=40, update_after=0, num_test_episodes=1)
            folder = script.train(args)
        weights.append(logx.read_checkpoint(folder)["ac"])
    assert all(torch.equal(x, weights[1][name]) for name, x in weights[0].items())
