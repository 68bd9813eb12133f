"""The benchmark's programs: launcher, SB3 reference runner, plotter, report and throughput."""

import csv
import importlib
import itertools
import json
import subprocess
import sys
import time
from dataclasses import make_dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import OFF_POLICY, ROOT, read_rows, run
from stable_baselines3.common.buffers import ReplayBuffer

sys.path.insert(0, str(ROOT))

import logx
from benchmark import plot, report, sb3
from benchmark import run as launcher

TINY = "--env-id CartPole-v1 --steps-per-epoch 200 --total-timesteps 400 --train-v-iters 3 --hidden-sizes 8,8".split()


def lines(done):
    return [x for x in done.stderr.splitlines() if x.startswith("run.py")]


def test_a_grid_runs_goes_on_and_is_collected(tmp_path):
    words = [
        "ppo",
        *TINY,
        "--clip-ratio",
        "0.1",
        "0.3",
        "-1",
        "--seed",
        "1",
        "2",
        "--jobs",
        "2",
        "--results",
        "results",
    ]
    done = run("benchmark/run.py", *words, cwd=tmp_path)
    assert done.returncode == 1 and len(lines(done)) == 2, done.stderr  # the two with −1 are refused, the others run
    assert all("--clip-ratio must be between 0 and inf" in x for x in lines(done))
    found = sorted(str(p.relative_to(tmp_path / "results")) for p in (tmp_path / "results").rglob("*.csv"))
    names = [f"ours/ppo,steps_per_epoch=200,train_v_iters=3,hidden_sizes=8-8,clip_ratio={c}" for c in ("0.1", "0.3")]
    assert found == [f"{name}/CartPole-v1/{seed}.csv" for name in names for seed in (1, 2)]
    head, *rows = (tmp_path / "results" / found[0]).read_text().splitlines()
    made = json.loads(head.removeprefix("# "))
    assert made["args"]["clip_ratio"] == 0.1 and len(made["final"]) == 20 and made["commit"]
    assert [int(r["global_step"]) for r in csv.DictReader(rows)] == [200, 400]

    (tmp_path / "results" / found[0]).unlink()  # the run is still there, and need not be made again
    runs = sorted((tmp_path / "runs").iterdir())
    done = run("benchmark/run.py", *words, cwd=tmp_path)
    assert "0 runs to make, 4 are there" in done.stderr
    assert sorted((tmp_path / "runs").iterdir()) == runs and (tmp_path / "results" / found[0]).exists()
    done = run("benchmark/run.py", *words, "--total-timesteps", "600", cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.count("made with other arguments; move it away") == 4


def test_a_run_is_made_once_at_a_time_and_anew_when_its_code_has_changed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["vpg", *TINY]
    (job,), _ = launcher.grid(launcher.parse(words))
    (tmp_path / "runs").mkdir()
    with job.lock:
        done = run("benchmark/run.py", *words, cwd=tmp_path)
    assert done.returncode == 1 and "another launcher is at it" in done.stderr
    job.start()
    job.process.wait()
    assert job.end(results=None) is None and job.is_done()
    copy = job.folder / "vpg.py"
    copy.write_text(copy.read_text() + "# a comment\n")
    assert launcher.grid(launcher.parse(words))[0][0].is_done()
    copy.write_text(copy.read_text() + "x = 1\n")
    assert not launcher.grid(launcher.parse(words))[0][0].is_done()


def test_switches_and_names():
    jobs, refused = launcher.grid(launcher.parse("sac --learn-alpha True False --total-timesteps 9 --seed 1 1".split()))
    assert not refused and [job.args.learn_alpha for job in jobs] == [True, False]
    assert [job.label for job in jobs] == [f"HalfCheetah-v4__sac,learn_alpha={x}__1" for x in (True, False)]
    assert str(jobs[0].result("results")) == "results/ours/sac,learn_alpha=True/HalfCheetah-v4/1.csv"


def test_an_interrupted_run_is_resumed(tmp_path):
    words = ["vpg", "--env-id", "CartPole-v1", "--steps-per-epoch", "200", "--total-timesteps", "10000"]
    launcher = subprocess.Popen([sys.executable, ROOT / "benchmark" / "run.py", *words], cwd=tmp_path)
    while len([row for csv in tmp_path.glob("runs/*/progress.csv") for row in read_rows(csv.parent)]) < 2:
        time.sleep(0.05)
    launcher.terminate()
    assert launcher.wait() == 130
    (folder,) = [p for p in (tmp_path / "runs").iterdir() if p.is_dir()]
    time.sleep(0.5)
    before = len(read_rows(folder))
    time.sleep(0.5)
    assert len(read_rows(folder)) == before < 50  # the run has ended with the launcher
    done = run("benchmark/run.py", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [p for p in (tmp_path / "runs").iterdir() if p.is_dir()] == [folder]
    assert [r["global_step"] for r in read_rows(folder)] == [str(200 * (i + 1)) for i in range(50)]


@pytest.mark.parametrize(
    "words, says",
    [
        ("sarsa", "algorithms are vpg"),
        ("ppo --impl theirs", "implementations ours"),
        ("ppo --env-id Hoper-v4", "Did you mean: `Hopper`"),
        ("ppo --alpha 0.1", "ppo.py has no --alpha"),
        ("sac --resume runs/x", "sac.py has no --resume"),
        ("sac --gamma 1.5", "--gamma must be between 0 and 1"),
        ("sac --gamma", "no value for gamma"),
        ("vpg --impl sb3 --gamma 0.9", "SB3's A2C cannot be given --gamma"),
        ("ppo --impl sb3-defaults --clip-ratio 0.1", "SB3's PPO cannot be given --clip-ratio"),
        ("td3 --impl sb3 --q-lr 1e-4", "SB3's TD3 cannot be given --q-lr"),
        ("sac --jobs none", "--jobs"),
        ("", "python benchmark/run.py"),
    ],
)
def test_what_the_launcher_refuses(words, says, tmp_path):
    done = run("benchmark/run.py", *words.split(), cwd=tmp_path)
    assert done.returncode == 2 and says in done.stderr + done.stdout and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_an_unknown_flag_makes_no_report():
    before = sorted((path, path.stat().st_mtime) for path in report.RESULTS.rglob("*"))
    assert run("benchmark/report.py", "--out", "here", cwd=ROOT).returncode == 2
    assert sorted((path, path.stat().st_mtime) for path in report.RESULTS.rglob("*")) == before


def test_a_run_that_fails_does_not_stop_the_others(tmp_path):
    words = ["ddpg", "ppo", "--env-id", "CartPole-v1", "--steps-per-epoch", "200", "--total-timesteps", "200"]
    done = run("benchmark/run.py", *words, "--jobs", "1", cwd=tmp_path)  # DDPG takes no discrete actions
    assert done.returncode == 1
    (line,) = lines(done)
    assert "ddpg on CartPole-v1, seed 0" in line and "needs a Box of actions" in line
    assert len(list((tmp_path / "runs").glob("*__ppo__*/checkpoint.pt"))) == 1


@pytest.mark.parametrize("algo", ["trpo", "td3"])
def test_the_reference_writes_our_columns_and_is_not_played(algo, tmp_path):
    budget = {"trpo": "400", "td3": "500"}[algo]
    flags = (
        f"--env-id Pendulum-v1 --max-episode-steps 50 --hidden-sizes 8 --steps-per-epoch 200 --total-timesteps {budget}"
    )
    flags += " --start-steps 100 --update-after 100 --num-test-episodes 1" if algo == "td3" else ""
    rows = []
    for script in (["benchmark/sb3.py", algo], [f"{algo}.py"]):
        done = run(*script, *flags.split(), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    for folder in sorted((tmp_path / "runs").iterdir()):
        rows.append(read_rows(folder))
        assert [int(r["global_step"]) for r in rows[-1]] == ([200, 400] if algo == "trpo" else [200, 400, 500])
    assert {k for k in rows[0][0] if "/episodic" in k} == {k for k in rows[1][0] if "/episodic" in k}
    (theirs,) = (tmp_path / "runs").glob(f"*__sb3-{algo}__*")
    done = run("logx.py", "play", theirs, cwd=tmp_path)
    assert done.returncode == 2 and "hold an agent" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("algo", OFF_POLICY)
def test_the_reference_steps_updates_and_tests_when_ours_does(algo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script, trace, actions = importlib.import_module(algo), [], []
    flags = "--env-id Pendulum-v1 --max-episode-steps 15 --steps-per-epoch 100 --total-timesteps 220 --hidden-sizes 8"
    flags += " --batch-size 4 --start-steps 100 --update-after 60 --num-test-episodes 1"
    flags += "" if algo == "sac" else " --act-noise 1e9"  # so that all but the first, uniform actions are ±1
    monkeypatch.setattr(sys, "argv", [algo, *flags.split()])

    def spy(where, name, event):
        plain = getattr(where, name)
        monkeypatch.setattr(where, name, lambda *args, **kw: trace.append(event(args)) or plain(*args, **kw))

    monkeypatch.setattr(script, "get_action", script.get_action)  # the reference puts another in its place
    spy(script, "evaluate", lambda args: f"test at {args[-1]}")

    def step(a):
        actions.append(np.array(a).item())
        return "noisy step" if abs(actions[-1]) == 1 else "step"

    spy(script.ReplayBuffer, "store", lambda args: step(args[2]))
    spy(ReplayBuffer, "add", lambda args: step(args[3]))
    for buffer in (script.ReplayBuffer, ReplayBuffer):
        spy(buffer, "sample", lambda args: "update")
    logx.main(script.train, script.Args)
    ours = [(event, len(list(group))) for event, group in itertools.groupby(trace)]
    trace.clear()
    sb3.main(algo)
    assert [(event, len(list(group))) for event, group in itertools.groupby(trace)] == ours
    assert len(actions) == 450 and actions[:100] == pytest.approx(actions[225:325], abs=1e-6)  # the uniform ones
    noisy = "step" if algo == "sac" else "noisy step"
    assert ours[:4] == [("step", 60), ("update", 15), ("step", 15), ("update", 15)]
    assert ours[6:10] == [("step", 10), (noisy, 5), ("update", 15), ("test at 105", 1)] or algo == "sac"
    assert ours[-3:] == [(noisy, 15), ("update", 15), ("test at 225", 1)]


@pytest.mark.parametrize("algo", OFF_POLICY)
def test_the_reference_has_our_settings(algo):
    script = importlib.import_module(algo)
    Args = make_dataclass("Args", [("defaults", bool, False)], bases=(script.Args,))
    knobs = dict(hidden_sizes=(9, 7), batch_size=5, replay_size=300, gamma=0.8, polyak=0.9, pi_lr=3e-3)
    knobs |= {"ddpg": dict(act_noise=0.3), "sac": dict(alpha=0.4)}.get(algo, dict(act_noise=0.3, policy_delay=3))
    a = Args("Pendulum-v1", **knobs)
    env = script.make_env(a)
    model = sb3.make_model(algo, a, env)
    assert model.tau == pytest.approx(0.1)
    assert (model.gamma, model.batch_size, model.buffer_size, model.gradient_steps) == (0.8, 5, 300, -1)
    assert len(model.critic.q_networks) == (1 if algo == "ddpg" else 2)
    ours = script.ActorCritic(env.observation_space, env.action_space, a)
    for optimizer in (model.actor.optimizer, model.critic.optimizer):
        assert (optimizer.defaults["lr"], optimizer.defaults["eps"]) == (3e-3, 1e-8)
    theirs = sum(p.numel() for net in (model.actor, model.critic) for p in net.parameters())
    assert theirs == sum(p.numel() for p in ours.parameters() if p.shape)  # log α has none
    if algo == "sac":
        assert model.ent_coef_tensor.item() == pytest.approx(0.4)
    else:
        assert model.action_noise._sigma == 0.3
        assert (model.policy_delay, model.target_noise_clip) == ((1, 0.0) if algo == "ddpg" else (3, a.noise_clip))


def test_the_plotter(tmp_path):
    for seed in (1, 2):
        folder = tmp_path / "runs" / f"a{seed}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"args": {"env_id": "E", "exp_name": "a", "seed": seed}}))
        (folder / "progress.csv").write_text(f"global_step,charts/episodic_return\n10,{seed}\n20,\n30,{3 * seed}\n")
    damaged = tmp_path / "runs" / "half"
    damaged.mkdir()
    (damaged / "progress.csv").write_text("global_st")
    done = run("benchmark/plot.py", "runs", "--smooth", 3, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout == "2 runs: curves.png\n", done.stderr
    assert done.stderr.count("\n") == 1 and "half is left out" in done.stderr
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    args, name, steps, values = plot.read_run(tmp_path / "runs" / "a2", "")
    assert name == "charts/episodic_return" and args["seed"] == 2
    assert list(steps) == [10, 30] and list(values) == [2, 6]
    for bad in (
        ["nothing"],
        ["runs", "--value", "losses/none"],
        ["runs", "--group", "clip"],
        ["runs", "--smooth", "0"],
    ):
        done = run("benchmark/plot.py", *bad, cwd=tmp_path)
        assert done.returncode == 2 and "plot.py: " in done.stderr and "Traceback" not in done.stderr


def test_smoothing_and_common_steps():
    np.testing.assert_allclose(plot.smooth(np.array([1.0, 2, 6, 7]), 3), [1.5, 3, 5, 6.5])
    np.testing.assert_allclose(plot.smooth(np.array([1.0, 2]), 11), [1.5, 1.5])
    steps, values = plot.common(
        [(np.array([10, 20, 30]), np.array([1.0, 2, 3])), (np.array([5, 25]), np.array([0.0, 4]))]
    )
    assert list(steps) == [10, 20]
    np.testing.assert_allclose(values, [[1, 2], [1, 3]])


def test_judgements_by_hand():
    one = [(np.array([3.0, 1.0]), np.array([2.0, 1.0]))]  # 3 > 2, 3 > 1, 1 < 2, 1 = 1
    assert report.better(one) == pytest.approx(2.5 / 4)
    assert report.better([*one, (np.array([0.0]), np.array([1.0]))]) == pytest.approx(2.5 / 8)
    eight = [(np.array([2.0, 4, 6, 100]), np.array([2.0])), (np.array([-9.0, 3, 4, 5]), np.array([1.0]))]
    assert report.middle_mean(eight) == pytest.approx((2 + 3 + 3 + 4) / 4)  # of −9 1 2 3 | 3 4 5 50, the middle four
    low, high = report.bootstrap(report.better, one, n=1_000)
    assert low == 0 and high == 1


def test_the_report(tmp_path, monkeypatch, capsys):
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    for impl, algo, gain in (("ours", "trpo", 2.0), ("sb3", "trpo", 1.0), ("ours", "trpo,delta=9", 4.0)):
        for seed, total in enumerate((1_000_000, 1_000_000, 1_000_000, 200_000)):
            path = tmp_path / impl / algo / "Hopper-v4" / f"{seed}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            made = {"args": {"total_timesteps": total}, "commit": commit, "final": [gain * 1_000 + seed] * 20}
            rows = [f"{step},{gain * step / 1_000},{step / 1_000_000}" for step in range(4_000, total + 4_000, 4_000)]
            head = "# " + json.dumps(made), "global_step,charts/episodic_return,values/kl"
            path.write_text("\n".join([*head, *rows]) + "\n")
    (tmp_path / "ours" / "trpo" / "Hopper-v4" / "7.csv").write_text("# {half")
    (tmp_path / "ours" / "trpo" / "Hopper-v4" / "8.csv").write_text("# " + json.dumps(made) + "\nglobal_step\n4000\n")
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    assert report.main() == 0
    assert capsys.readouterr().err.count("is left out") == 2
    text = (tmp_path / "report" / "README.md").read_text()
    assert "| **TRPO** | SB3, matched | 1,000,000 | 1 | 3 / 3 | 1.00 | 1.00 to 1.00 | 2.00 |" in text
    assert "| Hopper-v4 | TRPO | 1,000,000 | **2001** (2000, 2001, 2002) | **1001** (1000, 1001, 1002) | – |" in text
    assert "| Hopper-v4 | `trpo,delta=9` | 1,000,000 | **4001** (4000, 4001, 4002) | **2001** (2000," in text
    assert "| `trpo,delta=9` | 1,000,000 | 1 | 3 / 3 | 0.00 | 0.00 to 0.00 | 0.50 |" in text
    assert "| Hopper-v4 | TRPO | 1,000,000 | 1980 (3 runs) |" in text  # the last 6 of the 11 epochs: 1980 on average
    assert "| `values/kl` | – | 0.5 (0.052 to 0.95) | – | – | – |" in text
    for total in (200_000, 1_000_000):
        assert (tmp_path / "report" / f"on-policy-Hopper-v4-{total}.png").stat().st_size > 10_000


def test_a_result_is_old_when_the_code_has_changed():
    source = (ROOT / "sac.py").read_text()
    assert report.bare(source) == report.bare(source.replace("Soft Actor-Critic", "Hard Actor-Critic") + "# end")
    assert report.bare(source) == report.bare(source.replace("the reward", "a reward"))
    assert report.bare(source) != report.bare(source.replace("lr=args.q_lr", "lr=args.pi_lr"))


def test_throughput(tmp_path):
    done = run("benchmark/throughput.py", "start", "--algos", "vpg", "--rounds", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1].split("|")[2].split()[0]) > 0


def test_the_variants_apply():
    patches = list((ROOT / "benchmark" / "variants").glob("*.patch"))
    assert patches
    for patch in patches:
        subprocess.run(["git", "apply", "--check", patch], cwd=ROOT, check=True)


@pytest.mark.parametrize("algo", ["ppo", "td3", "sac"])
def test_the_variants_for_a_gpu_compute_the_same(algo, tmp_path, monkeypatch):
    """The CPU in the GPU's place reaches the script's own weights, bit for bit, when neither draws random numbers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    patch = ROOT / "benchmark" / "variants" / f"{algo}_cuda.patch"
    subprocess.run(["patch", "--fuzz=0", f"--output={algo}_cuda.py", ROOT / f"{algo}.py", patch], check=True)
    path = Path(f"{algo}_cuda.py")
    source = path.read_text().replace(".cuda()", "").replace('device="cuda"', 'device="cpu"')
    path.write_text(source.replace(" or not torch.cuda.is_available()", ""))
    knobs = dict(env_id="Pendulum-v1", max_episode_steps=50, hidden_sizes=(8,), total_timesteps=150)
    weights = []
    for script in (importlib.import_module(algo), importlib.import_module(f"{algo}_cuda")):
        monkeypatch.setattr(script, "Replayed", lambda f: f, raising=False)
        if algo == "ppo":
            run = script.train(script.Args(**knobs, steps_per_epoch=50))
        else:
            first_rows = {"sample": lambda buf, n: [x[:n] for x in getattr(buf, "copy", buf.data)]}
            monkeypatch.setattr(script, "ReplayBuffer", type("Buffer", (script.ReplayBuffer,), first_rows))
            run = script.train(script.Args(**knobs, batch_size=40, update_after=0, num_test_episodes=1))
        weights.append(logx.read_checkpoint(run)["ac"])
    assert all(torch.equal(x, weights[1][name]) for name, x in weights[0].items())
