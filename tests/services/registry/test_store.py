"""The blob store under power cuts, full disks, wrong bytes and garbage collection, on a simulated and a real disk."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

pytest.importorskip("grpc", reason="grpcio is missing: pip install -e ./services")
pytest.importorskip("sqlalchemy", reason="SQLAlchemy is missing: pip install -e ./services")

from gossamer_services.common.errors import Code, ServiceError
from gossamer_services.registry import uploads as uploads_module
from gossamer_services.registry.blobs import BlobStore
from gossamer_services.registry.files import DiskFiles
from gossamer_services.registry.uploads import Uploads
from tests.services.registry.sim_files import PowerCut, SimFiles

CHUNKS = [bytes([65 + i]) * 100 for i in range(8)]
DATA = b"".join(CHUNKS)
DIGEST = hashlib.sha256(DATA).hexdigest()
OLD = b"a blob of before"


def open_uploads(files, **options) -> Uploads:
    limits = {"max_blob_bytes": 10_000, "max_per_caller": 4, "lifetime_s": 100.0, **options}
    return Uploads(BlobStore(files, clock=lambda: getattr(files, "clock_s", 0.0)), **limits)


def put(uploads: Uploads, data: bytes, ref: str = "r", caller: str = "me", stop: int | None = None) -> None:
    """Upload in chunks of 100, from what is held; with ``stop`` the stream ends early at that many bytes."""
    stream = uploads.begin(caller, ref, len(data), hashlib.sha256(data).hexdigest())
    if stream is None:
        return
    try:
        while stream.state.offset < (len(data) if stop is None else stop):
            offset = stream.state.offset
            stream.write(offset, data[offset : offset + 100])
        if stop is None:
            assert stream.finish()
    finally:
        stream.close()


def read(uploads: Uploads, digest: str) -> bytes:
    with uploads.blobs.open(digest) as f:
        return f.read()


def check_whole(uploads: Uploads) -> None:
    """The invariant: whatever is on the shelf has its digest."""
    for digest in uploads.blobs.shelf.list():
        assert hashlib.sha256(read(uploads, digest)).hexdigest() == digest


@pytest.fixture
def small_syncs(monkeypatch):
    """Progress is recorded every 200 bytes, so that records and data mix."""
    monkeypatch.setattr(uploads_module, "SYNC_BYTES", 200)


def workload(uploads: Uploads, acknowledged: set[str]) -> None:
    """An upload that breaks off twice, a second ref of the same bytes, and one that is dropped."""
    put(uploads, DATA, stop=300)
    put(uploads, DATA, stop=500)
    put(uploads, b"dropped" * 50, ref="x", stop=200)
    uploads.drop("me", "x")
    put(uploads, DATA)
    acknowledged.add(DIGEST)
    put(uploads, DATA, ref="again")


def count_operations() -> int:
    files = SimFiles()
    uploads = open_uploads(files)
    put(uploads, OLD)
    before = files.operations
    workload(uploads, set())
    return files.operations - before


def test_power_cut_before_every_operation(small_syncs):
    total = count_operations()
    assert total > 40
    old = hashlib.sha256(OLD).hexdigest()
    for k in range(1, total + 1):
        for seed in range(6):
            files = SimFiles()
            uploads = open_uploads(files)
            put(uploads, OLD)
            acknowledged: set[str] = set()
            files.cut_at = files.operations + k
            with pytest.raises(PowerCut):
                workload(uploads, acknowledged)
            files.crash(seed * 1000 + k)
            after = open_uploads(files)
            check_whole(after)
            assert read(after, old) == OLD, (k, seed)
            if DIGEST in acknowledged:
                assert read(after, DIGEST) == DATA, (k, seed)
            # A client goes on as clients do: drop what is not theirs any more, upload from what is held.
            put(after, DATA)
            assert read(after, DIGEST) == DATA, (k, seed)
            check_whole(after)


def test_disk_full_at_every_operation(small_syncs):
    total = count_operations()
    refused = 0
    for k in range(1, total + 1):
        files = SimFiles()
        uploads = open_uploads(files)
        put(uploads, OLD)
        files.full_at = files.operations + k
        try:
            workload(uploads, set())
        except ServiceError as e:
            refused += 1
            assert (e.code, e.reason) == (Code.RESOURCE_EXHAUSTED, "STORAGE_FULL"), e
        check_whole(uploads)
        files.full_at = None  # somebody freed space: the same process goes on, and so does another
        put(uploads, DATA)
        assert read(uploads, DIGEST) == DATA
        assert read(open_uploads(files), DIGEST) == DATA
    assert refused > 20


def test_synced_progress_survives_a_power_cut(small_syncs):
    files = SimFiles()
    put(open_uploads(files), DATA, stop=500)
    files.crash(1)
    after = open_uploads(files)
    assert after.find("me", "r").offset == 500
    stream = after.begin("me", "r", len(DATA), DIGEST)
    assert stream is not None
    assert stream.state.offset == 500
    stream.write(500, DATA[500:])
    assert stream.finish()
    assert read(after, DIGEST) == DATA


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return open_uploads(DiskFiles(tmp_path))


def test_cut_at_every_chunk_and_in_another_process(tmp_path):
    for stop in range(100, 800, 100):
        put(open_uploads(DiskFiles(tmp_path)), DATA, stop=stop)
        assert open_uploads(DiskFiles(tmp_path)).find("me", "r").offset == stop
    uploads = open_uploads(DiskFiles(tmp_path))
    assert uploads.blobs.size(DIGEST) is None
    put(uploads, DATA)
    assert read(uploads, DIGEST) == DATA
    assert list((tmp_path / "uploads").iterdir()) == []


def test_wrong_bytes_never_become_a_blob(uploads, tmp_path):
    rng = random.Random(0)
    for _ in range(20):
        bad = bytearray(DATA)
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        stream = uploads.begin("me", "r", len(DATA), DIGEST)
        stream.write(0, bytes(bad))
        with pytest.raises(ServiceError) as caught:
            stream.finish()
        assert (caught.value.code, caught.value.reason) == (Code.DATA_LOSS, "DIGEST_MISMATCH")
        assert hashlib.sha256(bad).hexdigest() in caught.value.message
    assert uploads.blobs.size(DIGEST) is None
    assert list((tmp_path / "uploads").iterdir()) == []
    assert list((tmp_path / "blobs").iterdir()) == []


def test_part_tampered_between_streams_is_found_after_a_restart(tmp_path):
    put(open_uploads(DiskFiles(tmp_path)), DATA, stop=400)
    part = next((tmp_path / "uploads").glob("*.part"))
    part.write_bytes(b"Z" + part.read_bytes()[1:])
    with pytest.raises(ServiceError, match="they were dropped"):
        put(open_uploads(DiskFiles(tmp_path)), DATA)


def refusal(uploads, *arguments) -> tuple[Code, str]:
    with pytest.raises(ServiceError) as caught:
        uploads.begin(*arguments)
    return caught.value.code, caught.value.reason


def test_refusals(uploads):
    assert refusal(uploads, "me", "big", 10 << 30, DIGEST) == (Code.RESOURCE_EXHAUSTED, "BLOB_TOO_LARGE")
    put(uploads, DATA, stop=100)
    assert refusal(uploads, "me", "r", 799, DIGEST) == (Code.FAILED_PRECONDITION, "UPLOAD_CHANGED")
    for i in range(3):
        put(uploads, DATA, ref=f"more{i}", stop=100)
    assert refusal(uploads, "me", "fifth", 800, DIGEST) == (Code.RESOURCE_EXHAUSTED, "TOO_MANY_UPLOADS")
    put(uploads, b"others are not counted", caller="you")
    with pytest.raises(ServiceError, match="no unfinished upload of yours"):
        uploads.find("you", "r")
    stream = uploads.begin("me", "r", 800, DIGEST)
    with pytest.raises(ServiceError) as caught:
        stream.write(50, b"x")
    assert (caught.value.reason, caught.value.metadata) == ("UPLOAD_OFFSET", {"offset": "100"})
    with pytest.raises(ServiceError, match="run past the announced 800 bytes"):
        stream.write(100, b"x" * 701)


def test_no_room_for_the_announced_bytes():
    files = SimFiles()
    files.free = 799
    uploads = open_uploads(files)
    assert refusal(uploads, "me", "r", 800, DIGEST) == (Code.RESOURCE_EXHAUSTED, "STORAGE_FULL")
    assert files.list("uploads") == []
    files.free = 800
    put(uploads, DATA)


def test_newer_stream_takes_over(uploads):
    first = uploads.begin("me", "r", 800, DIGEST)
    first.write(0, DATA[:100])
    second = uploads.begin("me", "r", 800, DIGEST)
    assert second.state.offset == 100
    with pytest.raises(ServiceError) as caught:
        first.write(100, DATA[100:200])
    assert (caught.value.code, caught.value.reason) == (Code.ABORTED, "UPLOAD_TAKEN_OVER")
    second.write(100, DATA[100:])
    assert second.finish()
    first.close()
    assert read(uploads, DIGEST) == DATA


def test_equal_bytes_are_kept_once_and_need_no_upload(uploads, tmp_path):
    put(uploads, DATA)
    assert uploads.begin("you", "other", 800, DIGEST) is None
    source = tmp_path / "source"
    source.write_bytes(DATA)
    assert uploads.blobs.put(source) == DIGEST
    assert [p.name for p in (tmp_path / "blobs").iterdir()] == [DIGEST]
    assert uploads.blobs.missing([DIGEST, "0" * 64, "0" * 64]) == ["0" * 64]


def test_empty_blob(uploads):
    put(uploads, b"")
    assert read(uploads, hashlib.sha256(b"").hexdigest()) == b""


def test_shelf_that_fails_once_keeps_the_upload():
    files = SimFiles()
    uploads = open_uploads(files)
    take = uploads.blobs.shelf.take
    uploads.blobs.shelf.take = lambda part, digest: (_ for _ in ()).throw(OSError(5, "the bucket is away"))
    stream = uploads.begin("me", "r", len(DATA), DIGEST)
    stream.write(0, DATA)
    with pytest.raises(ServiceError, match="the bucket is away") as caught:
        stream.finish()
    assert (caught.value.code, caught.value.reason) == (Code.UNAVAILABLE, "STORAGE_FAILED")
    stream.close()
    uploads.blobs.shelf.take = take
    assert uploads.find("me", "r").offset == len(DATA)
    stream = uploads.begin("me", "r", len(DATA), DIGEST)
    assert stream.write(len(DATA), b"") == len(DATA)
    assert stream.finish()
    assert read(uploads, DIGEST) == DATA


def test_uploads_expire():
    files = SimFiles()
    uploads = open_uploads(files)
    put(uploads, DATA, stop=100)
    files.clock_s += 99
    assert uploads.expire() == 0
    files.clock_s -= 1000  # a clock that goes backwards drops nothing
    assert uploads.expire() == 0
    files.clock_s += 1001
    assert uploads.expire(dry=True) == 1
    assert uploads.expire() == 1
    assert files.list("uploads") == []


def test_collects_only_what_is_old_and_unreferenced():
    files = SimFiles()
    uploads = open_uploads(files)
    blobs = uploads.blobs
    contents = [b"kept", b"young", b"asked for", b"garbage"]
    kept, young, asked, garbage = (hashlib.sha256(c).hexdigest() for c in contents)
    for c in (contents[0], contents[2], contents[3]):
        put(uploads, c)
    files.clock_s += 50
    put(uploads, contents[1])
    assert blobs.missing([asked]) == []
    files.clock_s += 50
    assert blobs.collect(lambda d: d == kept, 100.0, dry=True) == (1, 7)
    assert blobs.size(garbage) == 7
    assert blobs.collect(lambda d: d == kept, 100.0, dry=False) == (1, 7)
    assert sorted(blobs.shelf.list()) == sorted([kept, young, asked])
    assert blobs.collect(lambda d: False, 0.0, dry=False) == (3, 18)


def test_a_blob_is_young_when_it_comes_into_being():
    """However long ago its bytes came: a client that went away between the last of them and the answer comes back."""
    files = SimFiles()
    uploads = open_uploads(files)
    put(uploads, DATA, stop=len(DATA))
    files.clock_s += 500
    put(uploads, DATA)
    assert uploads.blobs.collect(lambda d: False, 100.0, dry=False) == (0, 0)
    files.clock_s += 100
    assert uploads.blobs.collect(lambda d: False, 100.0, dry=False) == (1, len(DATA))
