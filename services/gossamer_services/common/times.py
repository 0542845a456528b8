"""Times in messages, from and to seconds."""

from __future__ import annotations

import datetime

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

LATEST_S = datetime.datetime(9999, 1, 1, tzinfo=datetime.UTC).timestamp()
"""No clock says as much; Unix seconds."""
LONGEST_S = 315_576_000_000.0
"""The longest duration that clients can read, 10,000 years."""


def seconds_of(time: Duration | Timestamp) -> float:
    """A duration, or a time since 1970, in seconds, whatever a client wrote there."""
    return float(time.seconds) + float(time.nanos) / 1e9


def timestamp(seconds: float) -> Timestamp:
    """A timestamp of Unix seconds, in whole milliseconds."""
    stamp = Timestamp()
    stamp.FromMilliseconds(round(seconds * 1000))
    return stamp
