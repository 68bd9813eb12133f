"""docs/user/outputs.md names all that a run writes: columns, checkpoint keys, settings."""

import json
import re

from helpers import ROOT, SCRIPTS, TINY, read_rows, train

import logx

PAGE = (ROOT / "docs" / "user" / "outputs.md").read_text(encoding="utf-8")


def test_page_names_what_runs_leave(tmp_path):
    columns, keys, config = set(), set(), set()
    for name in SCRIPTS:
        folder = tmp_path / name
        folder.mkdir()
        run = train(f"{name}.py", *TINY[name], cwd=folder)
        columns |= read_rows(run)[0].keys()
        keys |= logx.read_checkpoint(run).keys()
        config |= json.loads((run / "config.json").read_text(encoding="utf-8")).keys()
    # written as `charts/episodic_return_std`, `_min`, `_max`
    short = {c for c in columns if re.search(r"_(std|min|max)$", c)}
    named = set(re.findall(r"`([^`\n]+)`", PAGE))
    assert columns - short <= named
    assert {c for c in short if c.endswith("_std")} | {"_min", "_max"} <= named
    assert {x for x in named if re.match(r"(charts|eval|losses|values)/", x)} <= columns
    assert keys <= named
    assert all(re.search(rf"\b{name}\b", PAGE, re.I) for name in config)
