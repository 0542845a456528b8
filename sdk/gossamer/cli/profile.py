"""``gossamer profile``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gossamer.cli._common import PATH, json_option, open_session, print_json, session_options

_EPILOG = """\b
Examples:
  gossamer profile model.goss --runs 100
  gossamer profile model.goss --perfetto trace.json   (open it at https://ui.perfetto.dev)
  gossamer profile compare dense.goss sparse.goss     (see 'gossamer profile compare --help')
"""


class _Profile(click.Command):
    """Hands ``compare`` and what follows to its own command; a bundle of that name is ``./compare``."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if args and args[0] == "compare":
            from gossamer.cli import _profile_compare

            return _profile_compare.command.make_context(f"{info_name} compare", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command("profile", cls=_Profile, epilog=_EPILOG)
@click.argument("bundle", type=PATH)
@click.option("--runs", type=click.IntRange(1), default=50, show_default=True, help="Timed inferences.")
@click.option("--warmup", type=click.IntRange(0), default=5, show_default=True, help="Inferences before them.")
@click.option("-i", "--input", "source", type=PATH, help="A picture or array. [default: random input]")
@click.option("--sort", type=click.Choice(["order", "time"]), default="order", show_default=True)
@click.option("--limit", type=click.IntRange(1), help="Show at most this many operators.")
@click.option(
    "--chrome-trace", "--perfetto", "chrome_trace", type=PATH, help="Write a trace for Perfetto or Chrome here."
)
@session_options
@json_option
def command(
    bundle: Path,
    runs: int,
    warmup: int,
    source: Path | None,
    sort: str,
    limit: int | None,
    chrome_trace: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Time every operator of BUNDLE on this machine: median, minimum and 90th percentile in microseconds.

    Also told: the first run, the run from which on the times are steady, and clock and temperature where the machine
    shows them. 'gossamer profile compare A B' sets two profiles side by side.
    """
    from gossamer import _atomic

    if chrome_trace is not None:
        _atomic.check_target(chrome_trace)
    with open_session(bundle, options) as session:
        sample = None
        if source is not None:
            from gossamer.bundle.manifest import from_dict
            from gossamer.cli._inputs import named_samples

            sample = next(named_samples([source], list(from_dict(session.manifest).inputs)))[1]
        profile = session.profile(runs=runs, warmup=warmup, inputs=sample)
    if chrome_trace is not None:
        _atomic.write_text(chrome_trace, profile.chrome_trace())
    if as_json:
        print_json({**profile.to_json(), "chrome_trace": str(chrome_trace) if chrome_trace else None})
        return
    click.echo(profile.table(sort=sort, limit=limit))
    click.echo()
    click.echo(profile.summary())
    if chrome_trace is not None:
        click.echo(f"trace: {chrome_trace} (open it at https://ui.perfetto.dev)")
