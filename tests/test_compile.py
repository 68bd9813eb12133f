"""--compile computes what the scripts compute without it; and the shim for AMD's processors."""

import os
import shutil
import subprocess
import sys
from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from helpers import TINY, load, only_run, read_rows, run, train
from torch.nn.utils import parameters_to_vector

import logx
import ppo
import sac
from benchmark.scripts import OFF_POLICY, ON_POLICY, SCRIPTS

OBS, ACT, CHOICE = Box(-np.inf, np.inf, (17,)), Box(-1, 1, (6,)), Discrete(3)
CASES = [(name, ACT, {}) for name in SCRIPTS]
CASES += [(name, CHOICE, {}) for name in ON_POLICY]
CASES += [("sac", ACT, {"learn_alpha": True}), ("td3", ACT, {"hidden_sizes": ()})]

CLOCK = ("time", "charts/SPS")


@pytest.fixture(autouse=True)
def forget():
    yield
    logx.forget_compiled()


def make(name, act, dtype, **knobs):
    """A script, arguments, an actor-critic, its targets, and a batch with every kind of end."""
    (script,) = load([name])
    args = script.Args(**knobs)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    ac = script.ActorCritic(OBS, act, args)

    if name in OFF_POLICY:
        buf = script.ReplayBuffer(17, 6, 500)
        for _ in range(500):
            s, s2 = rng.normal(size=(2, 17))
            buf.store(s, rng.uniform(-1, 1, 6), rng.normal(), s2, rng.random() < 0.2)
        batch = buf.sample(args.batch_size)
    else:
        buf = script.PathBuffer(OBS, act, 500)
        for t in range(500):
            s, s2 = rng.normal(size=(2, 17))
            a = rng.normal(size=6) if act is ACT else rng.integers(3)
            d, truncated = rng.random(2) < 0.05
            buf.store(t, s, a, rng.normal(), s2, d, d or truncated or t == 499)
        batch = script.compute_batch(ac, buf, args)

    batch = [x.to(dtype) if x.is_floating_point() else x for x in batch]
    ac_targ = deepcopy(ac).requires_grad_(False)
    with torch.no_grad():
        for p in ac_targ.parameters():
            p.mul_(0.9)  # else a policy in the place of its target would be no mistake
    return script, args, ac.to(dtype), ac_targ.to(dtype), batch


def gradients(script, args, ac, ac_targ, batch):
    """[(what, number or array), ...]: every gradient, and everything that is logged with it."""
    found = []
    for name in ("compute_grad_q", "compute_grad_pi", "compute_grad_v"):
        if not hasattr(script, name):
            continue
        ac.zero_grad()
        torch.manual_seed(1)
        targets = [ac_targ] if name == "compute_grad_q" else []
        info = getattr(script, name)(ac, *targets, batch, args)
        found += [(f"{name}: {key}", x) for key, x in (info or {}).items()]
        for key, p in ac.named_parameters():
            found.append((f"{name}: {key}", p.grad))
    return found


def assert_alike(eager, compiled, bound):
    """Equal up to `bound`, measured against the largest number of each tensor, or 1."""
    for (what, x), (same, y) in zip(eager, compiled, strict=True):
        assert what == same
        if x is None:
            assert y is None, f"{what} has a gradient"
            continue
        assert x.dtype == y.dtype and x.shape == y.shape and not y.requires_grad
        assert (x - y).abs().max() <= bound * max(1, x.abs().max()), what


@pytest.mark.parametrize(
    "dtype, bound", [(torch.float64, 1e-10), (torch.float32, 1e-5)], ids=["float64", "float32"]
)
@pytest.mark.parametrize(
    "name, act, knobs", CASES, ids=[f"{n}-{type(a).__name__}-{'-'.join(k)}" for n, a, k in CASES]
)
def test_gradients(name, act, knobs, dtype, bound):
    script, args, ac, ac_targ, batch = make(name, act, dtype, **knobs)
    eager = gradients(script, args, ac, ac_targ, batch)
    assert any(x is not None and x.abs().max() > 0 for _, x in eager)
    args.compile = True
    compiled = gradients(script, args, ac, ac_targ, batch)
    assert_alike(eager, compiled, bound)


def update(script, args, ac, ac_targ, batch):
    """Three rounds of a script's updates; returns all parameters."""
    pi_optimizer = torch.optim.Adam(ac.pi.parameters(), lr=1e-3, fused=True)
    torch.manual_seed(2)
    if script.__name__ in OFF_POLICY:
        q_params = [p for name, p in ac.named_parameters() if name.startswith("q")]
        q_optimizer = torch.optim.Adam(q_params, lr=1e-3, fused=True)
        for _ in range(3):
            script.update_q(ac, ac_targ, batch, args, q_optimizer)
            script.update_pi(ac, batch, args, pi_optimizer)
            script.update_targets(ac, ac_targ, args.polyak)
        return torch.cat([parameters_to_vector(x.parameters()) for x in (ac, ac_targ)]).detach()

    v_optimizer = torch.optim.Adam(ac.v.parameters(), lr=1e-3, fused=True)
    optimizers = [] if script.__name__ == "trpo" else [pi_optimizer]
    for _ in range(3):
        script.update_pi(ac, batch, args, *optimizers)
        script.update_v(ac, batch, args, v_optimizer)
    return parameters_to_vector(ac.parameters()).detach()


@pytest.mark.parametrize("name", SCRIPTS)
def test_updates(name):
    """No gradient is left over from the step before, and none is lost."""
    knobs = {} if name in OFF_POLICY else {"train_v_iters": 3}
    script, args, ac, ac_targ, batch = make(name, ACT, torch.float64, **knobs)
    before = torch.cat([parameters_to_vector(ac.parameters())]).detach()
    eager = update(script, args, deepcopy(ac), deepcopy(ac_targ), batch)
    args.compile = True
    compiled = update(script, args, ac, ac_targ, batch)
    assert (eager[: len(before)] - before).abs().max() > 1e-4
    # Adam's first steps divide small gradients by themselves, which magnifies rounding
    assert (eager - compiled).abs().max() < 1e-7


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_first_epoch_is_the_same(name, tmp_path):
    """The same noise is drawn, so two runs part only slowly, by rounding."""
    rows = {}
    for flags in ((), ("--compile",)):
        folder = tmp_path / "-".join(["run", *flags])
        folder.mkdir()
        rows[flags] = read_rows(train(f"{name}.py", *TINY[name], *flags, cwd=folder), without=CLOCK)
    learned = 1 if name in OFF_POLICY else 0  # the first epoch with updates
    eager, compiled = (rows[flags][learned] for flags in ((), ("--compile",)))
    for column, x in eager.items():
        assert float(compiled[column] or "nan") == pytest.approx(
            float(x or "nan"), rel=1e-3, abs=1e-3, nan_ok=True
        ), column


@pytest.mark.parametrize("script, knobs", [(ppo, {}), (sac, {"learn_alpha": True})])
def test_a_resumed_run_ends_the_same(script, knobs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    knobs |= dict(env_id="Pendulum-v1", max_episode_steps=50, hidden_sizes=(16,), compile=True)
    knobs |= dict(total_timesteps=600, steps_per_epoch=200)
    if script is sac:
        knobs |= dict(start_steps=100, update_after=100)
    whole = script.train(script.Args(**knobs))
    assert not logx.compiled

    end_epoch = logx.Logger.end_epoch

    def stop_after_two(self, step):
        end_epoch(self, step)
        if self.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(logx.Logger, "end_epoch", stop_after_two)
        with pytest.raises(KeyboardInterrupt):
            script.train(script.Args(**knobs))
        part = logx.Logger.run
    resumed = script.train(script.Args(**knobs, resume=str(part)))

    assert read_rows(whole, without=CLOCK) == read_rows(resumed, without=CLOCK)
    one, two = (logx.read_checkpoint(folder)["ac"] for folder in (whole, resumed))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_ranks_share_their_gradients(tmp_path):
    """Two compiled ranks make the same first epoch as two ranks that are not compiled."""
    rows = []
    for flags in ((), ("--compile",)):
        folder = tmp_path / "-".join(["run", *flags])
        folder.mkdir()
        done = run("ppo.py", *TINY["ppo"], *flags, cwd=folder, mpi=2)
        assert done.returncode == 0, done.stderr
        rows.append(read_rows(only_run(folder), without=CLOCK)[0])
    assert done.stderr.count("Note: compiling compute_grad_pi took") == 1
    for column, x in rows[0].items():
        assert float(rows[1][column]) == pytest.approx(float(x), rel=1e-3, abs=1e-3), column


def test_what_it_says(tmp_path):
    done = run("sac.py", *TINY["sac"], "--compile", cwd=tmp_path)
    notes = [line for line in done.stderr.splitlines() if line.startswith("Note: ")]
    assert len(notes) == 3, done.stderr
    assert notes[0].startswith("Note: starting the compiler took ")
    assert notes[1].startswith("Note: compiling compute_grad_q took ")
    assert notes[2].startswith("Note: compiling compute_grad_pi took ")


def test_without_a_compiler(tmp_path):
    env = {"CXX": str(tmp_path / "none"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    (tmp_path / "empty").mkdir()
    done = run("ppo.py", "--compile", cwd=tmp_path / "empty", env=env)
    assert done.returncode == 2
    assert "ppo.py: --compile needs a C++ compiler" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "empty").iterdir())


# The shim -----------------------------------------------------------------------------------------

AMD = "vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2 avx512f avx512dq\n"
OLD_AMD = "vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2\n"
INTEL = "vendor_id\t: GenuineIntel\nflags\t\t: fpu avx2 avx512f\n"


@pytest.mark.parametrize("text, slow", [(AMD, True), (OLD_AMD, False), (INTEL, False)])
def test_which_processors_need_the_shim(text, slow, tmp_path, monkeypatch):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(text)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    assert logx.needs_mkl_shim(cpuinfo) == slow
    assert not logx.needs_mkl_shim(tmp_path / "none")
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    assert not logx.needs_mkl_shim(cpuinfo)


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("cc"), reason="needs Linux and cc")
def test_the_shim_is_recognised(tmp_path):
    shim = tmp_path / "libmklamd.so"
    source = "int mkl_serv_intel_cpu_true(void){return 1;}"
    command = ["cc", "-shared", "-fPIC", "-xc", "-", "-o", str(shim)]
    subprocess.run(command, input=source, text=True, check=True)
    for env in ({}, {"LD_PRELOAD": str(shim)}):
        code = "import torch, logx; print(logx.has_mkl_shim())"
        command = [sys.executable, "-c", code]
        env = os.environ | {"PYTHONPATH": os.path.dirname(logx.__file__)} | env
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == str("LD_PRELOAD" in env)


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("shim", [True, False])
def test_the_note_about_the_shim(terminal, shim, monkeypatch):
    notes = []
    monkeypatch.setattr(logx, "note", notes.append)
    monkeypatch.setattr(logx, "needs_mkl_shim", lambda: True)
    monkeypatch.setattr(logx, "has_mkl_shim", lambda: shim)
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: terminal))
    logx.setup(SimpleNamespace(compile=False))
    assert len(notes) == (terminal and not shim)
    assert all("docs/user/faster.md" in note for note in notes)
