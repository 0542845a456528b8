"""All services in one process, or some of them: opens the state, serves, and drains at SIGTERM, SIGINT or SIGHUP."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from gossamer_services.common import logs
from gossamer_services.common.auth import Known
from gossamer_services.common.clock import Clock
from gossamer_services.common.database import database_url, open_database
from gossamer_services.common.errors import SettingsError
from gossamer_services.common.folders import make_folder, state_folder, unusable
from gossamer_services.common.server import Server, Service, check
from gossamer_services.common.tokens import TABLES as TOKEN_TABLES
from gossamer_services.common.tokens import TokenStore
from gossamer_services.config import Config
from gossamer_services.fleet import device_port
from gossamer_services.fleet.authority import Authority
from gossamer_services.fleet.devices import Devices
from gossamer_services.fleet.profile_runs import ProfileRuns
from gossamer_services.fleet.profiles import Profiles
from gossamer_services.fleet.rollouts import Rollouts
from gossamer_services.fleet.service import Fleet
from gossamer_services.fleet.tables import TABLES as FLEET_TABLES
from gossamer_services.optimizer.assembly import Optimizer
from gossamer_services.optimizer.jobs import Job
from gossamer_services.registry.blobs import BlobStore
from gossamer_services.registry.files import DiskFiles
from gossamer_services.registry.records import Records
from gossamer_services.registry.remote import S3Shelf
from gossamer_services.registry.service import Registry
from gossamer_services.registry.tables import TABLES as REGISTRY_TABLES
from gossamer_services.registry.versions import Versions
from gossamer_services.upstream.connection import Upstream, UpstreamError
from gossamer_services.upstream.fleet import RemoteFleet
from gossamer_services.upstream.registry import RemoteRegistry

_LOG = logging.getLogger(__name__)

SERVICES = ("registry", "optimizer", "fleet")
"""What can be served."""


def open_clock(config: Config) -> Clock:
    """The time of day, no earlier than the data folder knows.

    Raises:
        SettingsError: the machine's clock is behind.
    """
    return Clock(config.state.folder / "clock", accept=config.state.accept_clock)


def open_tokens(config: Config, clock: Callable[[], float] | None = None) -> TokenStore:
    """The tokens of the configuration's database; ``clock`` None: :func:`open_clock`, where one is made or checked."""
    engine = open_database(database_url(config.state.database, config.state.folder, "registry.db"), TOKEN_TABLES)
    return TokenStore(engine, clock or (lambda: open_clock(config)()))


def open_authority(config: Config) -> Authority:
    """The authority of a fleet that was served from the data folder.

    Raises:
        SettingsError: none was, or the authority cannot be read.
    """
    folder = config.state.folder / "fleet"
    if not (folder / "authority.crt").exists():
        raise SettingsError(
            "no fleet was served from this data folder", where=str(config.state.folder), hint="give the fleet's --data"
        )
    return Authority(folder, open_clock(config))


async def serve(
    config: Config,
    services: Sequence[str] = SERVICES,
    *,
    ready: Callable[[Server], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve until ``stop`` is set, or SIGTERM, SIGINT or SIGHUP (unless ignored, as by nohup) comes; then drain.

    Args:
        services: some of :data:`SERVICES`; the others find a registry that is not among them by ``upstream.registry``.
        ready: called once everything is served.

    Raises:
        SettingsError: unknown services, no registry, one that refuses this server, the data folder cannot be used, or
            the machine's clock is behind.
        ServiceError: an address cannot be bound, TLS is missing, or the database cannot be opened.
    """
    unknown = sorted(set(services) - set(SERVICES))
    if unknown:
        raise SettingsError(f"no such service: {', '.join(unknown)}", hint=f"choose from {', '.join(SERVICES)}")
    if "registry" not in services and not config.upstream.registry:
        raise SettingsError(
            f"the {services[0]} needs the registry: in its process, or at an address",
            where="upstream.registry",
            hint=f"serve both, gossamer serve registry {services[0]}, or set upstream.registry",
        )
    own_port = "fleet" in services and config.server.device_authority is None  # the fleet's authority signs for it
    identity = None if "fleet" in services else config.upstream.device_identity
    check(config.server, device_tls=own_port or identity is not None)
    stop = stop or asyncio.Event()
    handler = logs.install(config.server.log_level, config.server.log_format)
    try:
        async with contextlib.AsyncExitStack() as stack:
            folder = stack.enter_context(state_folder(config.state.folder))
            clock = open_clock(config)
            stack.callback(clock.keep)
            keeper = asyncio.create_task(clock.keep_for_ever())
            stack.callback(keeper.cancel)
            served: list[Service] = []
            registry: Registry | RemoteRegistry
            if "registry" in services:
                registry = _registry(config, folder, clock)
                stack.push_async_callback(registry.close)
                served.append(registry.service())
            else:
                registry = _remote_registry(config, clock)
                stack.callback(registry.upstream.close)
                _warn(await asyncio.to_thread(registry.check, writes="optimizer" in services))
            if "optimizer" in services:
                optimizer = _optimizer(config, folder, registry, clock)
                stack.push_async_callback(optimizer.close)
                await optimizer.start()
                served += optimizer.services()
            if isinstance(registry, RemoteRegistry):
                stack.callback(registry.upstream.abort)  # before the optimizer ends: its jobs wait for no transfer then
            known: Known | None = None
            device_tls = None
            if "fleet" in services:
                authority = Authority(folder / "fleet", clock)
                if own_port and config.server.device_bind:
                    device_tls = device_port.identity(authority, folder / "fleet", device_port.names(config.server))
                fleet = _fleet(config, folder, registry, authority)
                stack.push_async_callback(fleet.close)
                served.append(fleet.service())
                known = _known(fleet.devices)
            elif identity is not None and config.server.device_bind:
                device_tls = device_port.load(identity, _device_authority(config))
            if "fleet" not in services and config.upstream.fleet and config.server.device_bind:
                remote_fleet = _remote_fleet(config)
                stack.push_async_callback(remote_fleet.close)
                _warn(await asyncio.to_thread(remote_fleet.check))
                known = remote_fleet.known
            tokens = open_tokens(config, clock)
            stack.callback(tokens.close)
            server = Server(config.server, served, tokens, known, device_tls, clock)
            if "fleet" in services:
                fleet.device_address = server.device_address
            await server.start()
            stack.push_async_callback(server.stop)
            if isinstance(registry, Registry):
                registry.start()
            if "fleet" in services:
                fleet.start()
            loop = asyncio.get_running_loop()
            hung_up = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)
            for number in (signal.SIGTERM, signal.SIGINT, *hung_up):
                with contextlib.suppress(RuntimeError, ValueError):  # only the main thread has signals
                    loop.add_signal_handler(number, stop.set)
                    stack.callback(loop.remove_signal_handler, number)
            if ready is not None:
                ready(server)
            await stop.wait()
    finally:
        logs.remove(handler)


def _registry(config: Config, folder: Path, clock: Clock) -> Registry:
    engine = open_database(database_url(config.state.database, folder, "registry.db"), REGISTRY_TABLES)
    try:
        files, shelf = DiskFiles(folder), None
        if config.registry.storage:
            shelf = S3Shelf(config.registry.storage, config.registry.storage_options, files, folder)
        blobs = BlobStore(files, shelf)  # by the machine's clock, as the times of its files are
    except OSError as e:
        raise unusable(folder, e) from e
    return Registry(blobs, Records(engine, blobs, clock), config.registry)


def _remote_registry(config: Config, clock: Clock) -> RemoteRegistry:
    at = config.upstream
    upstream = Upstream("registry", at.registry, at.registry_token_file, at.registry_ca)
    return RemoteRegistry(upstream, lease_s=at.lease_s, cache_s=at.cache_s, clock=clock)


def _remote_fleet(config: Config) -> RemoteFleet:
    at = config.upstream
    return RemoteFleet(Upstream("fleet", at.fleet, at.fleet_token_file, at.fleet_ca), cache_s=at.cache_s)


def _known(devices: Devices) -> Known:
    async def known(device: str) -> bool:
        return await asyncio.to_thread(devices.known, device)

    return known


def _device_authority(config: Config) -> Path:
    if config.server.device_authority is None:
        raise SettingsError(
            "devices' certificates need the authority that signed them",
            where="server.device_authority",
            hint="copy fleet/authority.crt from the fleet's data folder here",
        )
    return config.server.device_authority


def _warn(error: UpstreamError | None) -> None:
    if error is not None:
        _LOG.warning("calls that need another server fail until it answers: %s", error.message)


def _fleet(config: Config, folder: Path, registry: Registry | RemoteRegistry, authority: Authority) -> Fleet:
    engine = open_database(database_url(config.state.database, folder, "fleet.db"), FLEET_TABLES)
    runs = ProfileRuns(engine, authority.clock)
    versions: Versions = registry.records if isinstance(registry, Registry) else registry
    fleet = Fleet(
        Devices(engine, authority.clock),
        Rollouts(engine, versions.name_of, authority.clock),
        Profiles(engine, runs),
        runs,
        versions,
        authority,
        config.fleet,
    )
    if isinstance(registry, RemoteRegistry):
        fleet.registry_address = config.upstream.registry_device_address
    return fleet


def _optimizer(config: Config, folder: Path, registry: Registry | RemoteRegistry, clock: Clock) -> Optimizer:
    def publish(job: Job, digest: str) -> str:
        assert job.spec.publish is not None  # the engine asks for jobs that name a version
        bundle, version = job.spec.publish
        if isinstance(registry, Registry):
            return registry.publish(bundle, version, digest, job.submitter)
        made_by = f"jobs/{job.id}" + (f" of {job.submitter}" if job.submitter else "")
        return registry.publish(bundle, version, digest, request_id=job.id, description=made_by)

    jobs = make_folder(folder / "jobs")
    optimizer = Optimizer(
        config.optimizer,
        jobs,
        database_url(config.state.database, folder, "jobs.db"),
        registry.blobs if isinstance(registry, Registry) else registry,
        publish=publish,
        clock=clock,
        lease_s=registry.lease_s if isinstance(registry, RemoteRegistry) else None,
    )
    if isinstance(registry, Registry):
        registry.referrers.append(optimizer.store.refers_to)
    return optimizer
