"""``python -m tools.bench NAME``: one benchmark a subcommand, loaded when it is asked for."""

from __future__ import annotations

import importlib
import importlib.util

import click

BENCHES = ("native", "scaling", "wasm", "arm")


class Benches(click.Group):
    """Subcommands are the modules of this package that have a ``main``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in BENCHES if importlib.util.find_spec(f"tools.bench.{name}")]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"tools.bench.{cmd_name}").main
        return command


@click.command(cls=Benches, help="Benchmarks of Gossamer beside its peers; each says with --help what it takes.")
def main() -> None:
    pass


if __name__ == "__main__":
    main(prog_name="python -m tools.bench")
