"""The one file that the six scripts share: MPI, environments, logging, checkpoints, play.

It knows no algorithm. `python logx.py play RUN` shows the agent of a run.
"""

import contextlib
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
from dataclasses import dataclass, replace
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
    """Bad input: the program prints this sentence instead of a traceback, and exits with code 2."""


# MPI ----------------------------------------------------------------------------------------------

# What the launcher says; without one, there is a single process of rank 0.
launched = int(os.environ.get("PMI_SIZE") or os.environ.get("OMPI_COMM_WORLD_SIZE") or 1)
rank = int(os.environ.get("PMI_RANK") or os.environ.get("OMPI_COMM_WORLD_RANK") or 0)
size = 1

if launched > 1:
    # Without MPI, or with the launcher of another MPI, size stays 1, and parse() refuses to go on.
    with contextlib.suppress(ImportError, RuntimeError), warnings.catch_warnings(action="ignore"):
        from mpi4py import MPI

        size = MPI.COMM_WORLD.size


def gather(x):
    """Returns the list of all ranks' x, on every rank."""
    if size == 1:
        return [x]
    return MPI.COMM_WORLD.allgather(x)


def broadcast(module):
    """Gives every rank the parameters of rank 0."""
    module.load_state_dict(gather(module.state_dict())[0])


def average(x):
    """Returns the mean over all ranks, elementwise, of a CPU tensor."""
    if size == 1:
        return x
    mean = x.detach() / size
    MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, mean.numpy())
    return mean


def average_gradients(module):
    """Replaces a module's gradients by their mean over all ranks, in a single message."""
    if size > 1:
        grads = [p.grad for p in module.parameters()]
        vector_to_parameters(average(parameters_to_vector(grads)), grads)


def stats(x):
    """Returns mean, standard deviation (of the population), minimum and maximum over all ranks' x.

    They are None where no rank has an element.
    """
    x = np.concatenate(gather(np.ravel(x)), dtype=np.float64)
    if x.size == 0:
        return [None, None, None, None]
    return [float(x.mean()), float(x.std()), float(x.min()), float(x.max())]


def note(sentence):
    """Prints a line on stderr, on rank 0 only."""
    if rank == 0:
        tqdm.write(sentence, file=sys.stderr)


# Environments -------------------------------------------------------------------------------------


def setup(seed):
    """Seeds torch and NumPy; gives torch one thread, unless OMP_NUM_THREADS says otherwise."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)

    # With small networks, more threads are often slower.
    if not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(1)

    # Adam's averages fill up with numbers below 1e-38, at which processors are slow: take 0.
    torch.set_flush_denormal(True)

    # Where the launcher pins each rank to cores of its own, no other rank has the same cores.
    if hasattr(os, "sched_getaffinity"):
        cores = os.sched_getaffinity(0)
    else:
        cores = set(range(os.cpu_count()))
    here = (platform.node(), cores)
    sharers = gather(here).count(here)
    if sharers > len(cores):
        note(f"Note: {sharers} processes share {len(cores)} cores; fewer would be faster.")


def make_env(args, render_mode=None):
    """Returns gymnasium.make's environment with observations as float32 copies.

    Raises Stop if the environment cannot be made, or observes anything but flat vectors.
    """
    # v4 is requested on purpose.
    warnings.filterwarnings("ignore", message=".*(out of date|precision lowered by casting)")
    kwargs = {}
    if render_mode is not None:
        kwargs["render_mode"] = render_mode
    try:
        env = gym.make(args.env_id, args.max_episode_steps, **kwargs)
    except (gym.error.Error, ImportError, ValueError, TypeError) as e:
        reason = " ".join(str(e).split())
        raise Stop(f"cannot make the environment {args.env_id}: {reason}") from e

    space = env.observation_space
    if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
        raise Stop(f"the networks read flat vectors (a Box of one axis); {args.env_id} has {space}")
    if isinstance(env.action_space, gym.spaces.Discrete):
        # A number, since an array of shape () cannot be the key of a dict.
        env = gym.wrappers.TransformAction(env, int, env.action_space)

    # Copies, since some environments change one array in place.
    return gym.wrappers.TransformObservation(
        env, lambda s: np.array(s, np.float32), gym.spaces.Box(space.low, space.high)
    )


# Checks -------------------------------------------------------------------------------------------


def check_range(args, low, high, *names):
    """Raises ValueError unless the named fields are finite and in [low, high], or None.

    A field may hold several numbers; each of them is checked.
    """
    for name in names:
        for x in np.ravel(getattr(args, name)):
            if x is not None and not (low <= x <= high and np.isfinite(x)):
                flag = "--" + name.replace("_", "-")
                raise ValueError(f"{flag} must be between {low} and {high}, not {x}")


def check_finite(step, values):
    """Raises FloatingPointError, which names the step, if a value is NaN or infinite.

    values: {name: a number, or an array with one row for each step, the first at `step`}.
    """
    for name, x in values.items():
        bad = ~np.isfinite(np.atleast_1d(x))
        if bad.any():
            first_row = np.argwhere(bad)[0, 0]
            raise FloatingPointError(f"{name} is NaN or infinite at step {step + first_row}")


# Logging ------------------------------------------------------------------------------------------


class Logger:
    """Writes a run's rows, curves and checkpoints to its folder `dir`, and shows its progress.

    script: the script's path; it is copied to the folder.
    columns: the names of all values that will be stored, besides the episodes' returns and lengths.
        Names that end in episodic_return get the columns _std, _min and _max as well.
    env: the environment whose random generators belong to the checkpoint.
    tracked: what else belongs to it, {name: object with state_dict() and load_state_dict()}. The
        checkpoint of a finished run leaves `buf` out, so that it is small to share.

    Training begins at step `step`, which is 0 unless the run is resumed. Methods raise OSError
    where a file cannot be written.
    """

    run = None  # the folder of the latest run, for main()'s message after Ctrl-C

    def __init__(self, args, script, columns, env, tracked):
        self.args = args
        self.script = Path(script)
        self.env = env
        self.tracked = tracked

        self.values = {"charts/episodic_return": [], "charts/episodic_length": []}
        for name in columns:
            self.values[name] = []

        self.step = 0
        self.epoch = 0
        self.time = 0.0  # seconds of training before this process began
        self.save_seconds = 0.0  # what the last checkpoint took
        now = time.perf_counter()
        self.started = now
        self.epoch_started = now
        self.saved = now

        if args.resume:
            self.dir = Path(args.resume)
            self._restore()
        else:
            self.dir = self._create()
            self._save(finished=False)
        Logger.run = self.dir

        note(
            f"{self.dir}: step {self.step:,} to {args.total_timesteps:,}; "
            "watch it with: tensorboard --logdir runs"
        )
        # disable=None: no bar where stderr is not a terminal
        disable = True if rank > 0 else None
        self.bar = tqdm(
            total=args.total_timesteps, initial=self.step, unit=" steps", disable=disable
        )
        self.writer = None
        if rank == 0:
            # TensorBoard drops what came after the checkpoint: the run writes it again.
            purge_step = self.step + 1 if args.resume else None
            self.writer = SummaryWriter(self.dir, purge_step=purge_step)

    def store(self, values):
        """Adds values, {column: number, list or tensor}, to the epoch's row, which has their mean.

        Of a tensor, its mean is added: thousands of small tensors, kept, would scatter the memory.
        """
        for name, x in values.items():
            if isinstance(x, torch.Tensor):
                self.values[name].append(x.mean().item())
            else:
                self.values[name] += np.ravel(x).tolist()

    def episode(self, step, ep_ret, ep_len):
        """Logs a finished episode. Raises FloatingPointError if a loss or value is not finite."""
        self._check_latest(step)
        self.store({"charts/episodic_return": ep_ret, "charts/episodic_length": ep_len})
        self.bar.set_postfix_str(f"return {ep_ret:.1f}", refresh=False)
        self.bar.update(step - self.bar.n)

    def end_epoch(self, step):
        """Ends an epoch: writes and shows its row, then saves a checkpoint, if it is time to."""
        self._check_latest(step)
        row = self._make_row(step)
        if rank == 0:
            self._write_row(row)
            self._show_row(row)

        finished = step >= self.args.total_timesteps
        if self._is_time_to_save(finished):
            self._save(finished)
        if finished:
            self._say_goodbye()

    def _check_latest(self, step):
        """Raises FloatingPointError if a value stored last is not finite."""
        latest = {name: xs[-1] for name, xs in self.values.items() if xs}
        check_finite(step, latest)

    def _make_row(self, step):
        """Returns the epoch's row, {column: number or None}, and begins the next epoch."""
        now = time.perf_counter()
        row = {
            "global_step": step,
            "epoch": self.epoch + 1,
            "time": self.time + now - self.started,
            "charts/SPS": (step - self.step) / (now - self.epoch_started),
        }
        for name, xs in self.values.items():
            mean, std, low, high = stats(xs)
            row[name] = mean
            if name.endswith("episodic_return"):
                row[name + "_std"] = std
                row[name + "_min"] = low
                row[name + "_max"] = high
            xs.clear()
        self.step = step
        self.epoch += 1
        self.epoch_started = now
        return row

    def _write_row(self, row):
        """Appends the row to progress.csv, and to TensorBoard's files."""
        path = self.dir / "progress.csv"
        lines = []
        if not path.exists():
            lines.append(",".join(row))
        lines.append(",".join("" if x is None else str(x) for x in row.values()))
        with open(path, "a", encoding="utf-8") as f:
            f.write("\n".join(lines) + "\n")

        for name, x in row.items():
            if x is not None:
                self.writer.add_scalar(name, x, row["global_step"])
        self.writer.flush()

    def _show_row(self, row):
        """Prints the row as a table of three columns, where there is no progress bar."""
        if self.bar.disable:
            cells = [f"{name:>28} {x:<11.6g}" for name, x in row.items() if x is not None]
            for i in range(0, len(cells), 3):
                print("".join(cells[i : i + 3]))
            print(flush=True)

    def _is_time_to_save(self, finished):
        """Whether to save: at every epoch, but less often where that takes over 3 % of the time."""
        pause = 33 * self.save_seconds
        seldom = self.save_seconds > 0.03 and not finished
        due = not seldom or time.perf_counter() - self.saved > pause
        due = gather(due)[0]  # rank 0 decides, since the others' clocks differ
        if not due and self.epoch % 10 == 1:
            note(f"Note: saving takes {self.save_seconds:.1f} s; it is done every {pause:.0f} s.")
        return due

    def _say_goodbye(self):
        self.bar.close()
        if "ac" in self.tracked:
            note(f"Done. See it act: python logx.py play {self.dir}")
        else:
            note("Done.")

    def _create(self):
        """Makes the run's folder, with its config.json and a copy of the script."""
        a = self.args
        folder = None
        if rank == 0:
            name = f"{a.env_id}__{a.exp_name}__{a.seed}__{int(time.time())}"
            folder = new_folder(name.replace("/", "-").replace(":", "-"))
            (folder / self.script.name).write_bytes(self.script.read_bytes())
            write_config(folder, a, self.script)
        return gather(folder)[0]

    def _restore(self):
        """Takes up the run where its checkpoint left it."""
        state = read_checkpoint(self.dir)
        for name, x in self.tracked.items():
            x.load_state_dict(state[name])
        set_random_state(self.env, state["rngs"][rank])
        self.step = state["step"]
        self.epoch = state["epoch"]
        self.time = state["time"]
        if rank == 0:
            cut_progress(self.dir / "progress.csv", self.epoch)

    def _save(self, finished):
        """Writes checkpoint.pt. A kill at any moment leaves the old file or the new one, whole."""
        self.saved = time.perf_counter()
        rngs = gather(get_random_state(self.env))
        if rank == 0:
            state = {
                "script": self.script.name,
                "args": vars(self.args),
                "rngs": rngs,
                "step": self.step,
                "epoch": self.epoch,
                "time": self.time + self.saved - self.started,
            }
            for name, x in self.tracked.items():
                state[name] = x.state_dict()
            if finished and "buf" in state:
                state["buf"] = None
            write_checkpoint(self.dir, state)
        self.save_seconds = time.perf_counter() - self.saved


def new_folder(name):
    """Makes runs/NAME, or runs/NAME-1, ... where a run of the same second has taken that name."""
    for suffix in ["", *(f"-{i}" for i in range(1, 100))]:
        folder = Path("runs", name + suffix)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise FileExistsError(f"runs/{name} and 99 others are there already")


def write_config(folder, args, script):
    """Writes config.json: arguments, number of ranks, versions, and the script's git commit."""
    with contextlib.chdir(script.resolve().parent):
        commit = subprocess.getoutput("git describe --always --dirty --abbrev=40 --exclude=*")
    config = {"args": vars(args), "ranks": size, "commit": commit, "python": sys.version}
    for module in ("gymnasium", "mujoco", "numpy", "torch"):
        if module in sys.modules:
            config[module] = sys.modules[module].__version__
    text = json.dumps(config, indent=2) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")


def cut_progress(path, epochs):
    """Keeps the first rows of progress.csv only: the resumed run writes the later ones again."""
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines()
        kept = lines[: 1 + epochs]
        path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")


# Checkpoints --------------------------------------------------------------------------------------


def get_random_state(env):
    """Returns the state of all random generators, as JSON: weights_only refuses NumPy's arrays."""
    state = {
        "torch": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state(legacy=False),
        "env": env.unwrapped.np_random.bit_generator.state,
        "actions": env.action_space.np_random.bit_generator.state,
    }
    return json.dumps(state, default=np.ndarray.tolist)


def set_random_state(env, text):
    """Sets the random generators to a state that get_random_state returned."""
    state = json.loads(text)
    torch.set_rng_state(torch.tensor(state["torch"], dtype=torch.uint8))
    np.random.set_state(state["numpy"])
    env.unwrapped.np_random.bit_generator.state = state["env"]
    env.action_space.np_random.bit_generator.state = state["actions"]


def write_checkpoint(run, state):
    """Writes a run folder's checkpoint.pt, with a checksum at its end, which torch.load ignores."""
    path = Path(run, "checkpoint.pt.new")
    with open(path, "w+b") as f:
        torch.save(state, f)
        f.seek(0)
        checksum = hashlib.file_digest(f, "sha256").digest()
        f.write(checksum)
    os.replace(path, Path(run, "checkpoint.pt"))


def read_checkpoint(run):
    """Returns what a run folder's checkpoint.pt holds. Raises Stop if it is missing or damaged."""
    path = Path(run, "checkpoint.pt")
    data = b""
    if path.is_file():
        data = path.read_bytes()
    content = memoryview(data)[:-32]
    if hashlib.sha256(content).digest() != data[-32:]:
        raise Stop(f"{path} is missing or damaged")
    return torch.load(path, weights_only=True)


# Command line -------------------------------------------------------------------------------------


def parse(Args):
    """Returns the arguments: the command line's, or with --resume those of the run."""
    if size != launched:
        raise Stop(
            f"{launched} processes cannot see each other: "
            "mpi4py is missing, or the launcher is of another MPI"
        )
    args = tyro.cli(Args, console_outputs=rank == 0)
    if getattr(args, "resume", None) is None:
        return args

    state = read_checkpoint(args.resume)
    script = Path(sys.argv[0]).name
    made = f"{state['script']} in {len(state['rngs'])} process(es)"
    now = f"{script} in {size} process(es)"
    if made != now or state["args"].keys() != vars(args).keys():
        raise Stop(f"{args.resume} was made by {made}, or with other arguments; this is {now}")

    # Parsed again: what the command line does not give comes from the run.
    saved = replace(Args(**state["args"]), resume=args.resume)
    args = tyro.cli(Args, default=saved, console_outputs=rank == 0)
    if replace(args, total_timesteps=saved.total_timesteps) != saved:
        allowed = "--total-timesteps is the only other flag allowed"
        raise Stop(f"--resume takes its arguments from the run; {allowed}")
    buffer_is_gone = "buf" in state and state["buf"] is None
    if state["step"] >= args.total_timesteps or buffer_is_gone:
        note(f"{args.resume} is finished, at {state['step']:,} steps.")
        sys.exit(0)
    return args


def main(train, Args):
    """Runs train with the arguments of the command line.

    Errors become sentences. Under mpirun, a rank that fails takes the whole job down: the others
    would wait for it for ever.
    """
    args = None
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            # only rank 0 speaks
            with contextlib.redirect_stderr(sys.stderr if rank == 0 else nowhere):
                args = parse(Args)
                train(args)
    except Stop as e:
        fail(e, 2)
    except (FloatingPointError, OSError) as e:
        fail(e, 1)
    except KeyboardInterrupt:
        if args is None or Logger.run is None:
            fail("stopped", 130)
        fail(f"stopped; to resume: python {sys.argv[0]} --resume {Logger.run}", 130)
    except SystemExit as e:
        if args is None:  # the parser's, on every rank alike
            raise
        fail(traceback.format_exc(), e.code if isinstance(e.code, int) and e.code else 1)
    except BaseException:
        fail(traceback.format_exc(), 1)


def fail(complaint, code):
    """Prints the complaint and ends the program; under mpirun, the whole job."""
    if rank > 0:
        time.sleep(3)  # where all ranks complain alike, rank 0 ends the job before they repeat it
    name = f"{sys.argv[0]}, rank {rank}" if rank > 0 else sys.argv[0]
    print(f"{name}: {complaint}", file=sys.stderr, flush=True)
    if size > 1:
        time.sleep(0.5)  # for the launcher to pass the complaint on
        MPI.COMM_WORLD.Abort(code)
    sys.exit(code)


# Play ---------------------------------------------------------------------------------------------


@dataclass
class Play:
    """Runs the agent of a run, and prints its returns."""

    run: tyro.conf.Positional[str]  # run folder
    episodes: int = 10  # episodes to play
    stochastic: bool = False  # sample actions, as in training
    video: str | None = None  # MP4 file to write, in place of a window

    def __post_init__(self):
        check_range(self, 1, np.inf, "episodes")
        if self.video is not None and not self.video.endswith(".mp4"):
            raise ValueError("--video must be a file that ends in .mp4")


def play(args):
    """Rebuilds a run's agent and plays episodes."""
    state = read_checkpoint(args.run)
    if "ac" not in state:
        raise Stop(f"{args.run} holds no agent (ac)")
    has_display = {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()
    window = has_display or sys.platform in ("darwin", "win32")
    os.environ.setdefault("MUJOCO_GL", "glfw" if window else "egl")
    render_mode = None
    if args.video:
        render_mode = "rgb_array"
    elif window:
        render_mode = "human"

    # The copy in the run's folder: the script as it was when it ran.
    script = runpy.run_path(str(Path(args.run, state["script"])))
    script_args = script["Args"](**state["args"])
    env = script["make_env"](script_args, render_mode)
    ac = script["ActorCritic"](env.observation_space, env.action_space, script_args)
    ac.load_state_dict(state["ac"])

    film = None
    if args.video:
        fps = env.metadata.get("render_fps", 30)
        film = imageio.get_writer(args.video, fps=fps, macro_block_size=2)
    for episode in range(args.episodes):
        s, _ = env.reset(seed=episode)
        ep_ret = 0.0
        ended = False
        while not ended:
            a = script["get_action"](ac, s, deterministic=not args.stochastic)
            s, r, d, truncated, _ = env.step(a)
            ep_ret += r
            ended = d or truncated
            if film:
                film.append_data(env.render())
        print(f"episode {episode + 1}: return {ep_ret:.1f}", flush=True)


if __name__ == "__main__":
    sys.modules["logx"] = sys.modules[__name__]  # for the script, which imports it
    if sys.argv[1:2] == ["play"]:
        del sys.argv[1]  # the only command; without it, its arguments do
    main(play, Play)
