"""The files around the code say the same: version, change log, workflow, hooks, templates."""

import os
import re
import tomllib

import pytest
import yaml
from builders import ROOT

import reid_mtda

GITHUB = ROOT / ".github"


def read(path):
    return path.read_text(encoding="utf-8")


def test_the_version_is_one():
    newest = re.search(r"^## (\d+\.\d+\.\d+)", read(GITHUB / "CHANGELOG.md"), re.M)
    stated = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]["version"]
    assert reid_mtda.__version__ == stated == newest[1]


def test_the_workflow_runs_what_a_person_would_run():
    steps = [
        step.get("run", "")
        for job in yaml.safe_load(read(GITHUB / "workflows" / "ci.yml"))["jobs"].values()
        for step in job["steps"]
    ]
    targets = set(re.findall(r"^([a-z]+):(?!=)", read(ROOT / "Makefile"), re.M))
    assert {word for step in steps for word in re.findall(r"\bmake (\w+)", step)} <= targets
    assert ".ci/run" in steps and os.access(ROOT / ".ci" / "run", os.X_OK)
    assert read(ROOT / ".ci" / "run").splitlines()[-2:] == ["make check", "make test"]


def test_hooks_run_the_ruff_of_make_check():
    hooks = [hook for repo in yaml.safe_load(read(ROOT / ".pre-commit-config.yaml"))["repos"] for hook in repo["hooks"]]
    commands = {hook["entry"].removeprefix(".venv/bin/").removesuffix(" --force-exclude") for hook in hooks}
    asked = re.findall(r"^\t\$\(BIN\)/(ruff \w+)", read(ROOT / "Makefile"), re.M)
    assert commands == set(asked) and len(asked) == 2


@pytest.mark.parametrize("name", ["bug", "idea"])
def test_issue_templates_have_what_github_wants(name):
    form = yaml.safe_load(read(GITHUB / "ISSUE_TEMPLATE" / f"{name}.yml"))
    assert form["name"] and form["description"] and form["body"]
    for field in form["body"]:
        assert field["type"] == "markdown" or (field["id"] and field["attributes"]["label"])


def test_papers_cited_by_number_are_defined_with_title_and_venue():
    """P1 to P4 of docstrings, presets and pages stand in the package's page; each is cited, and no other number is."""
    table = read(ROOT / "reid_mtda" / "README.md").partition("## Papers")[2]
    defined = dict(re.findall(r"^\| (P\d+) \| .{40,} \| .*\b(20\d\d), \[arXiv", table, re.M))
    places = [
        *ROOT.glob("reid_mtda/**/*.py"),
        *ROOT.glob("configs/**/*.*"),
        *ROOT.glob(".github/*.md"),
        ROOT / "README.md",
    ]
    cited = {number for place in places for number in re.findall(r"\bP\d+\b", read(place))}
    assert cited == set(defined) == {"P1", "P2", "P3", "P4"}


HOUSE = ROOT / "reid_mtda" / "README.md"


def test_the_page_of_the_package_names_files_that_are_there():
    named = {word for code in re.findall(r"`([^`\n]+)`", read(HOUSE)) for word in code.split()}
    paths = {word for word in named if re.fullmatch(r"[a-z_/]+(\.py|/)", word)}
    missing = {path for path in paths if not ((HOUSE.parent / path).exists() or (ROOT / path).exists())}
    assert not missing and len(paths) > 20
    tasks = re.findall(r"^\| .+ \| `([\w/]+(?:\.py|/))` \|$", read(HOUSE).partition("## Where is")[2], re.M)
    assert len(tasks) >= 12 and all((HOUSE.parent / path).exists() for path in tasks)


def test_the_page_of_the_package_has_the_layers_that_are_checked():
    """Who adds a layer to pyproject.toml says on the page what it holds."""
    contracts = tomllib.loads(read(ROOT / "pyproject.toml"))["tool"]["importlinter"]["contracts"]
    layers = [layer.replace("(", "").replace(")", "") for layer in contracts[0]["layers"]]
    table = read(HOUSE).partition("## Folders")[2].partition("\n\n## ")[0]
    shown = [cell.replace("`", "").replace("\\|", "|") for cell in re.findall(r"^\| (`.+?) \| [^`].*\|$", table, re.M)]
    assert shown == layers
