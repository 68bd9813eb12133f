"""The one file that the six scripts share: MPI, environments, logging, checkpoints, play.

It knows no algorithm. `python logx.py play RUN` shows the agent of a run.
"""

import contextlib
import ctypes
import difflib
import functools
import hashlib
import io
import json
import os
import platform
import random
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


class NotFinite(FloatingPointError):
    """A number that became NaN or infinite: the program prints this sentence, and exits with 1."""


class CannotWrite(OSError):
    """A run's folder that cannot be written: the program prints this sentence, and exits with 1."""


# MPI ----------------------------------------------------------------------------------------------


def read_launcher(environ):
    """Returns the number of processes and the rank that the launcher announces; else 1 and 0."""
    # PMI: MPICH, Intel MPI, and Slurm's PMI2. OMPI: Open MPI.
    for name in ("PMI", "OMPI_COMM_WORLD"):
        if environ.get(f"{name}_SIZE"):
            return int(environ[f"{name}_SIZE"]), int(environ.get(f"{name}_RANK") or 0)

    # Others announce the rank alone; Slurm, which may have started them, knows the number.
    for name in ("PMIX_RANK", "PMI_RANK"):
        if environ.get(name):
            its_rank = int(environ[name])
            processes = environ.get("SLURM_STEP_NUM_TASKS") or environ.get("SLURM_NTASKS")
            if processes:
                return int(processes), its_rank
            return max(2, its_rank + 1), its_rank  # unknown; at least these
    return 1, 0


def import_mpi():
    """Returns mpi4py's MPI, ready to use; None if it is missing or does not fit the launcher."""
    try:
        import mpi4py

        mpi4py.rc.initialize = False
        mpi4py.rc.finalize = True
        from mpi4py import MPI
    except (ImportError, RuntimeError):
        return None

    # Under PMIx, an MPICH without PMIx would end the process when it is initialised.
    version = MPI.Get_library_version()
    knows_pmix = "MPICH" not in version or "pmix" in version.lower()
    if "PMIX_RANK" in os.environ and not knows_pmix:
        return None
    with warnings.catch_warnings(action="ignore"):  # about the launcher; parse() refuses it
        MPI.Init_thread()
    return MPI


launched, rank = read_launcher(os.environ)
MPI = import_mpi() if launched > 1 else None  # most people need no MPI
size = MPI.COMM_WORLD.size if MPI else 1  # if it is not `launched`, parse() refuses to go on


def gather(x):
    """Returns the list of all ranks' x, on every rank."""
    if size == 1:
        return [x]
    return MPI.COMM_WORLD.allgather(x)


def broadcast(module):
    """Gives every rank the parameters of rank 0."""
    if size > 1:
        module.load_state_dict(MPI.COMM_WORLD.bcast(module.state_dict()))


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
        grads = [p.grad for p in module.parameters() if p.grad is not None]
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


# Speed --------------------------------------------------------------------------------------------

compiled = {}  # function -> what torch.compile made of it


def setup(args):
    """Gives torch one thread, unless OMP_NUM_THREADS says otherwise; notes what would be slow.

    Raises Stop if --compile cannot work here.
    """
    # With small networks, more threads are often slower.
    if not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(1)

    # Adam's averages decay into numbers below 1e-38, which processors handle slowly: take 0.
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

    if sys.stderr.isatty() and needs_mkl_shim() and not has_mkl_shim():
        note("Note: docs/user/faster.md shows how torch runs faster on this processor.")

    if args.compile:
        check_compiler()


def needs_mkl_shim(cpuinfo="/proc/cpuinfo"):
    """Whether torch's matrix products are slow on this processor: one of AMD's, with AVX-512."""
    if not torch.backends.mkl.is_available() or not Path(cpuinfo).exists():
        return False
    text = Path(cpuinfo).read_text(encoding="utf-8")
    return "AuthenticAMD" in text and "avx512f" in text


def has_mkl_shim():
    """Whether the library was preloaded that gives these processors MKL's fast path."""
    return sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mkl_serv_intel_cpu_true")


def check_compiler():
    """Compiles a line, to have it fail now and not in the middle. Raises Stop."""
    begin = time.perf_counter()
    try:
        compile_function(lambda x: x + 1)(torch.zeros(1))
    except Exception as e:
        reason = str(e).strip().splitlines()[0]
        raise Stop(f"--compile needs a C++ compiler, like g++ or clang++: {reason}") from e
    note(f"Note: starting the compiler took {time.perf_counter() - begin:.1f} s.")


def compile_function(f):
    """f as one program, made by torch.compile when it is first called."""
    # Not public in torch 2.14.1: makes loss.backward() part of the program.
    torch._dynamo.config.trace_autograd_ops = True
    # Random numbers are drawn as usual, so that a compiled run has the same noise.
    options = {"fallback_random": True}
    return torch.compile(f, fullgraph=True, dynamic=False, options=options)


def compilable(f):
    """Decorator: with --compile, f becomes one compiled program, gradients and all.

    The last argument of f must be the run's Args. What f returns must be detached.
    """

    @functools.wraps(f)
    def wrapper(*inputs):
        if not inputs[-1].compile:
            return f(*inputs)
        if f in compiled:
            return compiled[f](*inputs)

        begin = time.perf_counter()
        compiled[f] = compile_function(f)
        result = compiled[f](*inputs)
        note(f"Note: compiling {f.__name__} took {time.perf_counter() - begin:.1f} s.")
        return result

    return wrapper


def forget_compiled():
    """Ends a run's use of compiled functions, since torch keeps few versions of each."""
    if compiled:
        compiled.clear()
        torch.compiler.reset()


# Environments -------------------------------------------------------------------------------------

opened = contextlib.ExitStack()  # knows how to close what was opened
opened_envs = []


def closing(train):
    """Decorator: closes and forgets what train opened or compiled, also when it fails."""

    @functools.wraps(train)
    def wrapper(args):
        try:
            return train(args)
        finally:
            opened.close()
            opened_envs.clear()
            forget_compiled()

    return wrapper


def close_env(env):
    """Closes an environment. If that fails, a line says so, and what went before is not lost."""
    try:
        env.close()
    except Exception as e:
        note(f"Note: the environment could not be closed: {e}")


def make_env(args, render_mode=None):
    """Seeds torch, NumPy and random; then makes the environment, with flat, plain numbers.

    They are seeded by args.seed and the rank, and first, since some environments draw from them
    when they are made. Discrete actions begin at 0. Raises Stop if the environment cannot be made,
    or observes images.
    """
    seed_globals(TRAINING, args.seed, rank)
    # v4 is requested on purpose.
    warnings.filterwarnings("ignore", message=".*(out of date|precision lowered by casting)")
    kwargs = json.loads(args.env_kwargs)
    if render_mode is not None:
        kwargs["render_mode"] = render_mode
    try:
        env = gym.make(args.env_id, args.max_episode_steps, **kwargs)
    except (gym.error.Error, ImportError, OSError, ValueError, TypeError) as e:
        reason = " ".join(str(e).split())
        if opened_envs:
            reason += " (a second one, for test episodes; --num-test-episodes 0 needs none)"
        raise Stop(f"cannot make the environment {args.env_id}: {reason}") from e
    opened.callback(close_env, env)
    opened_envs.append(env)

    env = flatten_observations(env, args.env_id)
    if isinstance(env.action_space, gym.spaces.Discrete):
        first = int(env.action_space.start)
        choices = gym.spaces.Discrete(env.action_space.n)
        # a Python number, since an array of shape () cannot be the key of a dict
        env = gym.wrappers.TransformAction(env, lambda a: int(a) + first, choices)
    return PlainNumbers(env)


class PlainNumbers(gym.Wrapper):
    """Gives observations as float32 copies, and rewards as floats.

    Copies, since some environments change one array in place. The bounds of observations do not
    matter here. reset raises NotFinite if the observation is not finite.
    """

    def __init__(self, env):
        super().__init__(env)
        shape = env.observation_space.shape
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, shape, np.float32)

    def reset(self, *, seed=None, options=None):
        s, info = self.env.reset(seed=seed, options=options)
        s = np.array(s, np.float32)
        if not np.isfinite(s).all():
            raise NotFinite("the observation at reset is NaN or infinite")
        return s, info

    def step(self, action):
        s, r, d, truncated, info = self.env.step(action)
        return np.array(s, np.float32), float(r), d, truncated, info


def flatten_observations(env, env_id):
    """The environment with flat vectors as observations. Raises Stop if that cannot be."""
    space = env.observation_space
    for inner in inner_spaces(space):
        if isinstance(inner, gym.spaces.Box) and inner.dtype == np.uint8 and len(inner.shape) > 1:
            raise Stop(
                f"{env_id} observes images ({inner}), which the networks here cannot read; if they "
                "are no images, wrap it in gymnasium.wrappers.FlattenObservation"
            )
    if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
        with contextlib.suppress(NotImplementedError, TypeError):
            env = gym.wrappers.FlattenObservation(env)
    flat = env.observation_space
    if not isinstance(flat, gym.spaces.Box) or len(flat.shape) != 1:
        raise Stop(
            f"{env_id} observes {space}, which has no fixed length; "
            "gymnasium.wrappers.TransformObservation can make a vector of it"
        )
    return env


def rescale_actions(env, env_id):
    """The environment with actions in [−1, 1], rescaled and clipped to its bounds.

    Dimensions without two finite bounds stay as they are. Raises Stop unless the space is a flat
    Box of real numbers, with low < high.
    """
    space = env.action_space
    wrapper = "gymnasium.wrappers.TransformAction"
    if len(space.shape) != 1:
        raise Stop(
            f"the actions of {env_id} are an array of shape {space.shape}, not a vector: "
            f"{wrapper} can reshape them"
        )
    if not np.issubdtype(space.dtype, np.floating):
        raise Stop(
            f"the actions of {env_id} are whole numbers ({space}): {wrapper} can make them "
            "Discrete, which vpg.py, trpo.py and ppo.py take"
        )
    if (space.low >= space.high).any():
        i = int(np.argmax(space.low >= space.high))
        raise Stop(
            f"action {i} of {env_id} has no room to move, from {space.low[i]} to {space.high[i]}: "
            f"{wrapper} can leave it out"
        )

    bounded = is_bounded(space)
    low = np.where(bounded, space.low, np.float64(-1))
    high = np.where(bounded, space.high, np.float64(1))
    middle = low / 2 + high / 2
    half = high / 2 - low / 2

    def to_env(a):
        # clipped, since noise exceeds [−1, 1], and so does rounding
        return np.clip(middle + half * a, space.low, space.high).astype(space.dtype)

    limit = np.where(bounded, np.float32(1), np.float32(np.inf))
    return gym.wrappers.TransformAction(env, to_env, gym.spaces.Box(-limit, limit))


def is_bounded(space):
    """Which dimensions of a Box have two finite bounds; float32's largest counts as infinite."""
    largest = np.finfo(np.float32).max
    return (space.low > -largest) & (space.high < largest)


def time_limit(env):
    """The steps after which an episode is cut, or None."""
    for layer in layers(env):
        if isinstance(layer, gym.wrappers.TimeLimit):
            return layer._max_episode_steps
    return None


def layers(env):
    """Yields the environment's wrappers, the outermost first, and then the environment itself."""
    while isinstance(env, gym.Wrapper):
        yield env
        env = env.env
    yield env


def inner_spaces(space):
    """Yields a space and all spaces inside it."""
    yield space
    children = []
    if isinstance(space, gym.spaces.Dict):
        children = space.spaces.values()
    elif isinstance(space, gym.spaces.Tuple | gym.spaces.OneOf):
        children = space.spaces
    elif isinstance(space, gym.spaces.Sequence):
        children = [space.feature_space]
    for child in children:
        yield from inner_spaces(child)


# Random numbers -----------------------------------------------------------------------------------

# What a seed is for. Together with --seed, and the rank or the step, it makes a stream of its own.
TRAINING = 0
TESTS = 1
PLAY = 2

# Whose seeds they are.
GLOBALS = 0
ENVIRONMENT = 1


def draw_seeds(n, *entropy):
    """Returns n unrelated seeds; other entropy, of the same length, gives other seeds."""
    return [int(x) for x in np.random.SeedSequence(entropy).generate_state(n)]


def seed_globals(*entropy):
    """Seeds torch, NumPy and Python's random."""
    torch_seed, numpy_seed, python_seed = draw_seeds(3, GLOBALS, *entropy)
    torch.manual_seed(torch_seed)
    np.random.seed(numpy_seed)
    random.seed(python_seed)


def seed_env(env, *entropy):
    """Seeds and resets an environment, and seeds each of its spaces."""
    spaces = {}
    for layer in layers(env):
        for space in (layer.action_space, layer.observation_space):
            spaces[id(space)] = space  # once, even if several layers share it
    env_seed, *seeds = draw_seeds(1 + len(spaces), ENVIRONMENT, *entropy)
    for space, seed in zip(spaces.values(), seeds):
        space.seed(seed)
    env.reset(seed=env_seed)


def seed_training(env, seed):
    """Seeds and resets this rank's environment for training, once it was made."""
    seed_env(env, TRAINING, seed, rank)


@contextlib.contextmanager
def separate_streams(env, seed, step):
    """Inside, random numbers depend on seed and step alone; on exit, training's are restored."""
    before = get_random_state(env)  # spaces, too: both environments may share them
    seed_globals(TESTS, seed, step)
    seed_env(env, TESTS, seed, step)
    try:
        yield
    finally:
        set_random_state(env, before)


def find_generators(env):
    """Returns the random generators of an environment and of all its spaces, each once."""
    found = [getattr(env.unwrapped, "np_random", None)]  # None: some have it only after a reset
    for layer in layers(env):
        for space in (layer.action_space, layer.observation_space):
            found += [inner.np_random for inner in inner_spaces(space)]
    once = {id(generator): generator for generator in found}
    return list(once.values())


def get_generator_state(generator):
    """Returns a generator's state, or None if it is of an unknown kind."""
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if isinstance(generator, np.random.RandomState):
        return generator.get_state(legacy=False)
    if isinstance(generator, random.Random):
        return generator.getstate()
    return None


def set_generator_state(generator, state):
    """Sets a generator to a state of get_generator_state, which may have passed through JSON."""
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(state)
    elif isinstance(generator, random.Random):
        version, numbers, gauss = state
        generator.setstate((version, tuple(numbers), gauss))


def get_random_state(env):
    """Returns the state of all random generators, as JSON: weights_only refuses NumPy's arrays."""
    state = {
        "torch": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state(legacy=False),
        "python": random.getstate(),
        "env": [get_generator_state(generator) for generator in find_generators(env)],
    }
    return json.dumps(state, default=np.ndarray.tolist)


def set_random_state(env, text):
    """Sets the random generators to a state that get_random_state returned."""
    state = json.loads(text)
    torch.set_rng_state(torch.tensor(state["torch"], dtype=torch.uint8))
    np.random.set_state(state["numpy"])
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    for generator, saved in zip(find_generators(env), state["env"]):
        if saved is not None:
            set_generator_state(generator, saved)


# Running statistics of wrappers -------------------------------------------------------------------


def find_statistics(env):
    """Returns the objects that learn inside wrappers such as NormalizeObservation.

    They are the attributes that end in _rms, each preceded by its wrapper, which may hold running
    numbers, too, as NormalizeReward does.
    """
    found = []
    for layer in layers(env):
        running = [x for name, x in vars(layer).items() if name.endswith("_rms")]
        if running:
            found += [layer, *running]
    return found


def get_statistics(env):
    """Returns the numbers in find_statistics' objects, as JSON."""
    state = []
    for x in find_statistics(env):
        numbers = {}
        for name, value in vars(x).items():
            is_number = isinstance(value, int | float | np.number | np.ndarray)
            if is_number and np.asarray(value).dtype.kind in "iuf":  # not bool
                numbers[name] = np.asarray(value).tolist()
        state.append(numbers)
    return json.dumps(state)


def set_statistics(env, text):
    """Sets the numbers in find_statistics' objects to what get_statistics returned."""
    for x, numbers in zip(find_statistics(env), json.loads(text)):
        for name, value in numbers.items():
            old = getattr(x, name)
            if isinstance(old, np.ndarray | np.number):
                value = np.asarray(value, old.dtype)
            setattr(x, name, value)


def freeze_statistics(env):
    """Ends the learning of an environment's wrappers: test episodes must not change anything."""
    for x in find_statistics(env):
        if hasattr(x, "update"):
            x.update = lambda *args, **kwargs: None


def copy_statistics(env, test_env):
    """Gives the test environment the statistics of the training environment, and freezes them."""
    set_statistics(test_env, get_statistics(env))
    freeze_statistics(test_env)


# Checks -------------------------------------------------------------------------------------------


def check_common(args):
    """Checks the arguments that all scripts have. Raises ValueError.

    NumPy's numbers become Python's, since neither JSON nor checkpoints take them.
    """
    for name, x in vars(args).items():
        if isinstance(x, np.generic | np.ndarray):
            setattr(args, name, x.tolist())
    args.hidden_sizes = tuple(int(n) for n in args.hidden_sizes)
    check_range(args, 0, 2**32 - 1, "seed")
    check_range(args, 0, 1, "gamma")
    check_range(args, 1, np.inf, "total_timesteps", "steps_per_epoch")
    check_range(args, 1, np.inf, "max_episode_steps", "hidden_sizes")

    try:
        kwargs = json.loads(args.env_kwargs)
    except (TypeError, ValueError) as e:
        raise ValueError(f"--env-kwargs must be JSON, like '{{\"enable_wind\": true}}': {e}") from e
    if not isinstance(kwargs, dict):
        raise ValueError(f"--env-kwargs must be a JSON object in braces, not {args.env_kwargs}")
    for name in ("id", "max_episode_steps", "render_mode"):
        if name in kwargs:
            raise ValueError(f"--env-kwargs cannot set {name}")


def check_range(args, low, high, *names):
    """Raises ValueError unless the named fields are finite and in [low, high], or None.

    A field may hold several numbers; each of them is checked.
    """
    for name in names:
        for x in np.ravel(getattr(args, name)):
            if x is not None and not (low <= x <= high and np.isfinite(x)):
                flag = "--" + name.replace("_", "-")
                allowed = f"between {low} and {high}"
                if high == np.inf:
                    allowed = f"finite, and at least {low}"
                raise ValueError(f"{flag} must be {allowed}, not {x}")


def check_finite(step, values):
    """Raises NotFinite, which names the step, if a value is NaN or infinite.

    values: {name: a number, or an array with a row for each of this rank's steps since `step`}.
    """
    for name, x in values.items():
        bad = ~np.isfinite(np.atleast_1d(x))
        if bad.any():
            first_row = np.argwhere(bad)[0, 0]
            raise NotFinite(f"{name} is NaN or infinite at step {step + first_row * size}")


def check_memory(n_bytes, flag):
    """Raises Stop if this machine has less memory than n_bytes."""
    if hasattr(os, "sysconf"):  # not on Windows
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if n_bytes > there:
            needed = f"{n_bytes / 1e9:,.0f} GB of memory, and this machine has {there / 1e9:,.0f}"
            raise Stop(f"{flag} takes {needed}: choose a smaller one")


# Logging ------------------------------------------------------------------------------------------


class Logger:
    """Writes a run's rows, curves and checkpoints to its folder `dir`, and shows its progress.

    script: the script's path; it is copied to the folder.
    columns: the names of all values that will be stored, besides the episodes' returns and lengths.
        Names that end in episodic_return get the columns _std, _min and _max as well.
    env: the training environment, whose random generators and statistics go into checkpoints.
    tracked: what else belongs to it, {name: object with state_dict() and load_state_dict()}. The
        checkpoint of a finished run leaves `buf` out, so that it is small to share.

    Training begins at step `step`, which is 0 unless the run is resumed. Methods raise CannotWrite
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
            try:
                self.dir = self._create()
                self._save(finished=False)
            except OSError as e:
                raise Stop(f"cannot make a run's folder here: {e}") from e
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
        opened.callback(self.bar.close)
        self.writer = None
        if rank == 0:
            # TensorBoard drops what came after the checkpoint: the run writes it again.
            purge_step = self.step + 1 if args.resume else None
            self.writer = SummaryWriter(self.dir, purge_step=purge_step)
            opened.callback(self.writer.close)

    def store(self, values):
        """Adds values, {column: number, list or tensor}, to the epoch's row, which has their mean.

        Of a tensor, its mean is added: keeping thousands of small tensors would fragment memory.
        """
        for name, x in values.items():
            if name not in self.values:
                raise KeyError(f"{name} has no column: add it to `columns` in train()")
            if isinstance(x, torch.Tensor):
                self.values[name].append(x.mean().item())
            else:
                self.values[name] += np.ravel(x).tolist()

    def episode(self, step, ep_ret, ep_len):
        """Logs a finished episode. Raises NotFinite if a loss or value is not finite."""
        self._check_latest(step)
        self.store({"charts/episodic_return": ep_ret, "charts/episodic_length": ep_len})
        self.bar.set_postfix_str(f"return {ep_ret:.1f}", refresh=False)
        self.bar.update(step - self.bar.n)

    def end_epoch(self, step):
        """Ends an epoch: writes and shows its row, then saves a checkpoint, if it is time to."""
        self._check_latest(step)
        row = self._make_row(step)
        finished = step >= self.args.total_timesteps
        self.bar.update(step - self.bar.n)
        try:
            if rank == 0:
                self._write_row(row)
                self._show_row(row)
            if self._is_time_to_save(finished):
                self._save(finished)
        except OSError as e:
            raise CannotWrite(f"cannot write to {self.dir}: {e}") from e
        if finished:
            self._say_goodbye()

    def _check_latest(self, step):
        """Raises NotFinite if a loss or value stored last is not finite."""
        latest = {}
        for name, xs in self.values.items():
            # rewards are checked in train(), which knows the exact step
            if xs and not name.startswith("charts/"):
                latest[name] = xs[-1]
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
        """Prints the row as a table of three columns, if there is no progress bar."""
        if self.bar.disable:
            cells = [f"{name:>28} {x:<11.6g}" for name, x in row.items() if x is not None]
            for i in range(0, len(cells), 3):
                print("".join(cells[i : i + 3]))
            print(flush=True)

    def _is_time_to_save(self, finished):
        """Whether to save: at every epoch, but less often where that takes over 3 % of the time."""
        pause = 33 * self.save_seconds
        elapsed = time.perf_counter() - self.saved
        due = finished or self.save_seconds < 0.03 or elapsed > pause
        due = gather(due)[0]  # rank 0 decides, since the others' clocks differ
        if not due and self.epoch % 10 == 1:
            note(f"Note: saving takes {self.save_seconds:.2f} s; it is done every {pause:.0f} s.")
        return due

    def _say_goodbye(self):
        """Ends the progress bar, and tells how to see the agent."""
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
        generator = find_generators(self.env)[0]
        if get_generator_state(generator) is None:
            kind = type(generator).__name__
            note(f"Note: a {kind} draws the environment's random numbers; resuming is not exact.")
        return gather(folder)[0]

    def _restore(self):
        """Takes up the run where its checkpoint left it; its folder follows the script and Args."""
        state = read_checkpoint(self.dir)
        for name, x in self.tracked.items():
            x.load_state_dict(state[name])
        set_random_state(self.env, state["rngs"][rank])
        set_statistics(self.env, state["statistics"][rank])
        self.step = state["step"]
        self.epoch = state["epoch"]
        self.time = state["time"]
        if rank == 0:
            cut_progress(self.dir / "progress.csv", self.epoch, list(self.values))
            update_copy(self.script, self.dir / self.script.name)
            write_config(self.dir, self.args, self.script)

    def _save(self, finished):
        """Writes checkpoint.pt. A kill at any moment leaves the old file or the new one, whole."""
        self.saved = time.perf_counter()
        rngs = gather(get_random_state(self.env))
        statistics = gather(get_statistics(self.env))
        if rank == 0:
            state = {
                "script": self.script.name,
                "args": vars(replace(self.args, resume=None)),
                "rngs": rngs,
                "statistics": statistics,
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
    """Writes config.json: the arguments, and what else tells how the run was made."""
    config = {
        "args": vars(replace(args, resume=None)),
        "ranks": size,
        "commit": read_commit(script.resolve().parent),
        "python": sys.version,
        "mkl_shim": has_mkl_shim(),
    }
    for module in ("gymnasium", "mujoco", "numpy", "torch"):
        if module in sys.modules:
            config[module] = sys.modules[module].__version__
    text = json.dumps(config, indent=2) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")


def read_commit(folder):
    """The git commit of a folder, with -dirty behind it if files were changed; None outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def update_copy(script, copy):
    """Replaces a resumed run's copy of the script, and says so, if the script was edited since."""
    new = script.read_text(encoding="utf-8")
    old = copy.read_text(encoding="utf-8") if copy.exists() else ""
    if new.splitlines() != old.splitlines():
        diff = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0)
        changes = [line for line in diff if line[0] in "+-" and not line.startswith(("+++", "---"))]
        note(
            f"Note: {script.name} was edited since this run last started: {len(changes)} changed "
            f"lines, the first: {changes[0]}"
        )
    copy.write_bytes(script.read_bytes())


def cut_progress(path, epochs, columns):
    """Keeps the first rows of progress.csv only: the resumed run writes the later ones again.

    Raises Stop if the script has other columns now.
    """
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines()
        there = set(lines[0].split(","))
        new = [name for name in columns if name not in there]
        if new:
            raise Stop(f"{path} has no column {new[0]}: start a new run with the edited script")
        kept = lines[: 1 + epochs]
        path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")


# Checkpoints --------------------------------------------------------------------------------------


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
    complaint = Stop(f"{path} is missing or damaged")
    if not path.is_file():
        raise complaint
    data = path.read_bytes()
    content = memoryview(data)[:-32]
    if hashlib.sha256(content).digest() != data[-32:]:
        raise complaint
    return torch.load(path, weights_only=True)


# Command line -------------------------------------------------------------------------------------


def parse(Args):
    """Returns the arguments: the command line's, or with --resume those of the run."""
    if size != launched:
        raise Stop(
            f"{launched} processes cannot see each other: "
            "mpi4py is missing, or the launcher belongs to a different MPI library"
        )
    args = tyro.cli(Args, console_outputs=rank == 0)
    if getattr(args, "resume", None) is None:
        return args

    state = read_checkpoint(args.resume)
    if "rngs" not in state:
        raise Stop(f"{args.resume} holds an agent's weights only: it can be played, not resumed")
    script = Path(sys.argv[0]).name
    made = f"{state['script']} in {len(state['rngs'])} process(es)"
    now = f"{script} in {size} process(es)"
    if made != now:
        raise Stop(f"{args.resume} was made by {made}; this is {now}")
    differ = sorted(state["args"].keys() ^ vars(args).keys())
    if differ:
        raise Stop(f"{args.resume} was made by a script with other arguments: {', '.join(differ)}")

    # Parsed again: what the command line does not give comes from the run.
    saved = replace(Args(**state["args"]), resume=args.resume)
    args = tyro.cli(Args, default=saved, console_outputs=rank == 0)
    if replace(args, total_timesteps=saved.total_timesteps) != saved:
        allowed = "--total-timesteps is the only other flag allowed"
        raise Stop(f"--resume takes its arguments from the run; {allowed}")
    if state["step"] >= args.total_timesteps:
        note(f"{args.resume} is finished, at {state['step']:,} steps.")
        sys.exit(0)
    if "buf" in state and state["buf"] is None:
        raise Stop(
            f"{args.resume} is finished, and its replay buffer is gone: "
            "it cannot train any longer; start a new run"
        )
    return args


def main(train, Args):
    """Runs train with the arguments of the command line.

    Bad input, numbers that are not finite, and full disks end in a sentence, other errors in a
    traceback. Under mpirun, a rank that fails ends the whole job: the others would wait for ever.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # for terminals that do not know γ
    args = None
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            # only rank 0 speaks
            with contextlib.redirect_stderr(sys.stderr if rank == 0 else nowhere):
                args = parse(Args)
                train(args)
    except Stop as e:
        fail(e, 2)
    except (NotFinite, CannotWrite) as e:
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
    if rank > 0 and size == 1:
        sys.exit(code)  # the launcher does not fit, and rank 0 says so
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
    """Plays a run's agent, and prints its returns."""

    run: tyro.conf.Positional[str]  # run folder
    episodes: int = 10  # episodes to play
    stochastic: bool = False  # sample actions, as in training
    video: str | None = None  # MP4 file to write, instead of opening a window
    window: bool = True  # open a window, if there is a display
    trust: bool = False  # run the folder's script even if it differs from the one beside logx.py

    def __post_init__(self):
        check_range(self, 1, np.inf, "episodes")
        if self.video is not None and not self.video.endswith(".mp4"):
            raise ValueError("--video must be a file that ends in .mp4")


@closing
def play(args):
    """Rebuilds a run's agent and plays episodes. Returns their returns."""
    state = read_checkpoint(args.run)
    if "ac" not in state:
        raise Stop(f"{args.run} holds no agent (ac)")
    other_code = f"{args.run} was made by other code; its config.json names the commit"
    if not {"script", "args", "statistics"} <= state.keys():
        raise Stop(other_code)
    script = load_script(Path(args.run), state["script"], args.trust)
    try:
        script_args = script["Args"](**state["args"])
    except (TypeError, ValueError) as e:
        raise Stop(f"{other_code}: {e}") from e
    env = make_play_env(script["make_env"], script_args, args)
    set_statistics(env, state["statistics"][0])
    freeze_statistics(env)
    seed_globals(PLAY, script_args.seed)
    seed_env(env, PLAY, script_args.seed)
    ac = script["ActorCritic"](env.observation_space, env.action_space, script_args)
    try:
        ac.load_state_dict(state["ac"])
    except RuntimeError as e:
        raise Stop(f"{other_code}: its networks are others") from e

    film = None
    if args.video:
        take_picture(env)  # before a file is made
        fps = env.metadata.get("render_fps") or 30
        try:
            film = imageio.get_writer(args.video, fps=fps, macro_block_size=2)
        except OSError as e:
            raise Stop(f"cannot write {args.video}: {e}") from e
        opened.callback(film.close)
    returns = []
    lengths = []
    for episode in range(args.episodes):
        s, _ = env.reset()
        ep_ret, ep_len = 0.0, 0
        ended = False
        while not ended:
            a = script["get_action"](ac, s, deterministic=not args.stochastic)
            s, r, d, truncated, _ = env.step(a)
            ended = d or truncated
            ep_ret += r
            ep_len += 1
            if film:
                film.append_data(take_picture(env))
        print(f"episode {episode + 1}: return {ep_ret:.1f}, {ep_len} steps", flush=True)
        returns.append(ep_ret)
        lengths.append(ep_len)
    print(f"return {np.mean(returns):.1f} ± {np.std(returns):.1f}, ", end="")
    print(f"length {np.mean(lengths):.1f} ± {np.std(lengths):.1f} (mean ± standard deviation)")
    return returns


def load_script(run, name, trust):
    """Executes a run's script and returns its names.

    A script from somebody else's folder is somebody else's code: unless trust is set, this raises
    Stop if it differs from the one beside logx.py.
    """
    copy = run / Path(name).name
    here = Path(__file__).resolve().parent / copy.name
    if not copy.is_file():
        copy = here
    if not copy.is_file():
        raise Stop(f"{name} is neither in {run} nor beside logx.py")
    same = here.is_file() and here.read_bytes() == copy.read_bytes()
    if not same and not trust:
        raise Stop(
            f"{copy} is not the same as {here.name} beside logx.py; "
            "if you trust it, --trust runs it, as it was when the agent was trained"
        )
    return runpy.run_path(str(copy))


def make_play_env(make_env, script_args, args):
    """Makes the environment with a way to show it: pictures for --video, a window, or none."""
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform in ("darwin", "win32"):
        display = "the screen"
    works = bool(display) and display_answers()
    if sys.platform.startswith("linux"):
        os.environ.setdefault("MUJOCO_GL", "glfw" if works else "egl")

    env = make_env(script_args)
    modes = env.metadata.get("render_modes") or []
    mode = None
    if args.video:
        mode = "rgb_array"
        if mode not in modes:
            raise Stop(f"{script_args.env_id} cannot be filmed: it has no render mode rgb_array")
    elif args.window and display and "human" in modes:
        mode = "human"
        if not works:
            raise Stop(f"the display {display} does not answer; --no-window prints returns only")
    if mode is None:
        return env
    opened.close()  # it was made only to ask for its render modes
    opened_envs.clear()
    env = make_env(script_args, mode)
    follow_agent(env)
    return env


def follow_agent(env):
    """Turns to the camera of a MuJoCo model that moves with the agent, unless one was chosen.

    Gymnasium's own default stands still, and most agents soon leave its view.
    """
    renderer = getattr(env.unwrapped, "mujoco_renderer", None)
    if renderer is not None and renderer.camera_id == -1:
        import mujoco

        track = mujoco.mj_name2id(renderer.model, mujoco.mjtObj.mjOBJ_CAMERA, "track")
        if track != -1:
            renderer.camera_id = track
            fixed = int(mujoco.mjtCamera.mjCAMERA_FIXED)  # to the model's camera
            renderer.default_cam_config = {"type": fixed, "fixedcamid": track}


def display_answers():
    """Whether a window can be opened. MuJoCo would end the process where it cannot."""
    try:
        import glfw
    except ImportError:  # no MuJoCo, and others say so themselves
        return True
    with warnings.catch_warnings(action="ignore"):
        return bool(glfw.init())


def take_picture(env):
    """A frame of the film, (height, width, 3). Raises Stop if the environment gives none."""
    frame = env.render()
    if not isinstance(frame, np.ndarray):
        raise Stop("the environment renders no pictures, so there is no film to write")
    return frame


if __name__ == "__main__":
    sys.modules["logx"] = sys.modules[__name__]  # for the script, which imports it
    if sys.argv[1:2] == ["play"]:
        del sys.argv[1]  # optional, being the only command
    main(play, Play)
