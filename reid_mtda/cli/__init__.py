"""``reid-mtda <verb>``: each verb is one function in a file of its name, registered here in the order of the help.

Torch is imported only by the verbs that train, and only when they run.
"""

from __future__ import annotations

import errno
import logging
import sys

import typer

from reid_mtda.cli import (
    adapt,
    audit,
    backup,
    benchmark,
    demo,
    doctor,
    dpia,
    evaluate,
    evidence,
    export,
    export_crops,
    frigate,
    harvest,
    index,
    models,
    search,
    serve,
    site,
    table,
    token,
)
from reid_mtda.cli.preset_kinds import name_preset
from reid_mtda.console import drop_output, fail
from reid_mtda.errors import ReidError

app = typer.Typer(
    name="reid-mtda",
    help="Person re-identification that adapts itself, without labels, to every camera of a site.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
audit_app = typer.Typer(help="The record of who searched what, when and why.", no_args_is_help=True)
app.add_typer(audit_app, name="audit")
audit_app.command()(audit.verify)
backup_app = typer.Typer(help="A service's gallery and state in one file.", no_args_is_help=True)
app.add_typer(backup_app, name="backup")
backup_app.command()(backup.make)
backup_app.command()(backup.verify)
backup_app.command()(backup.restore)
evidence_app = typer.Typer(help="Packages of evidence of confirmed reviews.", no_args_is_help=True)
app.add_typer(evidence_app, name="evidence")
evidence_app.command()(evidence.verify)
site_app = typer.Typer(help="Sites: folders of camera files.", no_args_is_help=True)
app.add_typer(site_app, name="site")
site_app.command()(site.init)
models_app = typer.Typer(help="Ready-made networks: fetch them, add your own, check them.", no_args_is_help=True)
app.add_typer(models_app, name="models")
models_app.command("list")(models.list_models)
models_app.command()(models.pull)
models_app.command()(models.add)
models_app.command()(models.verify)
for verb in (
    demo.demo,
    harvest.harvest,
    adapt.adapt,
    evaluate.evaluate,
    export.export,
    export_crops.export_crops,
    index.index,
    search.search,
    serve.serve,
    frigate.frigate,
    token.token,
    doctor.doctor,
    dpia.dpia,
    benchmark.benchmark,
    table.table,
):
    app.command()(verb)
INTERRUPTED = 130
"""What typer returns after Ctrl-C."""


def main() -> None:
    """Run the command line: a ReidError is one line on standard error and exit code 2, never a traceback."""
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    if sys.argv[1:] in ([], ["audit"], ["backup"], ["evidence"], ["models"], ["site"]):
        sys.argv.append("--help")
    try:
        code = app(standalone_mode=False)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        sys.stdout.flush()
    except typer.TyperException as error:
        message, context = getattr(error, "format_message", error.__str__)(), getattr(error, "ctx", None)
        fail(f"{message.rstrip('.')}; see '{context.command_path if context else 'reid-mtda'} --help'")
    except (KeyboardInterrupt, typer.Abort):
        fail("stopped by Ctrl-C; what was finished is kept: run the same command again to go on")
    except ReidError as error:
        fail(name_preset(str(error), sys.argv[1:]))
    except OSError as error:
        drop_output()
        if error.errno == errno.EPIPE:
            sys.exit(2)
        where = error.filename or "disk or standard output"  # a failed write does not tell where it went
        if error.errno == errno.ENOSPC:
            fail(f"{where}: no space left; free some and run the same command again")
        fail(f"{where}: {error.strerror or error}; check the path and its permissions")
    sys.exit(code if isinstance(code, int) else 0)
