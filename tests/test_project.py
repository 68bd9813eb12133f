"""The files around the code: citation, changelog, templates, workflows, ruff's hook, editor.

Workflows are only read here: GitHub alone can run them.
"""

import datetime
import json
import os
import re
import subprocess

import pytest
import yaml
from helpers import ROOT

pytestmark = pytest.mark.fast

GITHUB = ROOT / ".github"
CITATION = ROOT / "CITATION.cff"
PRE_COMMIT = ROOT / ".pre-commit-config.yaml"
DEVCONTAINER = ROOT / ".devcontainer" / "devcontainer.json"
FORMS = [GITHUB / "ISSUE_TEMPLATE" / name for name in ("bug.yml", "docs.yml")]
WORKFLOWS = [GITHUB / "workflows" / name for name in ("ci.yml", "site.yml")]


def read(path):
    return path.read_text(encoding="utf-8")


def load(path):
    return yaml.safe_load(read(path))


def test_all_are_there_and_in_git():
    names = ["SECURITY.md", "CHANGELOG.md", ".github/pull_request_template.md"]
    names += [".github/ISSUE_TEMPLATE/config.yml"]
    paths = [*FORMS, *WORKFLOWS, CITATION, PRE_COMMIT, DEVCONTAINER]
    names += [path.relative_to(ROOT).as_posix() for path in paths]
    for name in names:
        assert (ROOT / name).is_file(), name
    if not (ROOT / ".git").exists():
        pytest.skip("this copy is not a git repository")
    command = ["git", "check-ignore", "--no-index", *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and not done.stdout, f".gitignore hides {done.stdout}"


def test_citation():
    cited = load(CITATION)
    assert cited["cff-version"] == "1.2.0"
    assert cited["message"] and cited["title"] == "Spinning Up in Deep RL"
    assert cited["authors"] == [{"name": "The Spinning Up in Deep RL contributors"}]
    assert read(ROOT / "LICENSE").startswith(f"{cited['license']} License")
    if "date-released" in cited:
        assert isinstance(cited["date-released"], datetime.date)
    (original,) = cited["references"]
    assert original["authors"] == [{"family-names": "Achiam", "given-names": "Joshua"}]
    assert original["type"] and original["title"] and original["year"] == 2018


def test_changelog_has_the_cited_version():
    text = read(ROOT / "CHANGELOG.md")
    heads = re.findall(r"^## (\S+)", text, re.M)
    assert heads[0] == "Unreleased" and heads[1] == str(load(CITATION)["version"])


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_form(path):
    form = load(path)
    assert form["name"] and form["description"]
    ids = []
    for part in form["body"]:
        assert part["type"] in ("markdown", "input", "textarea")
        if part["type"] == "markdown":
            assert part["attributes"]["value"]
        else:
            assert part["attributes"]["label"]
            ids.append(part["id"])
    assert len(ids) == len(set(ids))
    wanted = {"bug": {"command", "output", "config"}, "docs": {"place", "sentence"}}
    assert wanted[path.stem] <= set(ids)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow(path):
    workflow = load(path)
    events = workflow[True]  # YAML 1.1 takes the key "on" for a truth value
    assert events["push"] == {"branches": ["main"]}
    assert workflow["permissions"] == {"contents": "read"}
    assert "group" in workflow["concurrency"]
    for job in workflow["jobs"].values():
        assert job["runs-on"].startswith("ubuntu-")
        if "needs" in job:
            assert job["needs"] in workflow["jobs"]
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            if "uses" in step:
                assert re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"])


def commands(path):
    """Everything that a workflow runs."""
    jobs = load(path)["jobs"].values()
    return "\n".join(step.get("run", "") for job in jobs for step in job["steps"])


def test_workflows_run_what_the_pages_say():
    ci, site = WORKFLOWS
    program = ROOT / ".ci" / "run"
    assert ".ci/run" in commands(ci) and os.access(program, os.X_OK)
    line = "python -m sphinx -W -b html docs docs/_build"
    assert line in commands(site) and line in read(ROOT / "README.md")
    for path in (*WORKFLOWS, DEVCONTAINER):  # all of them install torch's CPU build
        assert "https://download.pytorch.org/whl/cpu" in read(path)


def test_pre_commit_has_the_ruff_of_the_requirements():
    (repo,) = load(PRE_COMMIT)["repos"]
    assert [hook["id"] for hook in repo["hooks"]] == ["ruff-check", "ruff-format"]
    version = re.search(r"^ruff==(\S+)", read(ROOT / "requirements.txt"), re.M)[1]
    assert repo["rev"] == f"v{version}"


def test_devcontainer():
    made = json.loads(read(DEVCONTAINER))
    assert made["image"].endswith("python:3.11")
    assert "pip install" in made["postCreateCommand"]
    assert "-r requirements.txt" in made["postCreateCommand"]
    editor = made["customizations"]["vscode"]
    assert set(editor["extensions"]) == {"ms-python.python", "charliermarsh.ruff"}
