"""Opens and runs mutated bundles; the parent test watches for a crash. Arguments: sample name, seed, count."""

from __future__ import annotations

import random
import sys

from gossamer.bundle import container
from gossamer.compile.plan import PLAN_HEADER
from tests.native.goss import OK, Parts, open_and_run
from tests.native.plans import sample

INTERESTING = [
    0,
    1,
    2,
    3,
    4,
    15,
    16,
    17,
    63,
    64,
    127,
    128,
    255,
    256,
    65535,
    1 << 20,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
]


def truncations(data: bytes, rng: random.Random) -> list[bytes]:
    """Cut at every section boundary, one byte before and after, and at random lengths; the header's size follows."""
    cuts = {n + d for s in container.sections(data) for n in (s.offset, s.offset + s.size) for d in (-1, 0, 1)}
    cuts |= {rng.randrange(len(data)) for _ in range(60)}
    out = []
    for cut in sorted(c for c in cuts if 0 <= c <= len(data)):
        out.append(data[:cut])
        if cut >= 64:
            out.append(data[:16] + cut.to_bytes(8, "little") + data[24:cut])
    return out


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = rng.randrange(len(out))
        out[at] = rng.choice([out[at] ^ 1 << rng.randrange(8), rng.randrange(256), 0, 255])
    return bytes(out)


def mutate_records(data: bytes, rng: random.Random) -> bytes:
    """Changes fields of the plan's records to values that loaders get wrong, and keeps the container right."""
    parts = Parts.of(data)
    for _ in range(rng.choice([1, 1, 2, 3])):
        array = rng.choice([parts.header, parts.tensors, parts.ops, parts.ops, parts.refs, parts.inputs, parts.outputs])
        if not len(array):
            continue
        raw = array.view("u1").reshape(-1)
        size = rng.choice([1, 2, 4, 4, 4, 8])
        limit = PLAN_HEADER.itemsize - 28 if array is parts.header else len(raw)
        size = min(size, limit)
        at = rng.randrange(0, limit - size + 1) // size * size
        old = int.from_bytes(raw[at : at + size].tobytes(), "little")
        new = rng.choice([old + 1, old - 1, old * 2, -old, rng.choice(INTERESTING), rng.getrandbits(8 * size)])
        raw[at : at + size] = list((new % (1 << 8 * size)).to_bytes(size, "little"))
    if rng.random() < 0.3:
        weights = bytearray(parts.weights)
        if weights:
            weights[rng.randrange(len(weights))] = rng.randrange(256)
        parts.weights = bytes(weights)
    return parts.bytes()


def main() -> None:
    name, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    rng = random.Random(seed)
    data = sample(name)
    opened = refused = 0
    for case in truncations(data, rng):
        if case != data:
            status, _ = open_and_run(case)
            assert status != OK, "a truncated bundle ran"
    for i in range(count):
        status, result = open_and_run((mutate_records if i % 4 else mutate_bytes)(data, rng), seed=i)
        opened += status == OK
        refused += status != OK
        assert status == OK or result, "an error without a message"
    print(f"{opened} ran, {refused} refused")


if __name__ == "__main__":
    main()
