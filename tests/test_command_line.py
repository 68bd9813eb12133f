"""The scripts from the shell: help, what a run leaves behind, the same seed, playing, resuming."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import gymnasium as gym
import pytest
import torch
from helpers import (
    OFF_POLICY,
    ROOT,
    SCRIPTS,
    TINY,
    comment_lines,
    only_run,
    read_rows,
    run,
    start,
    train,
    wait,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

CLOCK = ("time", "charts/SPS")  # the columns that may differ between equal runs


def scalars(folder):
    """{tag: [(step, value), ...]} of a run's TensorBoard event files."""
    events = EventAccumulator(str(folder)).Reload()
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


def assert_tensorboard_is_progress_csv(folder):
    rows, tags = read_rows(folder), scalars(folder)
    assert tags.keys() == rows[0].keys()
    for name, points in tags.items():
        expected = [(int(row["global_step"]), float(row[name])) for row in rows if row[name]]
        assert [step for step, _ in points] == [step for step, _ in expected], name
        assert [x for _, x in points] == pytest.approx([x for _, x in expected], rel=1e-6), name


# help


@pytest.mark.parametrize("name", SCRIPTS)
def test_help(name, tmp_path):
    done = run(f"{name}.py", "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    text = " ".join(done.stdout.replace("│", " ").split())
    source = (ROOT / f"{name}.py").read_text()
    comments = comment_lines(source)
    args = source[source.index("class Args") : source.index("def __post_init__")]
    first = source[: source.index("class Args")].count("\n") + 1
    fields = re.findall(r"^    (\w+): ", args, re.M)
    assert len(fields) > 10
    for line, code in enumerate(args.splitlines(), first):
        if match := re.match(r"    (\w+): ", code):
            flag, comment = "--" + match[1].replace("_", "-"), comments[line].strip("# ")
            assert comment and re.search(
                rf"{flag}[ ,][^)]*?{re.escape(comment)} \(default: ", text
            ), flag
    assert list(tmp_path.iterdir()) == []


# what a run leaves behind


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A folder with sac.py and logx.py alone, no MPI, and a run; sac.py is removed afterwards."""
    folder = tmp_path_factory.mktemp("o'neil")
    for name in ("sac.py", "logx.py"):
        shutil.copy(ROOT / name, folder)
    (folder / "mpi4py.py").write_text("raise ImportError\n")
    train(folder / "sac.py", *TINY["sac"], "--seed", 3, cwd=folder)
    (folder / "sac.py").unlink()
    return folder


def test_a_copy_alone_leaves_a_whole_run(copied):
    folder = only_run(copied)
    assert re.fullmatch(r"Pendulum-v1__sac__3__\d+", folder.name)
    files = sorted(
        re.sub(r"(events\.out\.tfevents).*", r"\1", path.name) for path in folder.iterdir()
    )
    assert files == [
        "checkpoint.pt",
        "config.json",
        "events.out.tfevents",
        "progress.csv",
        "sac.py",
    ]
    assert (folder / "sac.py").read_text() == (ROOT / "sac.py").read_text()
    assert_tensorboard_is_progress_csv(folder)
    config = json.loads((folder / "config.json").read_text())
    assert config["args"]["hidden_sizes"] == [8] and config["args"]["seed"] == 3
    assert config.keys() >= {"commit", "python", "torch", "gymnasium", "numpy"}
    assert config["commit"] is None  # no git repository
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert state["step"] == 600 and {"pi.net.0.weight", "q1.net.0.weight"} <= state["ac"].keys()
    assert state["buf"] is None  # a finished run's is small to share


def test_a_copy_under_another_name_logs_under_its_own(tmp_path):
    for name, new in (("ppo.py", "mine.py"), ("logx.py", "logx.py")):
        shutil.copy(ROOT / name, tmp_path / new)
    folder = train(tmp_path / "mine.py", *TINY["ppo"], cwd=tmp_path)
    assert re.fullmatch(r"Pendulum-v1__mine__0__\d+", folder.name)
    assert (folder / "mine.py").exists()
    done = run(tmp_path / "logx.py", "play", folder, "--episodes", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


CHARTS = [
    "global_step",
    "epoch",
    "time",
    "charts/SPS",
    "charts/episodic_return",
    "charts/episodic_return_std",
]
CHARTS += ["charts/episodic_return_min", "charts/episodic_return_max", "charts/episodic_length"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_same_seed_same_run(name, tmp_path):
    runs = []
    for i, seed in enumerate([1, 1, 2] if name in ("ppo", "sac") else [1, 1]):
        (tmp_path / str(i)).mkdir()
        runs.append(train(f"{name}.py", *TINY[name], "--seed", seed, cwd=tmp_path / str(i)))
    rows, *others = (read_rows(folder, without=CLOCK) for folder in runs)
    assert rows == others[0]
    for other in others[1:]:
        assert all(a != b for a, b in zip(rows, other))

    columns = set(read_rows(runs[0])[0])
    assert [row["global_step"] for row in rows] == ["200", "400", "600"]
    assert set(CHARTS) <= columns
    assert ({"eval/episodic_return", "eval/episodic_length"} <= columns) == (name in OFF_POLICY)
    rest = {
        column
        for column in columns
        if not re.fullmatch(r"eval/episodic_(length|return(_(std|min|max))?)", column)
    }
    assert all(re.fullmatch(r"(losses|values)/\w+", column) for column in rest - set(CHARTS))
    assert {"losses/pi", "losses/q" if name in OFF_POLICY else "losses/v"} <= columns


# rows with empty cells


@pytest.mark.parametrize("name, ranks", [("vpg", 0), ("trpo", 2)])
def test_an_epoch_without_a_finished_episode_writes_its_row(name, ranks, tmp_path):
    rows = read_rows(
        train(f"{name}.py", *TINY[name], "--max-episode-steps", 1000, cwd=tmp_path, mpi=ranks)
    )
    assert [row["global_step"] for row in rows] == ["200", "400", "600"]
    for row in rows:
        assert row["charts/episodic_return"] == row["charts/episodic_length"] == ""
        assert row["losses/pi"] != "" and row["losses/v"] != ""


def test_an_epoch_without_an_update_writes_its_row(copied):
    rows = read_rows(only_run(copied))
    assert [row["losses/q"] == "" for row in rows] == [True, False, False]  # --update-after 250
    assert [row["losses/pi"] == "" for row in rows] == [True, False, False]
    assert all(row["charts/episodic_return"] and row["eval/episodic_return"] for row in rows)


def test_an_epoch_without_a_test_episode_writes_its_row(tmp_path):
    rows = read_rows(train("ddpg.py", *TINY["ddpg"], "--num-test-episodes", 0, cwd=tmp_path))
    assert [row["eval/episodic_return"] for row in rows] == ["", "", ""]


def test_an_environment_without_a_render_mode(tmp_path):
    env = {"PYTHONPATH": str(ROOT / "tests")}
    train("vpg.py", *TINY["vpg"], "--env-id", "faulty_envs:NoRenderMode-v0", cwd=tmp_path, env=env)


# playing


def play(copied, *args):
    """What play prints of its episodes; sac.py is gone, so it cannot be compared with the copy."""
    done = run(copied / "logx.py", "play", only_run(copied), "--trust", *args, cwd=copied)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith("episode ")]


def test_play_prints_returns(copied):
    first = play(copied, "--episodes", 2)
    assert len(first) == 2
    assert play(copied, "--episodes", 2) == first
    assert play(copied, "--episodes", 2, "--stochastic") != first


def test_play_discrete(tmp_path):
    folder = train("vpg.py", *TINY["vpg"], "--env-id", "CartPole-v1", cwd=tmp_path)
    for extra in ([], ["--stochastic"]):
        done = run("logx.py", "play", folder, "--episodes", 3, *extra, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 3 + 1  # and the mean


def test_play_writes_a_video(copied):
    try:
        env = gym.make("Pendulum-v1", render_mode="rgb_array")
        env.reset()
        env.render()
    except Exception as e:
        pytest.skip(f"cannot render here: {e}")
    assert len(play(copied, "--episodes", 1, "--video", "film.mp4")) == 1
    assert (copied / "film.mp4").read_bytes()[4:8] == b"ftyp"  # how an MP4 begins


def test_ctrl_c_while_playing(copied):
    args = ["--trust", "--episodes", 100_000]
    process = start(copied / "logx.py", "play", only_run(copied), *args, cwd=copied)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    done = wait(process)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert "--resume" not in done.stderr  # there is nothing to resume


# resuming

LONG = {
    "ppo": [*TINY["ppo"], "--total-timesteps", 1600],
    "sac": [*TINY["sac"], "--total-timesteps", 1000],
}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The folder of a script's run that nothing interrupted."""
    folders = {}

    def get(name):
        if name not in folders:
            folders[name] = train(f"{name}.py", *LONG[name], cwd=tmp_path_factory.mktemp(name))
        return folders[name]

    return get


def interrupt(name, cwd, number, rows, keep_first_checkpoint=False):
    """Sends a signal once progress.csv has `rows` rows. Returns the ended process and its run."""
    process, first = start(f"{name}.py", *LONG[name], cwd=cwd), None
    while process.poll() is None:
        time.sleep(0.002)
        for checkpoint in cwd.glob("runs/*/checkpoint.pt"):
            first = first or checkpoint.read_bytes()
            table = checkpoint.with_name("progress.csv")
            if rows == 0 or (
                table.exists() and table.read_text().count("\n") > rows
            ):  # the first line names columns
                process.send_signal(number)
                rows = float("inf")
    done = wait(process)
    assert done.returncode not in (0, 1, 2), f"it was not interrupted: {done.stderr}"
    folder = only_run(cwd)
    if keep_first_checkpoint:
        (folder / "checkpoint.pt").write_bytes(first)
    return done, folder


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def assert_same_run(folder, other):
    """Same rows, same last checkpoint bit for bit, and an unbroken TensorBoard curve."""
    assert read_rows(folder, without=CLOCK) == read_rows(other, without=CLOCK)
    a, b = (torch.load(x / "checkpoint.pt", weights_only=True) for x in (folder, other))
    assert same(a["ac"], b["ac"])
    assert [
        key for key in a if key not in ("args", "rows", "time") and not same(a[key], b[key])
    ] == []
    assert_tensorboard_is_progress_csv(folder)
    times = [float(row["time"]) for row in read_rows(folder)]
    assert times == sorted(times)


MOMENTS = {
    "before-the-first-row": dict(rows=0),
    "after-the-first-row": dict(rows=1),
    "rows-after-the-checkpoint": dict(
        rows=3, keep_first_checkpoint=True
    ),  # as where saving is slow, and rarely done
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", LONG)
def test_a_killed_run_is_resumed_as_if_nothing_had_been(name, moment, tmp_path, unbroken):
    done, folder = interrupt(name, tmp_path, signal.SIGKILL, **MOMENTS[moment])
    assert done.returncode == -signal.SIGKILL
    assert train(f"{name}.py", "--resume", folder, cwd=tmp_path) == folder
    assert_same_run(folder, unbroken(name))


def test_a_run_is_lengthened(tmp_path, unbroken):
    folder = train("ppo.py", *LONG["ppo"], "--total-timesteps", 800, cwd=tmp_path)
    train("ppo.py", "--resume", folder, "--total-timesteps", 1600, cwd=tmp_path)
    assert_same_run(folder, unbroken("ppo"))


@pytest.mark.parametrize("name", LONG)
def test_resuming_a_finished_run_says_so(name, tmp_path, unbroken):
    folder = unbroken(name)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    done = run(f"{name}.py", "--resume", folder, cwd=tmp_path)
    assert done.returncode == 0
    assert len(done.stderr.splitlines()) == 1 and "finished" in done.stderr
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_ctrl_c_prints_how_to_go_on(tmp_path, unbroken):
    done, folder = interrupt("ppo", tmp_path, signal.SIGINT, rows=1)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "--resume" in line]
    assert line == done.stderr.splitlines()[-1]
    python, script, *args = shlex.split(line[line.index("python ") :])
    assert (python, args) == ("python", ["--resume", os.path.relpath(folder, tmp_path)])
    done = run(script, *args, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_same_run(folder, unbroken("ppo"))


@pytest.mark.parametrize("asked, given", [("", 1), ("2", 2)])
def test_one_thread_unless_asked_for_more(asked, given):
    env = os.environ | {"OMP_NUM_THREADS": asked}
    code = "import torch, logx, ppo; logx.setup(ppo.Args()); print(torch.get_num_threads())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == given
