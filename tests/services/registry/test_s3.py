"""Blobs on S3, against moto's server as a process of its own."""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest

pytest.importorskip("grpc", reason="grpcio is missing: pip install -e ./services")
pytest.importorskip("s3fs", reason="s3fs is missing: pip install -e './services[s3]'")
pytest.importorskip("moto", reason="moto is missing: pip install -e './services[test]'")

import grpc

from gossamer._proto.v1 import registry_pb2 as pb
from gossamer_services.common.errors import Code, ServiceError, SettingsError
from gossamer_services.registry.blobs import BlobStore
from gossamer_services.registry.files import DiskFiles
from gossamer_services.registry.remote import S3Shelf
from gossamer_services.registry.uploads import Uploads
from tests.services.kit import download, messages, refused, registry, upload

LARGE = random.Random(0).randbytes(7_000_000)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Address of an S3 server with the bucket ``gossamer``."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(urllib.request.Request(f"{url}/gossamer", method="PUT"), timeout=5).close()
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < until, "moto does not answer"
                time.sleep(0.05)
        yield url
    finally:
        process.kill()
        process.wait()


def options(endpoint: str) -> dict[str, str]:
    return {"endpoint_url": endpoint, "key": "test", "secret": "test"}


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def uploads(endpoint, tmp_path, request) -> Uploads:
    files = DiskFiles(tmp_path)
    shelf = S3Shelf(f"s3://gossamer/{request.node.name}", options(endpoint), files, tmp_path)
    return Uploads(BlobStore(files, shelf), max_blob_bytes=1 << 30, max_per_caller=4, lifetime_s=100.0)


def put(uploads: Uploads, data: bytes) -> None:
    stream = uploads.begin("me", "r", len(data), sha(data))
    if stream is not None:
        stream.write(0, data)
        assert stream.finish()


def test_put_read_list_remove(uploads, tmp_path):
    store = uploads.blobs
    assert store.shelf.list() == []
    assert store.size(sha(LARGE)) is None
    with pytest.raises(ServiceError) as caught:
        store.open(sha(LARGE))
    assert caught.value.code is Code.NOT_FOUND
    for data in (LARGE, b"", b"small"):
        put(uploads, data)
        assert store.size(sha(data)) == len(data)
        with store.open(sha(data)) as f:
            assert f.read() == data
    with store.open(sha(LARGE)) as f:
        f.seek(6_500_000)
        assert f.read(1000) == LARGE[6_500_000:6_501_000]
    assert store.shelf.list() == sorted(map(sha, (LARGE, b"", b"small")))
    assert list((tmp_path / "uploads").iterdir()) == []
    assert list((tmp_path / "blobs").iterdir()) == []
    assert uploads.begin("me", "again", len(LARGE), sha(LARGE)) is None
    (tmp_path / "file").write_bytes(b"small")
    assert store.put(tmp_path / "file") == sha(b"small")
    (tmp_path / "file").write_bytes(b"from a file")
    assert store.put(tmp_path / "file") == sha(b"from a file")
    store.shelf.remove(sha(b""))
    store.shelf.remove(sha(b""))
    assert store.size(sha(b"")) is None


def test_collects_by_last_use(uploads):
    store = uploads.blobs
    put(uploads, b"one")
    put(uploads, b"two")
    assert store.collect(lambda d: False, 3600.0, dry=False) == (0, 0)
    assert store.collect(lambda d: d == sha(b"one"), 0.0, dry=True) == (1, 3)
    assert store.collect(lambda d: d == sha(b"one"), 0.0, dry=False) == (1, 3)
    assert store.shelf.list() == [sha(b"one")]


def test_wrong_bytes_never_reach_the_bucket(uploads):
    stream = uploads.begin("me", "r", 5, sha(b"right"))
    stream.write(0, b"wrong")
    with pytest.raises(ServiceError, match="they were dropped"):
        stream.finish()
    assert uploads.blobs.shelf.list() == []


def test_registry_over_s3(endpoint, tmp_path):
    storage = ["registry.storage=s3://gossamer/service"]
    storage += [f'registry.storage_options={{endpoint_url: "{endpoint}", key: test, secret: test}}']

    async def main():
        async with registry(tmp_path / "one", *storage) as stub:
            with refused(grpc.StatusCode.ABORTED, "UPLOAD_INCOMPLETE"):
                await stub.WriteBlob(messages(LARGE, chunk=1 << 20, stop=3 << 20))
        async with registry(tmp_path / "one", *storage) as stub:
            await upload(stub, LARGE, offset=3 << 20, chunk=1 << 20)
            assert await download(stub, sha(LARGE)) == LARGE
        async with registry(tmp_path / "two", *storage) as stub:  # another machine, the same bucket
            assert await download(stub, sha(LARGE), offset=6_999_990) == LARGE[-10:]
            missing = await stub.FindMissingBlobs(pb.FindMissingBlobsRequest(sha256=[sha(LARGE), "0" * 64]))
            assert list(missing.missing_sha256) == ["0" * 64]

    asyncio.run(main())


def test_bad_storage(endpoint, tmp_path):
    files = DiskFiles(tmp_path)
    for url in ("file:///tmp", "s3://", "http://x/y", "bucket"):
        with pytest.raises(SettingsError, match="in a folder or on S3"):
            S3Shelf(url, {}, files, tmp_path)
    with pytest.raises(SettingsError, match="the bucket cannot be reached"):
        S3Shelf("s3://nowhere", options(endpoint), files, tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    quick = {"config_kwargs": {"connect_timeout": 0.2, "retries": {"max_attempts": 0}}}
    with pytest.raises(SettingsError, match="the bucket cannot be reached"):
        S3Shelf("s3://gossamer", {**options(f"http://127.0.0.1:{port}"), **quick}, files, tmp_path)
