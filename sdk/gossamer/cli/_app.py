"""The command group: commands are loaded when they are called, so that ``--help`` stays quick."""

from __future__ import annotations

import importlib

import click

from gossamer._version import __version__

_COMMANDS = {
    "optimize": "Prune, quantise, compile and sign a model.",
    "inspect": "Show what is in a bundle.",
    "verify": "Check signature and structure; compare with the original.",
    "run": "Run a bundle on pictures or arrays.",
    "profile": "Time every operator.",
    "report": "Write an HTML report about a bundle.",
    "keys": "Make, list and trust keys.",
    "sign": "Sign a bundle.",
    "diff": "Compare two bundles.",
    "recipes": "List and show recipes, training methods and techniques.",
    "person": "Judge, run and train person detectors.",
    "serve": "Serve registry, optimizer and fleet over gRPC.",
    "tokens": "Make, list and revoke tokens of a server.",
    "certificate": "Make the certificate of a registry's device port.",
    "device": "Flash, run and profile bundles on devices.",
    "fleet": "Enrol devices, roll versions out, see profiles.",
    "registry": "Push bundles to a server, list versions.",
    "doctor": "Check this installation.",
    "version": "Show versions.",
}

_EPILOG = """\b
Examples:
  gossamer optimize model.onnx -r 1x4-75-int8 --calibration photos/ -o model.goss
  gossamer run model.goss -i cat.jpg

\b
Exit codes: 0 success, 1 internal error, 2 usage, 3 model, 4 unsupported, 5 recipe,
6 calibration, 7 compile, 8 bundle, 9 signature, 10 input, 11 output, 12 key file,
13 backend, 14 mismatch or difference, 15 native core, 16 memory, 17 unreachable, 18 incompatible,
19 nothing to do, 20 rolled back, 21 older bundle, 22 slots, 23 access, 129 SIGHUP, 130 Ctrl-C,
143 SIGTERM.

GOSSAMER_DEBUG=1 shows tracebacks; GOSSAMER_HOME is the folder of keys and trust.
"""


class _Lazy(click.Group):
    """Knows the names of its commands and imports one when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"gossamer.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], _COMMANDS, 1)
            ctx.fail(f"no command {args[0]!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(
    cls=_Lazy, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="gossamer")
def app() -> None:
    """Make neural networks sparse, pack them into one signed bundle, and run them everywhere."""
