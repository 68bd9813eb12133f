"""Every line of the pages' ```sh blocks runs once in a short form, or is listed as not run.

A line that starts one of the six scripts is shortened by a rule: flags given later win. Any other
new line needs an entry in SHORT or NOT_RUN. The pages are those below docs/, README.md and
CONTRIBUTING.md.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import pytest
from helpers import ROOT, SCRIPTS

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(p for p in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in p.parts),
]
COPIES = ["my_ppo", "ppo_entropy"]  # what readers make of ppo.py
TINY = dict.fromkeys(
    [*SCRIPTS, *COPIES],
    "--total-timesteps 200 --steps-per-epoch 100 --hidden-sizes 8 --max-episode-steps 50",
)
for script in ("ddpg", "td3", "sac"):
    TINY[script] += " --start-steps 50 --update-after 150 --num-test-episodes 1 --replay-size 300"

# line -> what runs instead. {tiny} stands for the flags above, {ppo} or {sac} for a run's folder.
SHORT = {
    "tensorboard --logdir runs": "tensorboard --inspect --logdir runs",
    # doubled braces, since it goes through format()
    (line := """python sac.py --env-id Ant-v4 --env-kwargs '{"ctrl_cost_weight": 0.1}'"""): (
        f"{line} {TINY['sac']}".replace("{", "{{").replace("}", "}}")
    ),
    (line := r"printf 'alpha:4\nbeta:4\n' > hosts"): f"{line} && test $(wc -l < hosts) = 2",
    "mpirun -f hosts -np 8 python ppo.py": (
        "printf 'localhost:2\n' > hosts; mpirun -f hosts -np 2 python ppo.py {tiny}"
    ),
    "mpirun -f hosts -np 8 python ppo.py --env-id Hopper-v4": "",  # like the last one
    "mpirun -np 4 python ppo.py --env-id Hopper-v4": "",  # like the README's
    "for s in 1 2 3 4; do python sac.py --env-id Hopper-v4 --seed $s & done; wait": "",
    (line := "OMP_NUM_THREADS=2 python sac.py --hidden-sizes 1024 1024"): f"{line} {TINY['sac']}",
    (
        line := "echo 'int mkl_serv_intel_cpu_true(void){return 1;}' "
        "| cc -shared -fPIC -xc - -o libmklamd.so"
    ): line.replace("{", "{{").replace("}", "}}"),
    (line := "cp sac.py sac_cuda.py"): line,
    "patch sac_cuda.py benchmark/variants/sac_cuda.patch": (
        "cp sac.py sac_cuda.py; patch sac_cuda.py benchmark/variants/sac_cuda.patch"
    ),
    "cp ppo.py my_ppo.py": "cp ppo.py other.py; cmp ppo.py other.py",
    "diff ppo.py my_ppo.py": "diff ppo.py my_ppo.py",
    "diff ppo.py runs/CartPole-v1__ppo_entropy__0__1795394449/ppo_entropy.py": (
        "diff ppo.py {ppo_entropy}/ppo_entropy.py || test $? = 1"
    ),
    (
        "diff <(cut -d, -f1,2,5- runs/*__ppo__77__*/progress.csv) "
        "<(cut -d, -f1,2,5- runs/*__ppo_entropy__77__*/progress.csv)"
    ): "diff <(cut -d, -f1,2,5- {ppo}/progress.csv) <(cut -d, -f1,2,5- {ppo_entropy}/progress.csv)",
    (line := "python -m pytest -p no:cacheprovider test_ppo_entropy.py"): line,
    "python ppo.py --resume runs/Hopper-v4__ppo__1__1795394449 --total-timesteps 600000": (
        "cp -r {ppo} longer; python ppo.py --resume longer --total-timesteps 300; "
        "grep -q ^300, longer/progress.csv"
    ),
    "python sac.py --resume runs/Hopper-v4__sac__1__1795394449": "python sac.py --resume {sac}",
    "mpirun -np 4 python ppo.py --resume runs/Hopper-v4__ppo__0__1795394449": "",  # the same
}

# pattern of the whole line -> why it does not run
NOT_RUN = {
    r"python3 -m venv \.venv( && \.venv/bin/pip install -r requirements\.txt)?": (
        "downloads; .ci/run does it"
    ),
    r"(\.venv/bin/)?pip install .*": "downloads; .ci/run does it with requirements.txt",
    r"(.* && )?uv run .*": "downloads; test_siblings.py compares the scripts' pins",
    r"python -m venv \.venv-sbx": "for the next line",
    r"\.venv-sbx/bin/python -m pip install .*": "downloads JAX, and torch once more",
    r"\.ci/run": "it would start this test again",
    r"\. \.venv/bin/activate": "the tests run in that environment",
    r"(.* && )?(\.venv/bin/)?python -m pytest.*": "it could start this test; .ci/run does it",
    r"\.venv/bin/python -m sphinx .*": "the tests of the site build it",
    r"python benchmark/(?!plot)\w+\.py.*": "hours; the tests of benchmark/ call its parts",
    r"LD_PRELOAD=/usr/lib/.*libjemalloc.*": "a library that may be missing",
    r"python sac_cuda\.py .*": "needs a GPU; test_benchmark.py runs it on the CPU",
    r"python exercises/.*": "the tests of the exercises call the checker",
    r"python docs/rl/examples/\w+\.py.*": "a minute each; test_docs_examples.py runs them",
    r"python tests/mutants/run\.py.*": "half an hour; it runs the tests with a planted bug each",
    r"python tests/two_hosts\.py": "needs root; pytest does not run it",
    r"(\.venv/bin/)?ruff (check|format) \.": ".ci/run does it",
}


def shell_lines():
    lines = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S):
            lines += block.replace("\\\n", " ").splitlines()
    lines = [re.sub(r"(^|\s+)#.*", "", line).strip() for line in lines]
    return list(dict.fromkeys(line for line in lines if line))


def shorten(line):
    """The short form of a line; "" if it is not run, None if no rule covers it."""
    if line in SHORT:
        return SHORT[line].replace("{tiny}", TINY["ppo"])
    if any(re.fullmatch(pattern, line) for pattern in NOT_RUN):
        return ""
    if re.fullmatch(r"python benchmark/plot\.py runs/[^;&#>]*", line):
        return re.sub(r"runs/\*\S+", "runs/", line)  # the studies' runs are not there
    command = line.rpartition(" && ")[2] if ".venv/bin/pip" in line else line
    command = re.sub(r"-np \d+", "-np 2", command)
    command = re.sub(r"^for s in [\d ]+; do", "for s in 1; do", command)
    loops = r"^for c in [\d. ]+; do for s in [\d ]+; do"
    command = re.sub(loops, "for c in 0.1; do for s in 1; do", command)
    if play := re.fullmatch(r"(python logx\.py play) runs/\w+-v\d__(\w+?)__\d+__\d+(.*)", command):
        return f"{play[1]} {{{play[2]}}}{play[3]} --episodes 1"
    if command.startswith("python logx.py play benchmark/agents/"):
        return f"{command} --episodes 1"
    script = r"(.*?(?:^| |/)python (?:-m cProfile .*?)?(\w+)\.py\b[^;&#>]*?)( *(?:[;&#>].*)?)"
    start = re.fullmatch(script, command)
    if start and start[2] in TINY and "--resume" not in line:
        return f"{start[1]} {TINY[start[2]]}{start[3]}"
    return None


LINES = shell_lines()
COMMANDS = list(dict.fromkeys(filter(None, map(shorten, LINES))))
# These run in forks of one process that has loaded torch.
PLAIN = re.compile(r"(\.venv/bin/)?python [\w/]+\.py [^;&|<>$#]*")
RUNNER = """
import json, os, runpy, sys
import gymnasium, imageio, matplotlib.pyplot, mujoco, torch, torch.utils.tensorboard, tqdm, tyro
gymnasium.make("Pendulum-v1"), gymnasium.make("HalfCheetah-v4")
sys.path[0] = os.getcwd()
codes = []
for i, argv in enumerate(json.load(sys.stdin)):
    pid = os.fork()
    if pid == 0:
        out = os.open(f"out{i}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1), os.dup2(out, 2)
        sys.argv = argv
        runpy.run_path(argv[0], run_name="__main__")
        sys.stdout.flush()
        os._exit(0)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(json.dumps(codes))
"""


def run_plain(house, commands):
    """Runs lines that start a script. Returns {line: (exit code, what it printed)}."""
    argvs = [shlex.split(command)[1:] for command in commands]
    done = house.run([sys.executable, "-c", RUNNER], input=json.dumps(argvs))
    assert done.returncode == 0, done.stderr
    results = {}
    for i, (command, code) in enumerate(zip(commands, json.loads(done.stdout))):
        results[command] = code, (house.dir / f"out{i}").read_text(encoding="utf-8")
    return results


class House:
    """A reader's folder after install.md: scripts, files that the pages say to save, some runs."""

    def __init__(self, folder):
        self.dir = folder
        (folder / "benchmark").mkdir()
        for path in (*ROOT.glob("*.py"), ROOT / "benchmark" / "plot.py"):
            shutil.copy(path, folder / path.relative_to(ROOT))
        for name in ("variants", "agents"):
            shutil.copytree(ROOT / "benchmark" / name, folder / "benchmark" / name)
        (folder / ".venv").symlink_to(sys.prefix)
        shutil.copy(folder / "ppo.py", folder / "my_ppo.py")
        user = ROOT / "docs" / "user"
        running = (user / "running.md").read_text(encoding="utf-8")
        editing = (user / "editing.md").read_text(encoding="utf-8")
        for name in ("corridor", "my_envs"):
            saved = re.search(rf"`{name}\.py`:\n\n```python\n(.*?)^```$", running, re.M | re.S)[1]
            (folder / f"{name}.py").write_text(saved, encoding="utf-8")
        test = re.search(r"`test_ppo_entropy\.py`:\n\n```py\n(.*?)^```$", editing, re.M | re.S)[1]
        (folder / "test_ppo_entropy.py").write_text(test, encoding="utf-8")
        diff = re.search(r"^```diff\n(.*?)^```$", editing, re.M | re.S)[1]
        patched = self.run(["patch", "--fuzz=0", "--output=ppo_entropy.py", "ppo.py"], input=diff)
        misfit = f"the diff in editing.md no longer fits ppo.py:\n{patched.stdout}"
        assert patched.returncode == 0, misfit
        self.runs = {}

    def run(self, command, **kwargs):
        env = dict(os.environ)
        for name in ("PYTHONPATH", "DISPLAY", "WAYLAND_DISPLAY"):
            env.pop(name, None)
        env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        env["OMP_NUM_THREADS"] = "1"
        kwargs |= dict(cwd=self.dir, env=env, capture_output=True, text=True, timeout=1200)
        return subprocess.run(command, **kwargs)

    def train(self):
        """Trains the runs that lines refer to, once. Returns {script: folder of its run}."""
        if not self.runs:
            env_ids = {"sac": "Pendulum-v1", "ppo": "CartPole-v1", "ppo_entropy": "CartPole-v1"}
            commands = []
            for name, env_id in env_ids.items():
                commands.append(f"python {name}.py --env-id {env_id} --seed 77 {TINY[name]}")
            done = run_plain(self, commands)
            assert all(code == 0 for code, _ in done.values()), done
            for name in env_ids:
                self.runs[name] = next((self.dir / "runs").glob(f"*__{name}__77__*"))
        return self.runs


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    return House(tmp_path_factory.mktemp("house"))


def test_every_line_has_a_rule():
    missing = [line for line in LINES if shorten(line) is None]
    todo = "run these in a short form (SHORT), or say why not (NOT_RUN):\n"
    assert not missing, todo + "\n".join(missing)
    assert not SHORT.keys() - set(LINES), "no page has these lines any more"


def test_contributing_names_every_file_of_the_tests():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for path in (ROOT / "tests").glob("*.py"):
        assert f"`{path.name}`" in page or f"`tests/{path.name}`" in page, path.name


def test_lines_that_start_a_script(house):
    runs = house.train()  # to plot, play and resume
    commands = [c.format(**runs) for c in COMMANDS if PLAIN.fullmatch(c)]
    try:
        gym.make("Pendulum-v1", render_mode="rgb_array").reset()
    except Exception:  # this machine cannot draw
        commands = [c for c in commands if "--video" not in c]
    done = run_plain(house, commands)
    failed = []
    for command, (code, out) in done.items():
        if code:
            failed.append(f"{command}\nexit code {code}\n{out}")
    assert not failed, "\n\n".join(failed)


@pytest.mark.parametrize("command", [c for c in COMMANDS if not PLAIN.fullmatch(c)])
def test_line(house, command):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    if command.startswith("mpirun") and not shutil.which("mpirun", path=path):
        pytest.skip("there is no mpirun")
    if "{" in command:
        command = command.format(**house.train())
    elif re.search(r"\bruns\b", command):
        house.train()
    done = house.run(["bash", "-euo", "pipefail", "-c", command])
    assert done.returncode == 0, done.stdout + done.stderr
    if command.startswith("for "):  # its exit code tells nothing about runs before the last
        assert "Traceback" not in done.stderr and "Done. See it act" in done.stderr, done.stderr


def test_training_starts_from_an_agents_weights(house):
    page = (ROOT / "docs" / "user" / "editing.md").read_text(encoding="utf-8")
    before, line = re.search(r"^```diff\n ( .*)\n\+(.*load_state_dict.*)$", page, re.M).groups()
    for agent in sorted((house.dir / "benchmark" / "agents").glob("ppo-*")):
        source = (house.dir / "ppo.py").read_text(encoding="utf-8")
        assert source.count(before) == 1
        insert = line.replace("ppo-HalfCheetah-v4", agent.name)
        copy = source.replace(before, f"{before}\n{insert}")
        (house.dir / "warm.py").write_text(copy, encoding="utf-8")
        env_id = agent.name.removeprefix("ppo-")
        command = f"python {{}}.py --env-id {env_id} --total-timesteps 2000 --steps-per-epoch 2000"
        done = run_plain(house, [command.format("warm"), command.format("ppo")])
        returns = []
        for code, out in done.values():
            assert code == 0, out
            returns.append(float(re.findall(r"charts/episodic_return (\S+)", out)[0]))
        assert returns[0] > returns[1], agent.name


def test_corridor_can_be_learned(house):
    command = "python ppo.py --env-id corridor:Corridor-v0 --total-timesteps 8000"
    code, out = run_plain(house, [command])[command]
    returns = [float(x) for x in re.findall(r"charts/episodic_return (\S+)", out)]
    assert code == 0 and returns[-1] > returns[0], out
