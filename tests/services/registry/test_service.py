"""The registry over gRPC: transfers that are cut and resume, refusals with their codes, versions, channels, garbage."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time

import pytest

pytest.importorskip("grpc", reason="grpcio is missing: pip install -e ./services")
pytest.importorskip("sqlalchemy", reason="SQLAlchemy is missing: pip install -e ./services")

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from gossamer._proto.v1 import registry_pb2 as pb
from gossamer.bundle import container
from gossamer.bundle.verify import signer
from gossamer_services.common.paging import write_token
from tests.services.kit import download, messages, refused, registry, upload

DATA = random.Random(0).randbytes(10_500)
DIGEST = hashlib.sha256(DATA).hexdigest()
Code = grpc.StatusCode


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_upload_and_download(tmp_path):
    async def main():
        async with registry(tmp_path) as stub:
            asked = pb.FindMissingBlobsRequest(sha256=[DIGEST, sha(b"")])
            assert list((await stub.FindMissingBlobs(asked)).missing_sha256) == [DIGEST, sha(b"")]
            done = await upload(stub, DATA)
            assert (done.sha256, done.size_bytes, done.existed) == (DIGEST, 10_500, False)
            assert (await upload(stub, b"")).sha256 == sha(b"")
            assert (await upload(stub, DATA, "another")).existed
            assert list((await stub.FindMissingBlobs(asked)).missing_sha256) == []
            assert await download(stub, DIGEST) == DATA
            assert await download(stub, DIGEST, offset=10_000) == DATA[10_000:]
            assert await download(stub, DIGEST, offset=3, limit=5) == DATA[3:8]
            assert await download(stub, DIGEST, offset=10_500) == b""
            assert (await stub.GetBlob(pb.GetBlobRequest(sha256=DIGEST))).blob.size_bytes == 10_500
            with refused(Code.OUT_OF_RANGE, "READ_OFFSET") as e:
                await download(stub, DIGEST, offset=10_501)
            assert e.metadata["total"] == "10500"
            with refused(Code.NOT_FOUND, "BLOB_NOT_FOUND"):
                await download(stub, "0" * 64)

    asyncio.run(main())


def test_upload_cut_at_every_chunk_resumes(tmp_path):
    async def main():
        async with registry(tmp_path) as stub:
            for stop in range(1000, 10_001, 1000):
                offset = stop - 1000
                with refused(Code.ABORTED, "UPLOAD_INCOMPLETE") as e:
                    await stub.WriteBlob(messages(DATA, offset=offset, stop=stop))
                assert e.metadata["offset"] == str(stop)
                held = await stub.GetUpload(pb.GetUploadRequest(ref="ref"))
                assert (held.offset, held.total, held.expected_sha256) == (stop, 10_500, DIGEST)
            with refused(Code.NOT_FOUND, "BLOB_NOT_FOUND"):
                await stub.GetBlob(pb.GetBlobRequest(sha256=DIGEST))
            assert (await upload(stub, DATA, offset=10_000)).size_bytes == 10_500
            assert await download(stub, DIGEST) == DATA
            with refused(Code.NOT_FOUND, "UPLOAD_NOT_FOUND"):
                await stub.GetUpload(pb.GetUploadRequest(ref="ref"))

    asyncio.run(main())


def test_connection_that_breaks_keeps_what_came(tmp_path):
    """The client's call is cancelled in the middle, as when its machine dies; in all, after every chunk."""

    async def main():
        async with registry(tmp_path) as stub:
            offset = 0
            while offset < 10_000:
                call = stub.WriteBlob()
                await call.write(pb.WriteBlobRequest(ref="ref", total=10_500, expected_sha256=DIGEST, offset=offset))
                await call.write(pb.WriteBlobRequest(offset=offset, data=DATA[offset : offset + 1000]))
                for _ in range(500):
                    try:
                        held = (await stub.GetUpload(pb.GetUploadRequest(ref="ref"))).offset
                    except grpc.aio.AioRpcError as e:
                        assert e.code() is Code.NOT_FOUND
                        held = offset
                    if held == offset + 1000:
                        break
                    await asyncio.sleep(0.002)
                assert held == offset + 1000
                call.cancel()
                offset = held
            assert (await upload(stub, DATA, offset=offset)).sha256 == DIGEST
            assert await download(stub, DIGEST) == DATA

    asyncio.run(main())


def test_download_cut_at_every_message_resumes(tmp_path):
    data = random.Random(1).randbytes(3_500_000)

    async def main():
        async with registry(tmp_path) as stub:
            await upload(stub, data, chunk=1 << 20)
            got = b""
            calls = 0
            while len(got) < len(data):
                call = stub.ReadBlob(pb.ReadBlobRequest(sha256=sha(data), offset=len(got)))
                message = await call.read()
                assert (message.offset, message.total) == (len(got), len(data))
                got += message.data
                call.cancel()
                calls += 1
            assert got == data
            assert calls == 4

    asyncio.run(main())


def test_uploads_survive_a_restart(tmp_path):
    async def first():
        async with registry(tmp_path) as stub:
            with refused(Code.ABORTED, "UPLOAD_INCOMPLETE"):
                await stub.WriteBlob(messages(DATA, stop=4000))

    async def second():
        async with registry(tmp_path) as stub:
            assert (await stub.GetUpload(pb.GetUploadRequest(ref="ref"))).offset == 4000
            assert (await upload(stub, DATA, offset=4000)).sha256 == DIGEST
            assert await download(stub, DIGEST) == DATA

    asyncio.run(first())
    asyncio.run(second())


def test_bad_uploads(tmp_path):
    async def main():
        async with registry(tmp_path, "registry.max_blob_bytes=1000000000") as stub:
            with refused(Code.RESOURCE_EXHAUSTED, "BLOB_TOO_LARGE") as e:
                await stub.WriteBlob(iter([pb.WriteBlobRequest(ref="r", total=10 << 30, expected_sha256=DIGEST)]))
            assert e.metadata["limit"] == "1000000000"
            assert "10737418240 bytes is over the limit of 1000000000" in e.message
            for ref in ("", ".", "..", "../../etc/passwd", "a/b", "a\0b", "C:\\x", "x" * 129, "ref\n", ".hidden"):
                with refused(Code.INVALID_ARGUMENT, "BAD_FIELD") as e:
                    await upload(stub, DATA, ref)
                assert e.fields == ["ref"]
            for digest in ("", "../" + "0" * 61, "0" * 63, "A" * 64, "0" * 64 + "\n", "０" * 64):
                with refused(Code.INVALID_ARGUMENT, "BAD_FIELD") as e:
                    await upload(stub, DATA, expected_sha256=digest)
                assert e.fields == ["expected_sha256"]
                with refused(Code.INVALID_ARGUMENT, "BAD_FIELD"):
                    await download(stub, digest)
            with refused(Code.INVALID_ARGUMENT, "BAD_FIELD"):
                await upload(stub, DATA, total=-1)
            with refused(Code.INVALID_ARGUMENT, "UPLOAD_TOO_LONG"):
                await upload(stub, DATA, "long", total=10_499)
            with refused(Code.OUT_OF_RANGE, "UPLOAD_OFFSET") as e:
                await upload(stub, DATA, "gap", offset=1000)
            assert e.metadata["offset"] == "0"
            with refused(Code.DATA_LOSS, "DIGEST_MISMATCH"):
                await upload(stub, DATA, "bad", expected_sha256=sha(b"other"))
            with refused(Code.INVALID_ARGUMENT, "BAD_FIELD"):
                await stub.WriteBlob(iter([]))
            first = pb.WriteBlobRequest(ref="r", total=9, expected_sha256=DIGEST)
            with refused(Code.INVALID_ARGUMENT, "BAD_FIELD") as e:
                await stub.WriteBlob(iter([first, pb.WriteBlobRequest(total=10, data=b"x")]))
            assert e.fields == ["total"]
            with refused(Code.INVALID_ARGUMENT, "BAD_FIELD"):
                await stub.FindMissingBlobs(pb.FindMissingBlobsRequest(sha256=["0" * 64] * 1001))
        assert list((tmp_path / "blobs").iterdir()) == []

    asyncio.run(main())


def test_stalling_client_is_cut_off_and_its_bytes_are_kept(tmp_path):
    async def main():
        async with registry(tmp_path, "server.stream_idle_s=0.2") as stub:
            call = stub.WriteBlob()
            await call.write(pb.WriteBlobRequest(ref="ref", total=10_500, expected_sha256=DIGEST))
            await call.write(pb.WriteBlobRequest(offset=0, data=DATA[:1000]))
            with refused(Code.DEADLINE_EXCEEDED, "STREAM_IDLE"):
                await call
            assert (await stub.GetUpload(pb.GetUploadRequest(ref="ref"))).offset == 1000

    asyncio.run(main())


def create(stub, data: bytes, version: str = "1.0", **options):
    return stub.CreateVersion(pb.CreateVersionRequest(bundle="small", version=version, sha256=sha(data), **options))


def test_versions(tmp_path, bundle):
    async def main():
        async with registry(tmp_path) as stub:
            with refused(Code.NOT_FOUND, "BLOB_NOT_FOUND"):
                await create(stub, bundle)
            await upload(stub, bundle)
            dry = (await create(stub, bundle, validate_only=True)).version
            assert dry.name == "bundles/small/versions/1.0"
            with refused(Code.NOT_FOUND, "VERSION_NOT_FOUND"):
                await stub.GetVersion(pb.GetVersionRequest(name=dry.name))
            made = (await create(stub, bundle, request_id="a", labels={"k": "v"}, description="d")).version
            assert (made.model_name, made.model_version, made.size_bytes) == ("small", "7", len(bundle))
            assert made.key_fingerprint == signer(bundle).fingerprint != ""
            assert (made.labels["k"], made.description, made.creator) == ("v", "d", "")
            again = (await create(stub, bundle, request_id="a", labels={"k": "v"}, description="d")).version
            assert again == made
            with refused(Code.FAILED_PRECONDITION, "REQUEST_ID_REUSED"):
                await create(stub, bundle, "1.1", request_id="a")
            with refused(Code.ALREADY_EXISTS, "VERSION_EXISTS"):
                await create(stub, bundle)

            mask = FieldMask(paths=["description"])
            change = pb.Version(name=made.name, description="new", etag=made.etag)
            request = pb.UpdateVersionRequest(version=change, update_mask=mask)
            changed = (await stub.UpdateVersion(request)).version
            assert (changed.description, changed.labels["k"]) == ("new", "v")
            assert changed.etag != made.etag
            with refused(Code.ABORTED, "ETAG_MISMATCH") as e:
                await stub.UpdateVersion(request)
            assert e.metadata["etag"] == changed.etag
            for paths in ([], ["sha256"]):
                with refused(Code.INVALID_ARGUMENT, "BAD_FIELD") as e:
                    request = pb.UpdateVersionRequest(version=change, update_mask=FieldMask(paths=paths))
                    await stub.UpdateVersion(request)
                assert e.fields == ["update_mask"]

            with refused(Code.INVALID_ARGUMENT, "BAD_FIELD") as e:
                await create(stub, bundle, "2", description="ä" * 4097)
            assert e.fields == ["description"]
            long = pb.UpdateVersionRequest(version=made, update_mask=FieldMask(paths=["description"]))
            long.version.description = "ä" * 4096
            long.version.etag = ""
            assert (await stub.UpdateVersion(long)).version.description == "ä" * 4096
            long.version.description += "x"
            with refused(Code.INVALID_ARGUMENT, "BAD_FIELD") as e:
                await stub.UpdateVersion(long)
            assert e.fields == ["version.description"]

            for i in range(4):
                await create(stub, bundle, f"2.{i}")
            names, token = [], ""
            while True:
                page = await stub.ListVersions(pb.ListVersionsRequest(bundle="small", page_size=2, page_token=token))
                assert len(page.versions) <= 2
                names += [v.name.rpartition("/")[2] for v in page.versions]
                if not (token := page.next_page_token):
                    break
            assert names == ["2.3", "2.2", "2.1", "2.0", "1.0"]
            page = await stub.ListVersions(pb.ListVersionsRequest(sha256=made.sha256, page_size=2))
            assert [v.name[-3:] for v in page.versions] == ["2.3", "2.2"]
            with refused(Code.INVALID_ARGUMENT, "BAD_FIELD"):  # a token of another question
                await stub.ListVersions(pb.ListVersionsRequest(page_token=page.next_page_token))
            assert not (await stub.ListVersions(pb.ListVersionsRequest(sha256="0" * 64))).versions
            huge = write_token(1 << 63, ["versions", "", ""])  # made by a client, and more than databases count to
            for bad in (
                {"page_size": -1}, {"page_token": "zzz"}, {"page_token": "MS5h"}, {"page_token": huge},
                {"bundle": "a/b"}, {"sha256": "a"},
            ):  # fmt: skip
                with refused(Code.INVALID_ARGUMENT, "BAD_FIELD"):
                    await stub.ListVersions(pb.ListVersionsRequest(**bad))
            for name in ("", "bundles/x", "bundles/../versions/1", "bundles/a/versions/..", "bundles/a/channels/beta"):
                with refused(Code.INVALID_ARGUMENT, "BAD_FIELD"):
                    await stub.GetVersion(pb.GetVersionRequest(name=name))

    asyncio.run(main())


def test_tampered_bundles_become_no_version(tmp_path, bundle):
    async def main():
        async with registry(tmp_path, "registry.max_bundle_bytes=100000") as stub:
            rng = random.Random(0)
            for at in [0, 9, len(bundle) - 1, *(rng.randrange(len(bundle)) for _ in range(20))]:
                bad = bytearray(bundle)
                bad[at] ^= 1 << rng.randrange(8)
                await upload(stub, bytes(bad), f"bad{at}", chunk=100_000)
                with refused(Code.INVALID_ARGUMENT, "BAD_BUNDLE") as e:
                    await create(stub, bytes(bad))
                assert e.fields == ["sha256"]
            plan, weights, *_ = (bytes(container.section_bytes(bundle, s)) for s in container.sections(bundle))
            manifests = (b'{"name":"a\\u0000"}', b'{"name":"%s"}' % (b"a" * 1025), b'{"version":"%s"}' % (b"1" * 1025))
            odd = [container.build(plan, weights, m) for m in (*manifests, b"[" * 60_000, b"[]")]
            for bad in (b"", DATA, bundle[:-1], bundle + b"\0", *odd):
                await upload(stub, bad, "other", chunk=100_000)
                with refused(Code.INVALID_ARGUMENT, "BAD_BUNDLE"):
                    await create(stub, bad)
            good = container.build(plan, weights, b'{"name":"%s"}' % (b"a" * 1024))
            await upload(stub, good, "good", chunk=100_000)
            assert (await create(stub, good, validate_only=True)).version.model_name == "a" * 1024
            await upload(stub, bytes(100_001), "large", chunk=100_001)
            with refused(Code.INVALID_ARGUMENT, "BUNDLE_TOO_LARGE"):
                await create(stub, bytes(100_001))
            assert list((await stub.ListVersions(pb.ListVersionsRequest())).versions) == []

    asyncio.run(main())


def point(stub, version: str, etag: str = "", channel: str = "stable", **options):
    name = f"bundles/small/channels/{channel}"
    wanted = pb.Channel(name=name, version=f"bundles/small/versions/{version}", etag=etag)
    return stub.UpdateChannel(pb.UpdateChannelRequest(channel=wanted, **options))


def test_channels(tmp_path, bundle):
    async def main():
        async with registry(tmp_path) as stub:
            await upload(stub, bundle)
            for version in ("1", "2"):
                await create(stub, bundle, version)
            stable = pb.GetChannelRequest(name="bundles/small/channels/stable")
            with refused(Code.NOT_FOUND, "CHANNEL_NOT_FOUND"):
                await stub.GetChannel(stable)
            with refused(Code.NOT_FOUND, "VERSION_NOT_FOUND"):
                await point(stub, "3")
            await point(stub, "1", validate_only=True)
            with refused(Code.NOT_FOUND, "CHANNEL_NOT_FOUND"):
                await stub.GetChannel(stable)
            one = (await point(stub, "1", "new")).channel
            assert (one.version, one.previous_version) == ("bundles/small/versions/1", "")
            with refused(Code.ABORTED, "ETAG_MISMATCH"):
                await point(stub, "2", "new")
            two = (await point(stub, "2", one.etag)).channel
            assert (two.version, two.previous_version) == ("bundles/small/versions/2", "bundles/small/versions/1")
            with refused(Code.ABORTED, "ETAG_MISMATCH"):
                await point(stub, "1", one.etag)
            assert (await stub.GetChannel(stable)).channel == two
            found = await stub.GetVersion(pb.GetVersionRequest(name="bundles/small/channels/stable"))
            assert found.version.name == "bundles/small/versions/2"
            await point(stub, "1", channel="canary")
            listed = await stub.ListChannels(pb.ListChannelsRequest(bundle="small"))
            assert [c.name.rpartition("/")[2] for c in listed.channels] == ["stable", "canary"]
            with refused(Code.FAILED_PRECONDITION, "VERSION_IN_USE") as e:
                await stub.DeleteVersion(pb.DeleteVersionRequest(name="bundles/small/versions/1"))
            assert "canary" in e.message
            other = pb.Channel(name="bundles/small/channels/stable", version="bundles/other/versions/1")
            with refused(Code.INVALID_ARGUMENT, "BAD_FIELD"):
                await stub.UpdateChannel(pb.UpdateChannelRequest(channel=other))

    asyncio.run(main())


def test_one_of_many_concurrent_etag_changes_wins(tmp_path, bundle):
    async def main():
        async with registry(tmp_path) as stub:
            await upload(stub, bundle)
            for version in "0123456789":
                await create(stub, bundle, version)
            start = (await point(stub, "0")).channel
            calls = [point(stub, v, start.etag) for v in "123456789"]
            ended = await asyncio.gather(*calls, return_exceptions=True)
            won = [r for r in ended if isinstance(r, pb.UpdateChannelResponse)]
            lost = [r.code() for r in ended if isinstance(r, grpc.aio.AioRpcError)]
            assert (len(won), lost) == (1, [Code.ABORTED] * 8)
            assert (await stub.GetChannel(pb.GetChannelRequest(name=start.name))).channel == won[0].channel

    asyncio.run(main())


def test_garbage_collection_keeps_what_is_referenced(tmp_path, bundle):
    async def main():
        async with registry(tmp_path, "registry.grace_s=0") as stub:
            for data, ref in ((bundle, "b"), (DATA, "d"), (b"leased", "l"), (b"lease ended", "e")):
                await upload(stub, data, ref, chunk=100_000)
            await create(stub, bundle, "1")
            await create(stub, bundle, "2")
            soon, past = Timestamp(), Timestamp()
            soon.GetCurrentTime()
            soon.seconds += 60
            past.FromSeconds(1)
            for data, until in ((b"leased", soon), (b"lease ended", past)):
                await stub.LeaseBlob(pb.LeaseBlobRequest(sha256=sha(data), owner="jobs/1", expire_time=until))
            shorter = await stub.LeaseBlob(pb.LeaseBlobRequest(sha256=sha(b"leased"), owner="jobs/1", expire_time=past))
            assert abs(shorter.expire_time.seconds - soon.seconds) <= 1
            far = pb.LeaseBlobRequest(sha256=sha(b"leased"), owner="jobs/2", expire_time=Timestamp(seconds=1 << 60))
            assert abs((await stub.LeaseBlob(far)).expire_time.seconds - time.time() - 90 * 86400) < 60
            far.expire_time.seconds = -(1 << 60)
            with refused(Code.INVALID_ARGUMENT, "BAD_FIELD") as e:
                await stub.LeaseBlob(far)
            assert e.fields == ["expire_time"]
            dry = await stub.CollectGarbage(pb.CollectGarbageRequest(validate_only=True))
            assert (dry.blobs, dry.size_bytes) == (2, 10_511)
            assert await download(stub, DIGEST) == DATA
            wet = await stub.CollectGarbage(pb.CollectGarbageRequest())
            assert (wet.blobs, wet.size_bytes) == (2, 10_511)
            assert sorted(p.name for p in (tmp_path / "blobs").iterdir()) == sorted([sha(bundle), sha(b"leased")])
            await stub.DeleteVersion(pb.DeleteVersionRequest(name="bundles/small/versions/1"))
            assert (await stub.CollectGarbage(pb.CollectGarbageRequest())).blobs == 0
            await stub.DeleteVersion(pb.DeleteVersionRequest(name="bundles/small/versions/2"))
            assert (await stub.CollectGarbage(pb.CollectGarbageRequest())).blobs == 1

    asyncio.run(main())


@pytest.mark.parametrize("keep_s", [0, 0.1, 3600])
def test_request_ids_are_forgotten_after_their_time(tmp_path, bundle, keep_s):
    async def main():
        async with registry(tmp_path, f"registry.keep_request_ids_s={keep_s}") as stub:
            await upload(stub, bundle)
            made = await create(stub, bundle, request_id="1")
            await asyncio.sleep(0.1)
            await stub.CollectGarbage(pb.CollectGarbageRequest(validate_only=True))
            assert await create(stub, bundle, request_id="1") == made
            await stub.CollectGarbage(pb.CollectGarbageRequest())
            if keep_s == 0.1:
                with refused(Code.ALREADY_EXISTS, "VERSION_EXISTS"):
                    await create(stub, bundle, request_id="1")
            else:
                assert await create(stub, bundle, request_id="1") == made

    asyncio.run(main())


def test_garbage_collection_beside_creation_never_leaves_a_version_without_its_blob(tmp_path, bundle):
    async def main():
        async with registry(tmp_path, "registry.grace_s=0") as stub:

            async def collect(after_s: float) -> None:
                await asyncio.sleep(after_s)
                await stub.CollectGarbage(pb.CollectGarbageRequest())

            made = 0
            for i in range(15):
                await upload(stub, bundle, f"r{i}", chunk=100_000)
                results = await asyncio.gather(
                    create(stub, bundle, f"v{i}"),
                    collect(i * 0.004),  # before, in the middle of and after the creation, however fast the machine is
                    return_exceptions=True,
                )
                for name in [v.name for v in (await stub.ListVersions(pb.ListVersionsRequest())).versions]:
                    made += 1
                    assert await download(stub, sha(bundle)) == bundle
                    await stub.DeleteVersion(pb.DeleteVersionRequest(name=name))
                if isinstance(results[0], grpc.aio.AioRpcError):
                    assert results[0].code() is Code.NOT_FOUND
            assert made > 0

    asyncio.run(main())
