"""Trains PPO on two hosts, and takes one of them away. Needs root, iproute2 and openssh-server.

    python tests/two_hosts.py

The hosts, alpha and beta, are namespaces on this machine, joined by a virtual cable. Each has its
own name, network, processes, sshd, /tmp and /dev/shm, and both see one folder with the scripts, as
two machines do that share a file system. mpirun runs on alpha. pytest does not collect this file;
the last result is in two_hosts_last_result.txt.
"""

import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "user" / "mpi.md"
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin:/sbin"

ADDRESSES = {"alpha": "10.77.0.1", "beta": "10.77.0.2"}
SHARED = "/mnt"  # where both hosts see the folder with the scripts
LIMIT = 20  # seconds in which a job has to end once a host is gone
PATIENCE = 120  # seconds for everything that has to work

SHORT_RUN = "python ppo.py --env-id CartPole-v1 --total-timesteps 12000".split()
LONG_RUN = "python ppo.py --env-id CartPole-v1 --total-timesteps 1000000000".split()


class Missing(Exception):
    """Something that this machine lacks: ends the program with this sentence and exit code 2."""


class Failed(Exception):
    """What a check saw instead of what it should see."""


# Two hosts ----------------------------------------------------------------------------------------

# What a host does first, in namespaces of its own; it ends as the sshd. None of the mounts is seen
# outside. The private /tmp takes what mpirun leaves there when it is killed.
BOOT = """
hostname {name}
mount --bind {folder} {shared}
mount --bind {folder}/etc_hosts /etc/hosts
mount --bind {folder}/{name} /etc/ssh
if [ -d ~root/.ssh ]; then mount -t tmpfs none ~root/.ssh; fi
mount -t tmpfs none /tmp
mount -t tmpfs none /dev/shm
mount -t tmpfs none /run
mkdir /run/sshd
ip link set lo up
until ip link set eth0 up; do sleep 0.1; done 2>/dev/null
ip address add {address}/24 dev eth0
exec {sshd} -D -e
"""

SSHD_CONFIG = """
HostKey /etc/ssh/host_key
AuthorizedKeysFile /etc/ssh/user_key.pub
AuthenticationMethods publickey
UsePAM yes
PidFile none
"""

SSH_CONFIG = """
IdentityFile /etc/ssh/user_key
BatchMode yes
"""


class Host:
    """A set of namespaces, with an sshd as its first process; when that ends, all the others do."""

    def __init__(self, name, folder):
        script = BOOT.format(
            name=name,
            folder=folder,
            shared=SHARED,
            address=ADDRESSES[name],
            sshd=shutil.which("sshd", path=PATH),
        )
        command = "unshare --net --uts --ipc --pid --mount --mount-proc --fork --kill-child"
        self.name = name
        self.log = folder / f"{name}.log"
        with open(self.log, "w", encoding="utf-8") as log:
            self.unshare = subprocess.Popen(
                [*command.split(), "sh", "-ec", script],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.pid = wait_until(self._first_process, 10)
        if not self.pid:
            self.end()
            log = self.log.read_text(encoding="utf-8")
            raise Missing(f"this machine does not allow new namespaces: {log}")
        self.namespace = os.readlink(f"/proc/{self.pid}/ns/pid")

    def _first_process(self):
        if self.unshare.poll() is not None:
            return None
        children = Path(f"/proc/{self.unshare.pid}/task/{self.unshare.pid}/children")
        return children.read_text(encoding="utf-8").strip()

    def start(self, *command, **kwargs):
        """Starts a command on the host, in the shared folder; returns the Popen."""
        enter = ["nsenter", f"--target={self.pid}", "--all", "env", f"--chdir={SHARED}"]
        env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PATH": PATH}
        return subprocess.Popen([*enter, *command], env=env, stdin=subprocess.DEVNULL, **kwargs)

    def set_link(self, state):
        """Pulls the host's network cable ("down"), or plugs it in ("up")."""
        command = ["nsenter", f"--target={self.pid}", "--net", "ip", "link", "set", "eth0", state]
        subprocess.run(command, check=True)

    def ranks(self):
        """The ids of the processes on this host that train."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                here = os.readlink(process / "ns" / "pid") == self.namespace
                command = (process / "cmdline").read_text(encoding="utf-8").split("\0")
            except OSError:  # it has just ended
                continue
            if here and command[:2] == ["python", "ppo.py"]:
                found.append(process.name)
        return found

    def kill(self):
        """Kills every process of the host at once."""
        os.kill(int(self.pid), signal.SIGKILL)

    def end(self):
        """Ends the host: its processes, its network and its mounts."""
        self.unshare.kill()  # the first process goes with it, and all the others with that
        self.unshare.wait()
        if self.pid:
            wait_until(lambda: not Path(f"/proc/{self.pid}").exists(), 10)


def wait_until(condition, seconds):
    """Returns the condition's value as soon as it is true, or its last value after that time."""
    end = time.monotonic() + seconds
    value = condition()
    while not value and time.monotonic() < end:
        time.sleep(0.1)
        value = condition()
    return value


def make_key(path):
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True)


def fill(folder):
    """Writes what the hosts share: the scripts, the host file, and an /etc/ssh for each host."""
    for script in [*ROOT.glob("*.py"), Path(__file__)]:
        shutil.copy(script, folder)
    (folder / "hosts").write_text("alpha:2\nbeta:2\n", encoding="utf-8")
    (folder / "ssh_alive").write_text(read_launcher(), encoding="utf-8")
    (folder / "ssh_alive").chmod(0o755)

    names = [f"{address} {name}\n" for name, address in ADDRESSES.items()]
    (folder / "etc_hosts").write_text("127.0.0.1 localhost\n" + "".join(names), encoding="utf-8")

    make_key(folder / "user_key")
    known_hosts = ""
    for name in ADDRESSES:
        (folder / name).mkdir()
        make_key(folder / name / "host_key")
        kind, key, _ = (folder / name / "host_key.pub").read_text(encoding="utf-8").split()
        known_hosts += f"{name} {kind} {key}\n"
    for name in ADDRESSES:
        shutil.copy(folder / "user_key", folder / name)
        shutil.copy(folder / "user_key.pub", folder / name)
        (folder / name / "ssh_known_hosts").write_text(known_hosts, encoding="utf-8")
        (folder / name / "ssh_config").write_text(SSH_CONFIG, encoding="utf-8")
        (folder / name / "sshd_config").write_text(SSHD_CONFIG, encoding="utf-8")


def read_launcher():
    """The text of ssh_alive, which the page tells its readers to save."""
    page = PAGE.read_text(encoding="utf-8")
    found = re.search(r"`ssh_alive`.*?:\n\n```\w+\n(.*?)^```$", page, re.M | re.S)
    return found[1]


def log_in(folder, alpha):
    """Waits until alpha can log in to beta without a password."""

    def try_it():
        with open(folder / "ssh.log", "w", encoding="utf-8") as log:
            return alpha.start("ssh", "beta", "true", stderr=log).wait() == 0

    if not wait_until(try_it, 15):
        logs = [path.read_text(encoding="utf-8") for path in folder.glob("*.log")]
        raise Failed("alpha cannot log in to beta:\n" + "\n".join(logs))


@contextmanager
def two_hosts():
    """The shared folder, alpha and beta, joined by a cable; nothing of them is left behind."""
    with tempfile.TemporaryDirectory(prefix="two_hosts_") as name:
        folder = Path(name)
        fill(folder)
        hosts = []
        try:
            for name in ADDRESSES:
                hosts.append(Host(name, folder))
            alpha, beta = hosts
            cable = f"ip link add eth0 netns {alpha.pid} type veth peer name eth0 netns {beta.pid}"
            subprocess.run(cable.split(), check=True)

            log_in(folder, alpha)
            yield folder, alpha, beta
        finally:
            for host in hosts:
                host.end()


# Jobs ---------------------------------------------------------------------------------------------


def run(host, *command, folder):
    """Runs a command on a host; it must succeed."""
    with open(folder / "out", "w", encoding="utf-8") as out:
        process = host.start(*command, stdout=out, stderr=out)
        code = wait(process, PATIENCE)
    if code != 0:
        raise Failed(f"exit code {code}\n{(folder / 'out').read_text(encoding='utf-8')}")


def wait(process, seconds):
    """The exit code of a process, as a shell shows it; None if it still runs after that time."""
    try:
        code = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return None
    if code < 0:  # ended by a signal
        return 128 - code
    return code


def start_long_run(folder, alpha, beta, *options):
    """Starts a run that does not end by itself; returns the process after the first epoch."""
    out = folder / "out"
    with open(out, "w", encoding="utf-8") as file:
        process = alpha.start(
            "mpirun", *options, "-f", "hosts", "-np", "4", *LONG_RUN, stdout=file, stderr=file
        )

    def has_started():
        return "global_step" in out.read_text(encoding="utf-8") or process.poll() is not None

    wait_until(has_started, PATIENCE)
    ranks = len(alpha.ranks()), len(beta.ranks())
    if process.poll() is not None or ranks != (2, 2):
        log = out.read_text(encoding="utf-8")
        raise Failed(f"the run did not start; ranks on the two hosts: {ranks}\n{log}")
    return process


def wait_for_failure(process, seconds=LIMIT):
    """A job has lost a host: it must end in time, and not with exit code 0. Returns a sentence."""
    begin = time.monotonic()
    code = wait(process, seconds)
    if code is None:
        raise Failed(f"mpirun was still running {seconds} s later")
    if code == 0:
        raise Failed("mpirun ended with exit code 0")
    return f"mpirun ended after {time.monotonic() - begin:.1f} s with exit code {code}"


def wait_for_ranks(host, seconds=LIMIT):
    """No rank must be left on a host. Returns a sentence."""
    begin = time.monotonic()
    if not wait_until(lambda: not host.ranks(), seconds):
        raise Failed(f"{host.name} still had {len(host.ranks())} ranks {seconds} s later")
    return f"no rank was left on {host.name} after {time.monotonic() - begin:.1f} s"


def compare_ranks():
    """What every rank of a check runs: trains, then rank 0 writes how the ranks compare."""
    import torch
    from torch.nn.utils import parameters_to_vector

    import logx
    import ppo

    class Recorded(ppo.ActorCritic):
        """Remembers the network that ppo.train makes, and its first parameters."""

        def __init__(self, *args):
            super().__init__(*args)
            Recorded.made = self
            Recorded.first = parameters_to_vector(self.parameters()).detach().clone()

    ppo.ActorCritic = Recorded
    ppo.train(ppo.Args(env_id="CartPole-v1", total_timesteps=12_000))

    mine = parameters_to_vector(Recorded.made.parameters()).detach()
    everyone = logx.gather(mine)
    namespace = os.readlink("/proc/self/ns/net")
    places = logx.gather((platform.node(), namespace))
    if logx.rank == 0:
        result = {
            "hosts": [name for name, _ in places],
            "networks": len({namespace for _, namespace in places}),
            "equal": all(torch.equal(x, mine) for x in everyone),
            "parameters": len(mine),
            "moved": (mine - Recorded.first).abs().max().item(),
        }
        Path("result.json").write_text(json.dumps(result), encoding="utf-8")


# Checks: each gets hosts of its own, and returns what it saw --------------------------------------


def check_training(folder, alpha, beta):
    """mpirun -f hosts -np 4 python ppo.py"""
    run(alpha, "mpirun", "-f", "hosts", "-np", "4", *SHORT_RUN, folder=folder)
    (run_folder,) = (folder / "runs").iterdir()
    ranks = json.loads((run_folder / "config.json").read_text(encoding="utf-8"))["ranks"]
    rows = len((run_folder / "progress.csv").read_text(encoding="utf-8").splitlines()) - 1
    if (ranks, rows) != (4, 3):
        raise Failed(f"{ranks} ranks wrote {rows} rows")
    return f"exit code 0; {ranks} ranks wrote {rows} rows"


def check_parameters(folder, alpha, beta):
    """after training, the ranks have equal parameters"""
    command = "mpirun -f hosts -np 4 python two_hosts.py compare".split()
    run(alpha, *command, folder=folder)
    seen = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    where = f"ranks on {', '.join(seen['hosts'])} in {seen['networks']} network namespaces"
    if seen["hosts"] != ["alpha", "alpha", "beta", "beta"] or seen["networks"] != 2:
        raise Failed(where)
    if not seen["equal"] or seen["moved"] == 0:
        raise Failed(f"{where}: {seen}")
    return (
        f"{where}; {seen['parameters']:,} parameters, equal bit for bit, "
        f"moved by up to {seen['moved']:.3f}"
    )


def check_beta_killed(folder, alpha, beta):
    """all processes on beta are killed"""
    process = start_long_run(folder, alpha, beta)
    beta.kill()
    return f"{wait_for_failure(process)}; {wait_for_ranks(alpha)}"


def check_alpha_killed(folder, alpha, beta):
    """all processes on alpha are killed, mpirun among them"""
    process = start_long_run(folder, alpha, beta)
    alpha.kill()
    process.wait()
    return wait_for_ranks(beta)


def check_silence(folder, alpha, beta):
    """beta's cable is pulled, with plain ssh"""
    process = start_long_run(folder, alpha, beta)
    beta.set_link("down")
    code = wait(process, 2 * LIMIT)
    if code is not None:
        raise Failed(f"mpirun ended with exit code {code}; {PAGE.name} says that it waits")
    return f"mpirun was still waiting {2 * LIMIT} s later, as {PAGE.name} says"


def check_silence_noticed(folder, alpha, beta):
    """beta's cable is pulled, with -launcher-exec ./ssh_alive"""
    process = start_long_run(folder, alpha, beta, "-launcher-exec", "./ssh_alive")
    beta.set_link("down")
    ended = f"{wait_for_failure(process)}; {wait_for_ranks(alpha)}"
    beta.set_link("up")
    return f"{ended}; cable back in: {wait_for_ranks(beta, seconds=60)}"


CHECKS = [
    check_training,
    check_parameters,
    check_beta_killed,
    check_alpha_killed,
    check_silence,
    check_silence_noticed,
]


# The command line ---------------------------------------------------------------------------------


def require():
    """Raises Missing if this machine lacks something."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise Missing("it needs Linux and root, to make network namespaces")
    packages = {"ip": "iproute2", "sshd": "openssh-server", "ssh": "openssh-client"}
    for program, package in packages.items():
        if not shutil.which(program, path=PATH):
            raise Missing(f"there is no {program}; install {package}")
    if not shutil.which("mpirun", path=PATH):
        raise Missing("there is no mpirun beside this Python; install requirements.txt")
    if sys.prefix.startswith(("/tmp/", f"{SHARED}/")):
        raise Missing(f"the hosts do not see {sys.prefix}; use a Python outside /tmp and {SHARED}")


def describe():
    """When and with what the checks run."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    commit = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    ssh = subprocess.run(["ssh", "-V"], capture_output=True, text=True).stderr.split(",")[0]
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    kernel = platform.release().split("-")[0]
    python = f"Python {platform.python_version()}"
    mpi = f"MPICH {version('mpich')}, mpi4py {version('mpi4py')}"
    return (
        f"python tests/two_hosts.py, commit {commit or 'unknown'}, {time.strftime('%Y-%m-%d')}:\n"
        f"{system}, Linux {kernel}, {os.cpu_count()} cores; {ssh}, {python}, {mpi}\n"
    )


def main():
    try:
        require()
        print(describe(), flush=True)
        failures = 0
        for check in CHECKS:
            try:
                with two_hosts() as (folder, alpha, beta):
                    seen = check(folder, alpha, beta)
                print(f"ok      {check.__doc__}:\n        {seen}", flush=True)
            except Failed as e:
                failures += 1
                print(f"FAILED  {check.__doc__}:\n        {e}", flush=True)
    except Missing as e:
        print(f"{sys.argv[0]}: {e}", file=sys.stderr)
        return 2
    print(f"\n{len(CHECKS) - failures} of {len(CHECKS)} checks passed")
    return 1 if failures else 0


if __name__ == "__main__":
    if sys.argv[1:] == ["compare"]:
        compare_ranks()
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the hosts are ended
        sys.exit(main())
