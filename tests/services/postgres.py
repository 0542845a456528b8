"""A real PostgreSQL, started for the tests of a module."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa


def empty(url: str) -> str:
    """The same URL, after every table there was dropped."""
    engine, found = sa.create_engine(url), sa.MetaData()
    found.reflect(engine)
    found.drop_all(engine)
    engine.dispose()
    return url


def find_program(name: str) -> str | None:
    """A program of the newest PostgreSQL: on the path, or where Debian has it."""
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(debian[-1]) if debian else None)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """URL of a database in a server of its own."""
    initdb, pg_ctl = find_program("initdb"), find_program("pg_ctl")
    if initdb is None or pg_ctl is None:
        pytest.skip("PostgreSQL is missing: apt-get install postgresql")
    # PostgreSQL refuses to run as root, and the user that Debian makes for it cannot enter pytest's folders.
    # It is changed by a program, for subprocess would fork to do it, which gRPC's threads do not always survive.
    user = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups") if os.geteuid() == 0 else ()
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    if user:
        shutil.chown(folder, "postgres", "postgres")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def run(*command: str) -> None:
        ran = subprocess.run(
            (*user, *command), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=folder, timeout=60
        )
        assert ran.returncode == 0, ran.stderr

    try:
        run(initdb, "-D", f"{folder}/db", "-U", "gossamer", "-A", "trust", "--no-sync")
        settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
        run(pg_ctl, "-D", f"{folder}/db", "-l", f"{folder}/log", "-w", "-o", settings, "start")
        try:
            yield f"postgresql+psycopg://gossamer@127.0.0.1:{port}/postgres"
        finally:
            run(pg_ctl, "-D", f"{folder}/db", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
