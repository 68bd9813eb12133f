"""The scripts as texts: cited pseudocode, identical copies, how siblings differ, imports, pins."""

import ast
import difflib
import re
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest
from helpers import OFF_POLICY, ON_POLICY, ROOT, SCRIPTS, comment_lines

pytestmark = pytest.mark.fast

SOURCE = {name: (ROOT / f"{name}.py").read_text(encoding="utf-8") for name in [*SCRIPTS, "logx"]}
TREE = {name: ast.parse(text) for name, text in SOURCE.items()}

NUMBERS = {name: [str(n) for n in range(1, 17)] for name in OFF_POLICY}
NUMBERS |= {name: [str(n) for n in range(1, 9)] for name in ON_POLICY}
NUMBERS["trpo"] = ["1", "2", "3", "4", "5", "6", "7a", "7b", "8"]

NUMBER = r"\((\d+[a-z]?)\)"


def definitions(name):
    return {x.name: x for x in TREE[name].body if isinstance(x, ast.FunctionDef | ast.ClassDef)}


def citations(name):
    """(line number, cited number) of every comment like `# (5) (6)`, in the order of the text."""
    found = []
    for line, comment in comment_lines(SOURCE[name]).items():
        if re.search(NUMBER, comment):
            assert re.fullmatch(rf"# {NUMBER}( {NUMBER})*", comment), f"{name}.py:{line}: {comment}"
            found += [(line, number) for number in re.findall(NUMBER, comment)]
    return found


# pseudocode


@pytest.mark.parametrize("name", SCRIPTS)
def test_pseudocode_is_numbered_without_a_gap(name):
    assert re.findall(r"^ ?(\d+[a-z]?):", ast.get_docstring(TREE[name]), re.M) == NUMBERS[name]


@pytest.mark.parametrize("name", SCRIPTS)
def test_code_cites_every_number_and_no_other(name):
    cited = {number for _, number in citations(name)}
    assert cited == set(NUMBERS[name])


@pytest.mark.parametrize("name", SCRIPTS)
def test_citations_in_train_come_in_order(name):
    train = definitions(name)["train"]
    cited = [number for line, number in citations(name) if train.lineno <= line <= train.end_lineno]
    assert cited == NUMBERS[name]


@pytest.mark.parametrize("name", SCRIPTS)
def test_functions_begin_with_their_numbers(name):
    for function in definitions(name).values():
        numbered = "snapshot|get_action|compute_|update_|conjugate_gradient"
        if re.match(numbered, function.name):
            first_line = (ast.get_docstring(function) or "").partition("\n")[0]
            cited = re.findall(NUMBER, first_line)
            assert cited and first_line.startswith("("), f"{name}.py: {function.name}"
            assert set(cited) <= set(NUMBERS[name]), f"{name}.py: {function.name}"


# siblings

# (definition, the scripts in which it is the same)
COPIES = [
    ("mlp", SCRIPTS),
    ("make_env", ON_POLICY),
    ("make_env", OFF_POLICY),
    ("GaussianActor", ON_POLICY),
    ("CategoricalActor", ON_POLICY),
    ("Actor", ["ddpg", "td3"]),
    ("Critic", ON_POLICY),
    ("Critic", OFF_POLICY),
    ("ActorCritic", ON_POLICY),
    ("PathBuffer", ON_POLICY),
    ("snapshot", ON_POLICY),
    ("check_snapshot", ON_POLICY),
    ("get_action", ON_POLICY),
    ("compute_returns", ON_POLICY),
    ("compute_advantages", ON_POLICY),
    ("compute_batch", ON_POLICY),
    ("compute_loss_v", ON_POLICY),
    ("compute_grad_pi", ["vpg", "ppo"]),
    ("compute_grad_v", ON_POLICY),
    ("update_v", ON_POLICY),
    ("ReplayBuffer", OFF_POLICY),
    ("compute_grad_q", OFF_POLICY),
    ("compute_grad_pi", OFF_POLICY),
    ("update_q", OFF_POLICY),
    ("update_pi", OFF_POLICY),
    ("evaluate", OFF_POLICY),
]


@pytest.mark.parametrize(
    "what, names", COPIES, ids=[f"{what}-{'-'.join(names)}" for what, names in COPIES]
)
def test_copies_are_identical(what, names):
    texts = {}
    for name in names:
        text = ast.unparse(definitions(name)[what])
        texts[name] = text.replace(f"{name}.py", "SCRIPT.py")
    first, *others = names
    for other in others:
        lines = [texts[name].splitlines() for name in (first, other)]
        diff = difflib.unified_diff(*lines, f"{first}.py", f"{other}.py", n=1, lineterm="")
        assert texts[first] == texts[other], f"{what} differs:\n" + "\n".join(diff)


COMMON = ["env_id", "env_kwargs", "seed", "exp_name", "total_timesteps", "steps_per_epoch"]
COMMON += ["max_episode_steps", "hidden_sizes", "gamma", "resume", "compile"]


def fields(name):
    """{field: (type, help comment)} of a script's Args."""
    comments = comment_lines(SOURCE[name])
    args = [x for x in definitions(name)["Args"].body if isinstance(x, ast.AnnAssign)]
    return {x.target.id: (ast.unparse(x.annotation), comments.get(x.lineno)) for x in args}


@pytest.mark.parametrize("name", SCRIPTS)
def test_common_arguments_come_first(name):
    assert list(fields(name))[: len(COMMON)] == COMMON


@pytest.mark.parametrize("name", SCRIPTS)
def test_arguments_of_one_name_have_one_help(name):
    # the families differ in what an epoch is, and in what is finished after the last step
    of_a_family = {"total_timesteps", "steps_per_epoch"}
    family = ON_POLICY if name in ON_POLICY else OFF_POLICY
    for field, text in fields(name).items():
        assert text[1], f"{field} has no help"
        for other in family if field in of_a_family else SCRIPTS:
            if field == "compile" and "trpo" in (name, other):
                continue  # TRPO compiles less, and says so
            assert fields(other).get(field, text) == text, f"{field} of {name}.py and {other}.py"


def normalised(name):
    """A script's lines without docstrings and comments, with one name for all six algorithms."""
    tree = ast.parse(SOURCE[name])
    for node in ast.walk(tree):
        has_body = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if has_body and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    text = re.sub(rf"\b({'|'.join(SCRIPTS)})\b", "ALGO", ast.unparse(tree), flags=re.I)
    return [line for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize(
    "a, b, limit", [("ddpg", "td3", 10), ("td3", "sac", 18), ("vpg", "ppo", 8), ("vpg", "trpo", 22)]
)
def test_siblings_are_similar(tmp_path, a, b, limit):
    lines = {name: normalised(name) for name in (a, b)}
    for name in (a, b):
        (tmp_path / name).write_text("\n".join(lines[name]) + "\n", encoding="utf-8")
    diff = subprocess.run(["diff", "-w", a, b], cwd=tmp_path, capture_output=True, text=True).stdout
    changed = sum(line.startswith(("<", ">")) for line in diff.splitlines())
    percent = 100 * changed / (len(lines[a]) + len(lines[b]))
    assert percent <= limit, f"{percent:.1f} % of {a}.py and {b}.py differ"


# the list of scripts, and imports


def test_every_script_is_listed():
    assert {path.stem for path in ROOT.glob("*.py")} == {*SCRIPTS, "logx"}


def imports(name):
    """The top-level modules that a file imports, anywhere in it."""
    imported = set()
    for node in ast.walk(TREE[name]):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            imported.add(node.module.split(".")[0])
    return imported


@pytest.mark.parametrize("name", [*SCRIPTS, "logx"])
def test_imports_nothing_of_ours_but_logx(name):
    ours = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert imports(name) & ours == (set() if name == "logx" else {"logx"})


# what `uv run` installs

FOR_MPI = {"mpi4py", "mpich"}
# needed, but imported by other libraries: environments, SummaryWriter, films
INDIRECT = {"mujoco", "tensorboard", "imageio-ffmpeg"}
BROUGHT_ALONG = {"glfw": "mujoco"}  # imported, and required by a package that is listed


def package(requirement):
    return re.match(r"[\w.-]+", requirement)[0].lower()


def pins():
    """{package: its line in requirements.txt, without the comment}"""
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    lines = [re.sub(r"(^|\s+)#.*", "", line).strip() for line in text.splitlines()]
    return {package(line): line for line in lines if line}


def inline_metadata(name):
    """A script's inline metadata, found by the regular expression in PEP 723."""
    block = r"^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$"
    (found,) = re.finditer(block, SOURCE[name], re.M)
    assert found["type"] == "script"
    docstring, first_import = TREE[name].body[:2]
    line = SOURCE[name][: found.start()].count("\n") + 1
    assert docstring.end_lineno < line < first_import.lineno, "it belongs between the two"
    return tomllib.loads(re.sub(r"^# ?", "", found["content"], flags=re.M))


@pytest.mark.parametrize("name", SCRIPTS)
def test_inline_metadata_has_the_pins(name):
    found = inline_metadata(name)
    assert set(found) == {"requires-python", "dependencies"}
    assert found["requires-python"] == ">=3.11"  # as in the README
    listed = {package(line) for line in found["dependencies"]}
    assert found["dependencies"] == [line for key, line in pins().items() if key in listed]


@pytest.mark.parametrize("family", [ON_POLICY, OFF_POLICY])
def test_inline_metadata_is_the_same_in_a_family(family):
    first, *others = [inline_metadata(name) for name in family]
    assert all(other == first for other in others)
    listed = {package(line) for line in first["dependencies"]}
    assert listed & FOR_MPI == (FOR_MPI if family == ON_POLICY else set())


@pytest.mark.parametrize("name", SCRIPTS)
def test_inline_metadata_covers_the_imports(name):
    listed = {package(line) for line in inline_metadata(name)["dependencies"]}
    modules = (imports(name) | imports("logx")) - sys.stdlib_module_names - {"logx"}
    packages = metadata.packages_distributions()
    needed = {packages[module][0].lower() for module in modules} | INDIRECT
    for child, parent in BROUGHT_ALONG.items():
        assert child in {package(line) for line in metadata.requires(parent)}
    assert listed - FOR_MPI == needed - FOR_MPI - BROUGHT_ALONG.keys()
