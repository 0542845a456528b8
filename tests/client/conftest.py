"""Fixtures of the tests of client and fleet commands: the command line, signed bundles, and a fleet that is served."""

from __future__ import annotations

import pytest

from tests.agent.conftest import bundles, other_key
from tests.client.fleet import FleetServer
from tests.shellkit import _made, cli, home, work

__all__ = ["_made", "bundles", "cli", "client", "fleet", "home", "other_key", "server_of_the_fleet", "work"]


@pytest.fixture(scope="module")
def server_of_the_fleet(tmp_path_factory):
    with FleetServer(tmp_path_factory.mktemp("fleet")) as running:
        yield running


@pytest.fixture
def fleet(server_of_the_fleet, work):
    """A server of registry and fleet; devices that a test enrols are gone after it."""
    yield server_of_the_fleet
    server_of_the_fleet.clear()


@pytest.fixture
def client(fleet):
    """A client of that server, with an administrator's token."""
    with fleet.client() as found:
        yield found
