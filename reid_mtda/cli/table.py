"""``reid-mtda table``: results of finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def table(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Run folders of one experiment, a seed each; or that of closed sets or objectives."),
    ],
    data: Annotated[str, typer.Option(help="With --root: archive, market1501, ..., torchreid:NAME.")] = "archive",
    root: Annotated[Path | None, typer.Option(help="Score the runs' networks on this data set instead.")] = None,
    stages: Annotated[bool, typer.Option("--stages", help="Time and memory of the first run instead.")] = False,
    against: Annotated[
        str | None, typer.Option(help="Of a closed-set benchmark: also every row minus this one, paired.")
    ] = None,
    page: Annotated[Path | None, typer.Option(help="Write it into this page between <!-- NAME --> markers.")] = None,
    name: Annotated[str, typer.Option(help="Name of the markers.")] = "street",
) -> None:
    """Make the results table of finished runs: mean and spread over seeds, from the run folders alone."""
    from reid_mtda.bench.objectives import parts_of, parts_table
    from reid_mtda.bench.results import fill_page, kind_of
    from reid_mtda.errors import ConfigError

    if against is not None and (root is not None or kind_of(runs[0]) != "closed_set"):
        raise ConfigError(
            "--against: is of a closed-set benchmark; a re-identification table has its differences, leave it out"
        )
    if root is not None:
        from reid_mtda.bench.experiment import table_elsewhere

        text = table_elsewhere(runs, data, root)
    elif parts_of(runs[0]):
        text = parts_table(runs[0])
    elif kind_of(runs[0]) == "closed_set":
        from reid_mtda.bench.closed.table import differences, markdown, read_trials, summarise

        trials = read_trials(runs[0])
        text = markdown(summarise(trials)).rstrip()
        if against is not None:
            text += "\n\n" + differences(trials, against)
    else:
        from reid_mtda.bench.retrieval_table import seeds_table, stages_table

        text = stages_table(runs[0]) if stages else seeds_table(runs)
    if page is None:
        print(text)
    else:
        fill_page(page, name, text)
