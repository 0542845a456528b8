"""A device behind ssh: the system's ``ssh`` forwards a private socket to the agent's port on the device's loopback.

The agent then needs neither TLS nor an open port.
"""

from __future__ import annotations

from gossamer.device._ssh_login import Login
from gossamer.device.book import Place
from gossamer.device.remote import Remote

AGENT = "127.0.0.1:50061"
"""Where an agent listens when it is not told otherwise."""


class Ssh(Remote):
    """The agent of the device that ``ssh place.ssh`` reaches.

    Raises:
        UnreachableError, AccessError: see ``Login``.
        InputError, UnsupportedError: see ``Remote``.
    """

    def __init__(self, place: Place) -> None:
        self._login = Login(place, place.address or AGENT)
        try:
            super().__init__(place, target=f"unix:{self._login.socket}")
        except BaseException:
            self._login.close()
            raise

    def close(self) -> None:
        """Close the connection, then the forwarding."""
        super().close()
        self._login.close()
