"""A server whose machine's clock is set back: what expired stays expired, and a start says so."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import time

import pytest

pytest.importorskip("grpc", reason="grpcio is missing: pip install -e ./services")
pytest.importorskip("sqlalchemy", reason="SQLAlchemy is missing: pip install -e ./services")

from google.protobuf.duration_pb2 import Duration

import gossamer_services.serve
from gossamer._proto.v1 import fleet_pb2 as pb
from gossamer_services.common.clock import Clock
from gossamer_services.common.errors import SettingsError
from tests.services.fleet.fleetkit import Code, World, certificate_request
from tests.services.kit import refused, served
from tests.shellkit import cli

__all__ = ["cli"]

HOUR, DAY = 3600.0, 86400.0


class Machine:
    """A machine whose clock can be set, for the servers of a test."""

    def __init__(self, monkeypatch) -> None:
        self.ahead = 0.0
        clock = functools.partial(Clock, wall=lambda: time.time() + self.ahead)
        monkeypatch.setattr(gossamer_services.serve, "Clock", clock)


def test_what_expired_stays_expired(tmp_path, monkeypatch, caplog):
    machine, world = Machine(monkeypatch), World(tmp_path)

    async def main():
        async with world.fleet("fleet.certificate_days=2") as (server, fleet):
            name, *_ = member = await world.enrol(fleet)
            late = await fleet.CreateEnrollmentToken(pb.CreateEnrollmentTokenRequest(), metadata=world.admin)
            ask = pb.AcquireDeviceRequest(time_to_live=Duration(seconds=60))
            lease = (await fleet.AcquireDevice(ask, metadata=world.admin)).lease
            wanted = pb.CreateProfileRunRequest(lease=lease)
            run = (await fleet.CreateProfileRun(wanted, metadata=world.admin)).profile_run
            short = world.token("short", 2 * HOUR)

            async def look() -> pb.ProfileRun:
                return (await fleet.GetProfileRun(pb.GetProfileRunRequest(name=run.name), metadata=short)).profile_run

            async with world.device(server, member) as me:
                beat = pb.HeartbeatRequest(name=name)
                assert (await me.Heartbeat(beat)).profile_run.name == run.name

                async def check() -> None:
                    with refused(Code.UNAUTHENTICATED, "TOKEN_EXPIRED"):
                        await look()
                    with refused(Code.UNAUTHENTICATED, "TOKEN_INVALID"):
                        _, csr = certificate_request()
                        asked = pb.EnrollDeviceRequest(token=late.token, certificate_request_pem=csr, request_id="2")
                        await fleet.EnrollDevice(asked)
                    with refused(Code.NOT_FOUND, "LEASE_NOT_FOUND"):
                        await fleet.CreateProfileRun(wanted, metadata=world.admin)
                    with refused(Code.UNAUTHENTICATED, "CERTIFICATE_EXPIRED"):
                        await me.Heartbeat(beat)

                machine.ahead += HOUR
                assert (await look()).failure_reason == "LEASE_EXPIRED"
                assert not (await me.Heartbeat(beat)).HasField("profile_run")
                machine.ahead -= 2 * HOUR
                assert (await look()).failure_reason == "LEASE_EXPIRED"
                machine.ahead += 3 * DAY
                await check()
                machine.ahead -= 2 * DAY
                await check()
                device = (await fleet.GetDevice(pb.GetDeviceRequest(name=name), metadata=world.admin)).device
                assert device.heartbeat_time.ToSeconds() > time.time()  # as it was heard by the clock before
        with pytest.raises(SettingsError, match="which is 2 days, 0:00:00 before the last run's"):
            async with world.fleet():
                pass
        machine.ahead += 2 * DAY
        async with world.fleet():  # the clock is right again
            pass

    asyncio.run(main())
    behind = [r for r in caplog.records if "the machine's clock jumped back" in r.getMessage()]
    assert [(r.levelno, round(r.back_s)) for r in behind] == [(logging.ERROR, 2 * HOUR), (logging.ERROR, 2 * DAY)]


def test_a_start_before_the_last_run_is_refused(tmp_path, cli):
    data = tmp_path / "data"

    async def start(*overrides: str) -> float:
        async with served(data, *overrides):
            pass
        return float((data / "clock").read_text())

    kept = asyncio.run(start())
    assert kept == pytest.approx(time.time(), abs=30)
    (data / "clock").write_text(f"{kept + DAY:.3f}\n")
    for command in (["serve", "registry"], ["tokens", "create", "late", "--scope", "read", "--days", "1"]):
        ran = cli(*command, "--data", data)
        assert (ran.code, ran.out) == (2, "")
        assert "before the last run's" in ran.err
        assert "gossamer serve --set state.accept_clock=true" in ran.err
    assert json.loads(cli("tokens", "list", "--json", "--data", data).out) == {"tokens": []}
    assert asyncio.run(start("state.accept_clock=true")) < kept + HOUR
    assert cli("tokens", "create", "now", "--scope", "read", "--data", data).code == 0
