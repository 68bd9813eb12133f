"""The one file that the six scripts share: logging, saving, loading and MPI. `python logx.py play RUN` shows a run."""

import hashlib
import json
import os
import platform
import runpy
import subprocess
import sys
import time
import traceback
import warnings
from contextlib import chdir, redirect_stderr, suppress
from pathlib import Path

import gymnasium as gym
import imageio
import numpy as np
import torch
import tyro
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm


class Stop(Exception):
    """Bad input: ends the program with this sentence instead of a traceback, and with exit code 2."""


launched, size = int(os.environ.get("PMI_SIZE") or os.environ.get("OMPI_COMM_WORLD_SIZE") or 1), 1
rank = int(os.environ.get("PMI_RANK") or os.environ.get("OMPI_COMM_WORLD_RANK") or 0)
if launched > 1:  # MPI is imported only where a launcher asks for it
    with suppress(ImportError, RuntimeError), warnings.catch_warnings(action="ignore"):  # parse() refuses a wrong size
        from mpi4py import MPI

        size = MPI.COMM_WORLD.size


def gather(x):
    """The list of all ranks' x, on every rank."""
    return MPI.COMM_WORLD.allgather(x) if size > 1 else [x]


def broadcast(module):
    """Gives every rank the parameters of rank 0."""
    module.load_state_dict(gather(module.state_dict())[0])


def average(x):
    """The mean over all ranks, elementwise, of a CPU tensor."""
    if size > 1:
        x = x.detach() / size
        MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, x.numpy())
    return x


def average_gradients(module):
    """Replaces the gradients of a module by their mean over all ranks, in one message."""
    if size > 1:
        grads = [p.grad for p in module.parameters()]
        vector_to_parameters(average(parameters_to_vector(grads)), grads)


def stats(x):
    """Mean, standard deviation (of the population), minimum and maximum over the elements of every rank's x."""
    x = np.concatenate(gather(np.ravel(x)), dtype=np.float64)
    return [float(f(x)) if x.size else None for f in (np.mean, np.std, np.min, np.max)]


def note(sentence):
    """Prints a line on stderr, once for all ranks."""
    if rank == 0:
        tqdm.write(sentence, file=sys.stderr)


def setup(seed):
    """Seeds torch and NumPy; torch gets OMP_NUM_THREADS threads, else one: with small networks, many can be slower."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    torch.set_flush_denormal(True)  # 0 for numbers below 1e-38, which Adam fills up with, and processors are slow at
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count()))
    sharers = gather((platform.node(), cores)).count((platform.node(), cores))  # 1 where the launcher pins each rank
    if sharers > len(cores):
        note(f"Note: {sharers} processes share {len(cores)} cores; fewer processes would be faster.")
    if not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(1)


def check_range(args, low, high, *names):
    """Raises ValueError unless the named fields, or each of their elements, are finite and in [low, high], or None."""
    for name, x in ((n, x) for n in names for x in np.ravel(getattr(args, n))):
        if x is not None and not (low <= x <= high and x < np.inf):
            raise ValueError(f"--{name.replace('_', '-')} must be between {low} and {high}, not {x}")


def check_finite(step, values):
    """Raises FloatingPointError if any of {name: number, or array with a row a step from `step` on} is not finite."""
    for name, x in values.items():
        if len(bad := np.argwhere(~np.isfinite(np.asarray(x)))):
            raise FloatingPointError(f"{name} is NaN or infinite at step {step + sum(bad[0][:1])}")


def make_env(args, render_mode=None):
    """gymnasium.make, with observations as float32 copies; refuses an environment that is unknown or not a flat Box."""
    warnings.filterwarnings("ignore", message=".*(out of date|precision lowered by casting)")  # v4 by name is meant
    try:
        env = gym.make(args.env_id, args.max_episode_steps, **({"render_mode": render_mode} if render_mode else {}))
    except (gym.error.Error, ImportError, ValueError, TypeError) as e:
        raise Stop(f"cannot make the environment {args.env_id}: {' '.join(str(e).split())}") from e
    if not isinstance(box := env.observation_space, gym.spaces.Box) or len(box.shape) != 1:
        raise Stop(f"the networks read flat vectors (a Box of one axis); {args.env_id} has {box}")
    if isinstance(env.action_space, gym.spaces.Discrete):  # a number: an array () cannot be a key of a dict
        env = gym.wrappers.TransformAction(env, int, env.action_space)
    return gym.wrappers.TransformObservation(env, lambda s: np.array(s, np.float32), gym.spaces.Box(box.low, box.high))


class Logger:
    """Rows, curves, progress bar and checkpoints of one run in the folder `dir`; training begins at step `step`.
    script: is copied there. columns: all names to be stored; *episodic_return gets _std, _min, _max besides. tracked:
    has state_dict() and load_state_dict(), for checkpoints; a finished run's lacks the buffer `buf`. Raises OSError."""

    def __init__(self, args, script, columns, env, **tracked):
        self.args, self.script, self.env, self.tracked = args, Path(script), env, tracked
        self.values = {name: [] for name in ("charts/episodic_return", "charts/episodic_length", *columns)}
        self.step, self.time, self.rows, self.saving = 0, 0.0, [], 0.0
        self.started = self.epoch_started = self.saved = time.perf_counter()
        self._restore() if args.resume else self._create(args)
        note(f"{self.dir}: step {self.step:,} to {args.total_timesteps:,}; watch it with: tensorboard --logdir runs")
        self.bar = tqdm(total=args.total_timesteps, initial=self.step, unit=" steps", disable=rank > 0 or None)
        self.writer = rank == 0 and SummaryWriter(self.dir, purge_step=self.step + 1 if args.resume else None)

    def store(self, values):
        """Keeps {column: number, list, or tensor, of which the mean} for the epoch's row: the mean over all of it."""
        for name, x in values.items():  # numbers: thousands of small tensors, kept, would scatter the memory
            self.values[name] += [x.mean().item()] if isinstance(x, torch.Tensor) else np.ravel(x).tolist()

    def episode(self, step, ep_ret, ep_len):
        """Logs a finished episode, moves the bar, and stops the run if a loss or value stored last is not finite."""
        check_finite(step, {name: xs[-1] for name, xs in self.values.items() if xs and "charts" not in name})
        self.store({"charts/episodic_return": ep_ret, "charts/episodic_length": ep_len})
        self.bar.set_postfix_str(f"return {ep_ret:.1f}", refresh=False)
        self.bar.update(step - self.bar.n)

    def end_epoch(self, step):
        """Writes the epoch's row to progress.csv, TensorBoard and the screen, then the checkpoint."""
        check_finite(step, {name: xs[-1] for name, xs in self.values.items() if xs})
        now, sps = time.perf_counter(), (step - self.step) / (time.perf_counter() - self.epoch_started)
        self.step, self.epoch_started, epoch = step, now, len(self.rows) + 1
        row = {"global_step": step, "epoch": epoch, "time": self.time + now - self.started, "charts/SPS": sps}
        for name, xs in self.values.items():
            row[name], *spread = stats(xs)
            if name.endswith("episodic_return"):
                row |= zip([name + "_std", name + "_min", name + "_max"], spread, strict=True)
            xs.clear()
        self.rows.append(row)
        if rank == 0:
            lines = [row, *(r.values() for r in self.rows)]  # all: a resumed run makes those after its checkpoint again
            cells = [",".join("" if x is None else str(x) for x in line) for line in lines]
            Path(self.dir, "progress.csv").write_text("\n".join(cells) + "\n")
            shown = [(name, x) for name, x in row.items() if x is not None]
            for name, x in shown:
                self.writer.add_scalar(name, x, step)
            self.writer.flush()
            cells = [f"{name:>28} {x:<11.6g}" for name, x in shown]
            if self.bar.disable:  # no terminal
                print(*("".join(cells[i : i + 3]) for i in range(0, len(cells), 3)), "", sep="\n", flush=True)
        finished = step >= self.args.total_timesteps
        if gather(finished or self.saving < 0.03 or now - self.saved > 33 * self.saving)[0]:  # 3 % of the time
            self._save(finished)
        elif epoch % 10 == 1:
            note(f"Note: saving takes {self.saving:.1f} s, and is done every {33 * self.saving:.0f} s.")
        if finished:
            self.bar.close()
            note(f"Done. See it act: python logx.py play {self.dir}" if "ac" in self.tracked else "Done.")

    def _create(self, a):
        name = f"{a.env_id}__{a.exp_name}__{a.seed}__{int(time.time())}".replace("/", "-").replace(":", "-")
        for self.dir in (Path("runs", name + s) for s in ("", *map("-{}".format, range(1, 99))) if rank == 0):
            with suppress(FileExistsError):  # of another run that began in the same second
                self.dir.mkdir(parents=True)
                break
        self.dir = Logger.dir = gather(getattr(self, "dir", None))[0]  # (Logger.dir: for the message after Ctrl-C)
        if rank == 0:
            Path(self.dir, self.script.name).write_bytes(self.script.read_bytes())
            with chdir(self.script.resolve().parent):
                commit = subprocess.getoutput("git describe --always --dirty --abbrev=40 --exclude=*")
            made = {"args": vars(a), "ranks": size, "commit": commit, "python": sys.version}
            made |= {m: sys.modules[m].__version__ for m in "gymnasium mujoco numpy torch".split() if m in sys.modules}
            Path(self.dir, "config.json").write_text(json.dumps(made, indent=2) + "\n")
        self._save(finished=False)

    def _restore(self):
        self.dir = Logger.dir = Path(self.args.resume)
        state = read_checkpoint(self.dir)
        for name, x in self.tracked.items():
            x.load_state_dict(state[name])
        rng = json.loads(state["rngs"][rank])
        torch.set_rng_state(torch.tensor(rng["torch"], dtype=torch.uint8))
        np.random.set_state(rng["numpy"])
        self.env.unwrapped.np_random.bit_generator.state = rng["env"]
        self.env.action_space.np_random.bit_generator.state = rng["actions"]
        self.step, self.time, self.rows = state["step"], state["time"], state["rows"]

    def _save(self, finished):
        self.saved = time.perf_counter()
        rng = {"torch": torch.get_rng_state().tolist(), "numpy": np.random.get_state(legacy=False)}
        rng["env"] = self.env.unwrapped.np_random.bit_generator.state
        rng["actions"] = self.env.action_space.np_random.bit_generator.state
        rngs = gather(json.dumps(rng, default=np.ndarray.tolist))
        if rank == 0:
            state = {k: None if finished and k == "buf" else x.state_dict() for k, x in self.tracked.items()}
            state |= {"script": self.script.name, "args": vars(self.args), "rngs": rngs, "rows": self.rows}
            with open(self.dir / "checkpoint.pt.new", "w+b") as f:
                torch.save(state | {"step": self.step, "time": self.time + self.saved - self.started}, f)
                f.seek(0)
                f.write(hashlib.file_digest(f, "sha256").digest())  # behind the archive, where torch.load ignores it
            os.replace(f.name, self.dir / "checkpoint.pt")  # a kill leaves the old file or the new one, whole
        self.saving = time.perf_counter() - self.saved


def read_checkpoint(run):
    """What a run folder's checkpoint.pt holds; a file whose checksum is wrong is refused."""
    path = Path(run, "checkpoint.pt")
    data = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(memoryview(data)[:-32]).digest() != data[-32:]:
        raise Stop(f"{path} is missing or damaged")
    return torch.load(path, weights_only=True)


def parse(Args):
    """Arguments from the command line, or, with --resume, those that the run was started with."""
    if size != launched:
        raise Stop(f"{launched} processes cannot see each other: mpi4py is missing, or the launcher is of another MPI")
    args = tyro.cli(Args, console_outputs=rank == 0)
    if getattr(args, "resume", None) is not None:
        state, script = read_checkpoint(args.resume), Path(sys.argv[0]).name
        made, now = f"{state['script']} in {len(state['rngs'])} process(es)", f"{script} in {size} process(es)"
        if made != now or state["args"].keys() != vars(args).keys():
            raise Stop(f"{args.resume} was made by {made}, or with other arguments; this is {now}")
        saved = Args(**state["args"] | {"resume": args.resume})
        args = tyro.cli(Args, default=saved, console_outputs=rank == 0)
        if vars(args) | {"total_timesteps": 0} != vars(saved) | {"total_timesteps": 0}:
            raise Stop("--resume takes its arguments from the run; only --total-timesteps may be given besides")
        if state["step"] >= args.total_timesteps or state.get("buf", ...) is None:  # the buffer goes when a run ends
            note(f"{args.resume} is finished, at {state['step']:,} steps.")
            sys.exit(0)
    return args


def main(train, Args):
    """Runs train(args). Errors become sentences; a rank that fails in any way takes the whole job down."""
    args = None
    try:
        with redirect_stderr(sys.stderr if rank == 0 else open(os.devnull, "w")):  # only rank 0 speaks
            args = parse(Args)
            return train(args)
    except (Stop, FloatingPointError, OSError) as e:
        complaint, code = e, 2 if isinstance(e, Stop) else 1
    except KeyboardInterrupt:
        complaint, code = args and f"stopped; go on: python {sys.argv[0]} --resume {getattr(Logger, 'dir', 'RUN')}", 130
    except SystemExit as e:  # the parser's, alike on every rank; or, once there are args, somebody's sys.exit
        complaint, code = args and traceback.format_exc(), e.code if isinstance(e.code, int) else 1
    except BaseException:
        complaint, code = traceback.format_exc(), 1
    time.sleep(3 * (rank > 0))  # where all ranks complain alike, the abort of rank 0 ends the others meanwhile
    if complaint:
        print(f"{sys.argv[0]}, rank {rank}:" if rank else f"{sys.argv[0]}:", complaint, file=sys.stderr, flush=True)
    if size > 1 and (args or complaint):
        time.sleep(0.5)  # for the launcher to pass the complaint on
        MPI.COMM_WORLD.Abort(code or 1)
    sys.exit(code)


def play(run: tyro.conf.Positional[str], episodes: int = 10, stochastic: bool = False, video: str | None = None):
    """Runs a run's agent. --stochastic: sample its actions, as in training; --video: write an MP4, show no window."""
    state = read_checkpoint(run)
    if episodes < 1 or not (video or ".mp4").endswith(".mp4") or "ac" not in state:
        raise Stop("--episodes must be 1 or more, --video a file that ends in .mp4, and the run hold an agent (ac)")
    window = {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys() or sys.platform in ("darwin", "win32")
    os.environ.setdefault("MUJOCO_GL", "glfw" if window else "egl")
    script = runpy.run_path(str(Path(run, state["script"])))  # the copy: as it was when it ran
    args = script["Args"](**state["args"])
    env = script["make_env"](args, "rgb_array" if video else "human" if window else None)
    ac = script["ActorCritic"](env.observation_space, env.action_space, args)
    ac.load_state_dict(state["ac"])
    film = video and imageio.get_writer(video, fps=env.metadata.get("render_fps", 30), macro_block_size=2)
    for episode in range(episodes):
        (s, _), ep_ret, ended = env.reset(seed=episode), 0.0, False
        while not ended:
            s, r, d, truncated, _ = env.step(script["get_action"](ac, s, deterministic=not stochastic))
            ep_ret, ended = ep_ret + r, d or truncated
            if film:
                film.append_data(env.render())
        print(f"episode {episode + 1}: return {ep_ret:.1f}", flush=True)


if __name__ == "__main__":
    sys.modules["logx"] = sys.modules[__name__]  # for the script, which imports it
    sys.argv = [f"{sys.argv[0]} play", *sys.argv[2 if sys.argv[1:2] == ["play"] else 1 :]]  # or no "play"
    main(lambda nothing: None, play)  # the parser calls play
