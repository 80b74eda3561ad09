"""What the documents tell a user to type exists: verbs, options, make targets and files."""

import ast
import inspect
import itertools
import operator
import re
import shlex
from pathlib import Path

import pytest
import typer
from builders import ROOT

import reid_mtda
import reid_mtda.types
from reid_mtda.cli import app

NOT_OURS = {".venv", ".pytest_cache", "runs", "shared", "node_modules"}
PAGES = sorted(path for path in ROOT.rglob("*.md") if not NOT_OURS & set(path.relative_to(ROOT).parts))
KEPT = ("configs/", "tools/", "tests/", "reid_mtda/", "cameras/street")
"""Folders of the repository: a path in them that a page names must be there. Other paths are the reader's."""
IDS = [str(page.relative_to(ROOT)) for page in PAGES]
every_page = pytest.mark.parametrize("page", PAGES, ids=IDS)


def shell_lines(text):
    """Lines of ``bash``, ``sh`` or ``console`` blocks, continuations joined, prompts and comments left out."""
    for block in re.findall(r"^ *```(?:bash|sh|shell|console)\n(.*?)^ *```", text, re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.strip().removeprefix("$ "), comments=True)
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                words = words[1:]
            if words:
                yield words


def inline_code(text):
    """Words of `reid-mtda ...` and `make ...` in running text."""
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S)
    for code in re.findall(r"`([^`\n]+)`", prose):
        if code.split()[0] in ("reid-mtda", "make"):
            yield shlex.split(code)


def check_command(words):
    """Parse ``reid-mtda VERB ARGS`` as the program would, without doing it."""
    group = typer.main.get_command(app)
    verb, *args = words[1:] or ["--help"]
    assert verb == "--help" or verb in group.commands, f"no such verb: {verb}"
    if verb == "--help" or "--help" in args:
        return
    args = args[: next((n for n, word in enumerate(args) if word in ("|", ">", "&&", ";", "&")), len(args))]
    try:
        group.commands[verb].make_context(verb, list(args))
    except typer.TyperException as error:
        raise AssertionError(f"{' '.join(words)}: {getattr(error, 'format_message', error.__str__)()}") from None


def make_targets():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z][a-z-]*):(?!=)", text, re.M))


@every_page
def test_commands_exist(page):
    for words in shell_lines(page.read_text(encoding="utf-8")):
        if Path(words[0]).name == "reid-mtda":
            check_command(words)
        if words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= make_targets(), " ".join(words)


@every_page
def test_commands_named_in_the_text_exist(page):
    for words in inline_code(page.read_text(encoding="utf-8")):
        if words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= make_targets(), " ".join(words)
        else:
            group = typer.main.get_command(app)
            assert words[1:2] == [] or words[1] in ("--help", "...", "<verb>", "VERB", *group.commands), " ".join(words)
            known = {name for param in getattr(group.commands.get(words[-1] if len(words) == 2 else words[1], None),
                                               "params", []) for name in param.opts}  # fmt: skip
            options = {word.split("=")[0] for word in words[2:] if word.startswith("-")}
            assert options <= known | {"--help"}, " ".join(words)


def options():
    """Options of every verb, those of groups included, and of the scripts in tools."""
    verbs = list(typer.main.get_command(app).commands.values())
    for verb in verbs:  # it grows
        verbs += getattr(verb, "commands", {}).values()
    scripts = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tools").glob("*.py"))
    named = {name for verb in verbs for param in verb.params for name in param.opts}
    return {"--help"} | named | set(re.findall(r'"(--[a-z-]+)"', scripts))


@every_page
def test_options_named_alone_in_the_text_exist(page):
    """`--tls` or `serve --tls` in running text; other programs' options are written after their names."""
    prose = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    verbs = typer.main.get_command(app).commands
    for code in re.findall(r"`([^`\n]+)`", prose):
        first, *_ = words = code.split()
        if first.startswith("--") or first in verbs:
            assert {word.split("=")[0] for word in words if word.startswith("--")} <= options(), f"{page.name}: {code}"


@every_page
def test_files_exist(page):
    text = page.read_text(encoding="utf-8")
    named = {word for words in shell_lines(text) for word in words}
    named |= {word for code in re.findall(r"`([^`\n]+)`", text) for word in code.split()}
    for path in sorted(named):
        if path.startswith(KEPT) and not set("*<>{}") & set(path) and path.isascii():
            assert (ROOT / path.split("#")[0].rstrip(".,;:")).exists(), f"{page.name} names {path}"


@every_page
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text):
        if not re.match(r"[a-z]+:", target) and not target.startswith("#"):
            assert (page.parent / target.split("#")[0]).exists(), f"{page.name} links to {target}"


@every_page
def test_links_to_a_heading_find_it(page):
    for target in re.findall(r"\]\(([^)\s]+#[^)\s]+)\)", "x" + page.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", target):
            file, _, heading = target.partition("#")
            text = (page.parent / file if file else page).read_text(encoding="utf-8")
            slugs = {
                re.sub(r"[^\w -]", "", line.strip().lower()).replace(" ", "-")
                for line in re.findall(r"^#+ (.*)$", text, re.M)
            }
            assert heading in slugs, f"{page.name} links to {target}"


@every_page
def test_python_blocks_can_be_parsed(page):
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
        ast.parse(block)


def calls(text):
    """Calls of what ``import reid_mtda as rm`` offers in Python blocks: (dotted name, positions, keywords)."""
    for block in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("rm."):
                yield ast.unparse(node.func)[3:], len(node.args), [keyword.arg for keyword in node.keywords]


def check_call(name, positions, keywords):
    target = operator.attrgetter(name)(reid_mtda)
    inspect.signature(target).bind(*[None] * positions, **dict.fromkeys(keywords))


@every_page
@pytest.mark.skipif(not hasattr(reid_mtda, "load_model"), reason="the package does not offer load_model yet")
def test_python_blocks_call_what_the_package_offers(page):
    for call in calls(page.read_text(encoding="utf-8")):
        check_call(*call)


def test_a_call_that_does_not_exist_is_caught():
    text = "```python\nrm.types.Preprocess(256, width=128)\nrm.types.Preprocess(256, depth=3)\nrm.types.No()\n```\n"
    sound, depth, missing = calls(text)
    check_call(*sound)
    with pytest.raises(TypeError, match="depth"):
        check_call(*depth)
    with pytest.raises(AttributeError, match="No"):
        check_call(*missing)


def test_the_readme_starts_with_the_two_commands():
    lines = [" ".join(words) for words in shell_lines((ROOT / "README.md").read_text(encoding="utf-8"))]
    assert lines[:2] == ["make demo", "make test"]


def test_the_readme_stays_short():
    assert len((ROOT / "README.md").read_bytes()) < 12_000


def test_the_readmes_results_stand_in_the_pages_they_link_to():
    rows = re.findall(
        r"^\| \[[^\]]+\]\((configs/benchmark/\w+\.md)\) \|(.*)$", (ROOT / "README.md").read_text("utf-8"), re.M
    )
    assert len(rows) == 10
    for page, row in rows:
        cells = set(re.findall(r"\d+\.\d ± \d+\.\d", row))
        assert len(cells) >= 3 and all(f"| {cell} |" in (ROOT / page).read_text("utf-8") for cell in cells), row


RESULTS = [page for page in PAGES if page.parent == ROOT / "configs" / "benchmark" and page.name != "README.md"]


@pytest.mark.parametrize("page", RESULTS, ids=[page.name for page in RESULTS])
def test_each_table_of_results_stands_beside_its_preset_with_its_commands(page):
    """A page has its preset's name, closes its markers, and says how each table between markers is written."""
    text, place = page.read_text(encoding="utf-8"), str(page.relative_to(ROOT))
    index = (page.parent / "README.md").read_text(encoding="utf-8")
    assert f"({page.name})" in index
    opened, closed = re.findall(r"<!-- (\w+) -->", text), re.findall(r"<!-- /(\w+) -->", text)
    assert opened == closed and opened
    if page.stem == "footage":  # two clips of others, written by hand
        return
    assert page.with_suffix(".yaml").is_file() and f"({page.stem}.yaml)" in text
    lines = [words[1:] for words in shell_lines(text) if words[0] == "reid-mtda"]
    written = [dict(itertools.pairwise(words)) for words in lines if words[0] == "table"]
    assert [(words["--page"], words["--name"]) for words in written] == [(place, name) for name in opened]
    assert any(words[:2] == ["benchmark", place.removesuffix(".md") + ".yaml"] for words in lines)


@pytest.mark.parametrize(
    "line",
    [
        "reid-mtda fly",
        "reid-mtda search a.jpg --model m --gallery g --bogus",
        "reid-mtda index cameras/street --model m",
        "reid-mtda harvest cameras/street extra --out o",
        "reid-mtda search a.jpg --model m --gallery g -k none",
    ],
)
def test_a_command_that_does_not_exist_is_caught(line):
    with pytest.raises(AssertionError):
        check_command(shlex.split(line))


def test_commands_are_found_in_blocks():
    text = "x\n   ```bash\n   $ A=1 reid-mtda demo \\\n     --out o   # and so on\n   ```\n```yaml\nreid-mtda no\n```\n"
    assert list(shell_lines(text)) == [["reid-mtda", "demo", "--out", "o"]]
    assert list(inline_code("run `reid-mtda demo --out x`, not `ls`")) == [["reid-mtda", "demo", "--out", "x"]]
