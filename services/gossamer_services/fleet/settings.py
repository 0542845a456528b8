"""Settings of the fleet."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gossamer_services.common.settings import Section


class FleetSettings(Section):
    """How devices enrol, and how often they are heard of."""

    heartbeat_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 60.0
    """Seconds between heartbeats that devices are told to keep."""
    held_heartbeat_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """The same while somebody holds the device."""
    certificate_days: Annotated[int, Field(ge=1, le=3650)] = 825
    """Days that a device's certificate is good for."""
    keep_runs_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 30 * 86400.0
    """Seconds for which profile runs are kept, and the request ids of all that was created: a later repeat is a new
    request; 0: for ever."""
    keep_profiles_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Seconds for which profile records are kept; 0: for ever."""
    rollout_check_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 5.0
    """Seconds between looks at rollouts whose stage waits for its time."""
