"""``gossamer verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gossamer.cli._common import PATH, json_option, print_json

_EPILOG = """\b
Examples:
  gossamer verify model.goss
  gossamer verify model.goss --against model.onnx -i photos/ --min-top1 95
"""


@click.command("verify", epilog=_EPILOG)
@click.argument("bundle", type=PATH)
@click.option("--against", type=PATH, help="The model it was made from: compare the outputs.")
@click.option("-i", "--input", "inputs", type=PATH, multiple=True, help="Pictures or arrays. [default: random inputs]")
@click.option("--samples", type=click.IntRange(1), default=32, show_default=True, help="At most this many.")
@click.option("--max-error", type=click.FloatRange(0), help="Largest absolute error allowed.")
@click.option("--min-snr", type=float, help="Smallest signal to noise ratio allowed, in dB.")
@click.option("--min-top1", type=click.FloatRange(0, 100), help="Smallest top-1 agreement allowed, in percent.")
@click.option("--trusted-key", "trusted_keys", type=PATH, multiple=True, help="Accept only these .pub files.")
@click.option("--no-signature", is_flag=True, help="Check structure and outputs, not the signature.")
@json_option
def command(
    bundle: Path,
    against: Path | None,
    inputs: tuple[Path, ...],
    samples: int,
    max_error: float | None,
    min_snr: float | None,
    min_top1: float | None,
    trusted_keys: tuple[Path, ...],
    no_signature: bool,
    as_json: bool,
) -> None:
    """Check BUNDLE: signature, trust, structure; with --against also its outputs.

    Limits that are not stated follow from the recipe: 60 dB when nothing was pruned or quantised (25 dB for
    originals in int8), 10 dB when quantised, none when pruned.
    Exit code 14 when a limit is passed, 9 when the signature is not good.
    """
    from gossamer._verify_against import verify_against
    from gossamer.bundle.sign import read
    from gossamer.bundle.verify import check_structure, signer, verify
    from gossamer.cli._progress import Bar

    data = read(bundle)
    keys = list(trusted_keys) or None
    if no_signature:
        check_structure(data, str(bundle))
        who = signer(data, keys)
    else:
        who = verify(data, keys, str(bundle))
    value: dict[str, Any] = {
        "bundle": str(bundle),
        "signature": {
            "signer": who.fingerprint,
            "valid": who.valid,
            "trusted": who.trusted,
            "checked": not no_signature,
        },
        "structure": "ok",
    }
    agreement = None
    if against is not None:
        with Bar(["compare"], quiet=as_json) as bar:
            agreement = verify_against(
                data,
                against,
                list(inputs) or None,
                samples=samples,
                max_abs_error=max_error,
                min_snr_db=min_snr,
                min_top1_percent=min_top1,
                verify=not no_signature,
                trusted_keys=keys,
                progress=lambda done, total: bar("compare", done, total),
            )
        value["against"] = {"original": str(against), **agreement.to_json()}
    if as_json:
        print_json(value)
    else:
        click.echo(f"signature: {who}" + (" (not checked)" if no_signature else ""))
        click.echo("structure: ok")
        if agreement is not None:
            click.echo(
                f"compared with {against} on {agreement.engine}, {agreement.samples} samples: {agreement.source}"
            )
            click.echo(agreement.table())
            limits = ", ".join(f"{k} {v:g}" for k, v in agreement.limits.items())
            click.echo(
                f"limits: {limits or 'none: the weights were pruned; state some with --min-top1 or --max-error'}"
            )
    if agreement is not None:
        agreement.check()
