"""The registry's records in a real PostgreSQL, started for the test."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import socket
import threading
from collections.abc import Iterator

import pytest

pytest.importorskip("grpc", reason="grpcio is missing: pip install -e ./services")
pytest.importorskip("psycopg", reason="psycopg is missing: pip install -e './services[postgres]'")

import grpc
import sqlalchemy as sa

from gossamer_services.common.database import open_database
from gossamer_services.common.errors import Code, ServiceError
from gossamer_services.common.tokens import TABLES as TOKEN_TABLES
from gossamer_services.common.tokens import TokenStore
from gossamer_services.registry.blobs import BlobStore
from gossamer_services.registry.records import Records, Version
from gossamer_services.registry.tables import TABLES
from tests.services.kit import refused, registry, upload
from tests.services.postgres import url
from tests.services.registry.sim_files import SimFiles
from tests.services.registry.test_service import DATA, create, point

__all__ = ["url"]


@pytest.fixture
def records(url) -> Iterator[Records]:
    files = SimFiles()
    blobs = BlobStore(files)
    files.create(f"blobs/{'0' * 64}")
    engine = open_database(url, TABLES)
    with engine.begin() as db:
        for table in reversed(TABLES.sorted_tables):
            db.execute(sa.delete(table))
    yield Records(engine, blobs)
    engine.dispose()


def version(name: str) -> Version:
    return Version("b", name, "0" * 64, 0, "", {"k": "ü"}, "m", "1", "", "me")


def test_records(records):
    made = records.create(version("1"), caller="me", request_id="r", digest="d")
    assert records.create(version("1"), caller="me", request_id="r", digest="d") == made
    with pytest.raises(ServiceError) as caught:
        records.create(version("1"), caller="me")
    assert caught.value.reason == "VERSION_EXISTS"
    records.forget_requests(made.created_s)
    assert records.create(version("1"), caller="me", request_id="r", digest="d") == made
    records.forget_requests(made.created_s + 1)
    with pytest.raises(ServiceError) as caught:
        records.create(version("1"), caller="me", request_id="r", digest="d")
    assert caught.value.reason == "VERSION_EXISTS"
    changed = records.update("b", "1", made.etag, {"labels": {"a": "b"}})
    assert (changed.labels, changed.number) == ({"a": "b"}, made.number)
    records.create(version("2"), caller="me")
    assert [v.version for v in records.versions("b", None, 10)] == ["2", "1"]
    one = records.point("b", "stable", "1", "new")
    assert records.point("b", "stable", "2", one.etag, dry=True).version == "2"
    assert records.channel("b", "stable") == one
    assert records.point("b", "stable", "2", one.etag).previous == "1"
    assert records.refers_to("0" * 64)
    records.delete("b", "1", "")
    with pytest.raises(ServiceError, match="channels name this version: stable"):
        records.delete("b", "2", "")


def race(count: int, action) -> tuple[list, list[str]]:
    """Run ``action(i)`` in as many threads at once; results, and the reasons of errors."""
    results, reasons = [], []
    barrier = threading.Barrier(count)

    def run(i: int) -> None:
        barrier.wait()
        try:
            results.append(action(i))
        except ServiceError as e:
            reasons.append(e.reason)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results, reasons


def test_races_have_one_winner(records):
    for i in range(8):
        records.create(version(str(i)), caller="me")
    made, refusals = race(8, lambda i: records.create(version("new"), caller="me"))
    assert (len(made), refusals) == (1, ["VERSION_EXISTS"] * 7)
    pointed, refusals = race(8, lambda i: records.point("b", "stable", str(i), "new"))
    assert (len(pointed), refusals) == (1, ["ETAG_MISMATCH"] * 7)
    etag = records.version("b", "0").etag
    updated, refusals = race(8, lambda i: records.update("b", "0", etag, {"description": str(i)}))
    assert (len(updated), refusals) == (1, ["ETAG_MISMATCH"] * 7)
    assert records.version("b", "0") == updated[0]
    same, refusals = race(6, lambda i: records.create(version("9"), caller="me", request_id="r", digest="d"))
    assert (len({v.etag for v in same}), len(same), refusals) == (1, 6, [])


def test_registry_over_postgres(url, tmp_path, bundle):
    tokens = TokenStore(open_database(url, TOKEN_TABLES))
    assert tokens.check(tokens.create("t", ["read"])).name == "t"
    tokens.close()

    async def main():
        async with registry(tmp_path, f"state.database={url}") as stub:
            await upload(stub, bundle, chunk=100_000)
            await create(stub, bundle, "7.0")
            assert (await point(stub, "7.0", "new")).channel.version == "bundles/small/versions/7.0"
            with refused(grpc.StatusCode.NOT_FOUND, "BLOB_NOT_FOUND"):
                await create(stub, DATA, "8.0")

    asyncio.run(main())
    assert not (tmp_path / "registry.db").exists()


def test_database_that_is_away(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ServiceError) as caught:
        open_database(f"postgresql+psycopg://me:secret@127.0.0.1:{port}/x", TABLES)
    assert (caught.value.code, caught.value.reason) == (Code.UNAVAILABLE, "NO_DATABASE")
    assert "secret" not in str(caught.value)


def test_a_database_that_goes_away_is_told_to_the_log_alone(records, caplog, monkeypatch):
    def gone(*_: object) -> None:
        raise sa.exc.OperationalError("SELECT", {}, Exception('connection to server at "10.0.0.7", user "gossamer"'))

    monkeypatch.setattr(records, "_row", gone)
    caplog.set_level(logging.WARNING, "gossamer_services")
    with pytest.raises(ServiceError) as caught:
        records.version("b", "1")
    assert (caught.value.code, caught.value.reason) == (Code.UNAVAILABLE, "DATABASE_BUSY")
    assert "10.0.0.7" not in str(caught.value) and "10.0.0.7" in caplog.text


def test_what_is_stored_is_not_logged_with_errors(records):
    with pytest.raises(sa.exc.DataError) as caught:
        records.create(dataclasses.replace(version("1"), description="a secret\0"), caller="me")
    assert "NUL" in str(caught.value) and "a secret" not in str(caught.value)
