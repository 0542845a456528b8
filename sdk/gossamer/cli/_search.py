"""What ``gossamer optimize`` does when it is to find the sparsities itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gossamer.cli._common import print_json
from gossamer.cli._progress import Bar

if TYPE_CHECKING:
    from gossamer.search.result import SearchResult


def search(
    arguments: Sequence[Any], options: Mapping[str, Any], *, report: Path | None, quiet: bool, as_json: bool
) -> None:
    """Runs :func:`gossamer.optimize_auto` and shows bundle, trials and report.

    Raises:
        ConstraintError: no bundle meets the goal; its trials are shown first.
    """
    from gossamer.search.auto import STAGES, optimize_auto
    from gossamer.search.result import ConstraintError

    try:
        with Bar(STAGES, quiet=quiet) as bar:
            result = optimize_auto(*arguments, progress=bar, **options)
    except ConstraintError as e:
        if as_json:
            print_json({"search": e.result.to_json()})
        else:
            click.echo(e.result.table())
            click.echo()
            click.echo(e.result.summary())
        raise
    assert result.bundle is not None
    written = _report(result, report, str(arguments[-1])) if report is not None else {}
    if as_json:
        print_json({**result.bundle.to_json(), "search": result.to_json(), **written})
        return
    from gossamer.cli.optimize import show

    show(result.bundle, report)
    click.echo()
    click.echo(result.layers())
    click.echo()
    click.echo(result.table())
    click.echo()
    click.echo(result.summary())
    if "plot" in written:
        click.echo(f"plot      {written['plot']}")


def check_report(report: Path, others: Mapping[str, Path], *, searched: bool) -> None:
    """Refuses a report that cannot be written or would replace one of the other files, before any work.

    Args:
        others: what each is to path.
        searched: a plot is written beside the report.

    Raises:
        OutputError: as said.
    """
    from gossamer import _atomic
    from gossamer._errors import OutputError

    for path in (report, _plot(report)) if searched else (report,):
        _atomic.check_target(path)
        for what, other in others.items():
            if path.resolve() == other.resolve():
                raise OutputError(f"the report would replace the {what}", where=str(path), hint="give another --report")


def _plot(report: Path) -> Path:
    """Where the plot of a search goes."""
    return report.with_name(f"{report.stem}-tradeoffs.png")


def _report(result: SearchResult, report: Path, where: str) -> dict[str, str]:
    """The HTML page, and the plot of the trials beside it."""
    from gossamer import _atomic
    from gossamer.report import _tradeoffs, bundle_report

    assert result.bundle is not None
    page = bundle_report(result.bundle.data, where=where, search=result, verify=False)
    return {
        "report": str(_atomic.write_text(report, page)),
        "plot": str(_atomic.write(_plot(report), _tradeoffs.png(result))),
    }
