"""Nothing is lost: kill -9 at any moment, full disks, damaged files."""

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import SCRIPTS, TINY, only_run, read_rows, train
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import logx
import ppo

CLOCK = ("time", "charts/SPS")


def curves(folder):
    """{tag: [(step, value), ...]} as TensorBoard shows it, without rows that were written twice."""
    events = EventAccumulator(str(folder)).Reload()
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
        if tag not in CLOCK
    }


@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_killed_at_random_moments_it_ends_the_same(name, tmp_path, kills=20):
    program = [sys.executable, str(Path(__file__).parent / "kill_program.py"), name, str(kills)]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    whole = only_run(tmp_path / "whole")
    for killed in map(only_run, tmp_path.glob("killed-*")):
        assert read_rows(killed, without=CLOCK) == read_rows(whole, without=CLOCK)
        assert curves(killed) == curves(whole)


def test_every_flipped_byte_is_found(tmp_path):
    folder = train("ppo.py", *TINY["ppo"], cwd=tmp_path)
    good = (folder / "checkpoint.pt").read_bytes()
    for _ in range(200):
        data = bytearray(good)
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        (folder / "checkpoint.pt").write_bytes(data)
        with pytest.raises(logx.Stop, match="damaged"):
            logx.read_checkpoint(folder)
    for length in (0, 1, 31, 32, 33, len(good) // 2, len(good) - 1):
        (folder / "checkpoint.pt").write_bytes(good[:length])
        with pytest.raises(logx.Stop, match="damaged"):
            logx.read_checkpoint(folder)


FULL, READ_ONLY = "/dev/full", "/proc/sys/kernel/ostype"  # not even root may write to the second


@pytest.mark.parametrize(
    "file, disk",
    [("checkpoint.pt.new", FULL), ("progress.csv", FULL), ("checkpoint.pt.new", READ_ONLY)],
)
def test_a_full_disk_leaves_the_last_checkpoint(file, disk, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    end_epoch = logx.Logger.end_epoch

    def disk_full_at_third_epoch(logger, step):
        if logger.epoch == 2:
            shutil.copy(logger.dir / "checkpoint.pt", "good.pt")
            (logger.dir / file).unlink(missing_ok=True)
            (logger.dir / file).symlink_to(disk)
        end_epoch(logger, step)

    monkeypatch.setattr(logx.Logger, "end_epoch", disk_full_at_third_epoch)
    monkeypatch.setattr(sys, "argv", ["ppo.py", *TINY["ppo"]])
    with pytest.raises(SystemExit) as end:
        logx.main(ppo.train, ppo.Args)
    assert end.value.code == 1
    folder = only_run(tmp_path)
    assert (folder / "checkpoint.pt").read_bytes() == Path("good.pt").read_bytes()
    logx.read_checkpoint(folder)


@pytest.mark.parametrize(
    "disk, says", [(FULL, "No space left on device"), (READ_ONLY, "Permission denied")]
)
def test_the_sentence_about_a_full_disk(disk, says, tmp_path, monkeypatch, capsys):
    test_a_full_disk_leaves_the_last_checkpoint("checkpoint.pt.new", disk, tmp_path, monkeypatch)
    last = capsys.readouterr().err.splitlines()[-1]
    assert says in last and last.startswith("ppo.py: ")


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_checkpoint_is_all_there_is(name, tmp_path):
    """The checkpoint has everything that a fresh object needs to continue the run."""
    folder = train(f"{name}.py", *TINY[name], cwd=tmp_path)
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    tracked = {"ac", "v_optimizer"} if name == "trpo" else {"ac", "pi_optimizer"}
    assert (
        tracked <= state.keys()
        and {"step", "epoch", "time", "rngs", "statistics", "script", "args"} <= state.keys()
    )
    assert state["script"] == f"{name}.py" and state["step"] == int(
        read_rows(folder)[-1]["global_step"]
    )
