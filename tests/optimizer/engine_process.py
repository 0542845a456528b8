"""A process that runs an engine on a folder until it is killed: ``python engine_process.py FOLDER SLOTS``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from gossamer_services.optimizer.blobs import FolderBlobs
from gossamer_services.optimizer.engine import Engine, Settings
from gossamer_services.optimizer.store import JobStore, Retry

if __name__ == "__main__":
    folder, slots = Path(sys.argv[1]), int(sys.argv[2])
    store = JobStore(f"sqlite:///{folder / 'jobs.db'}", retry=Retry(interruptions=10_000, delay_s=0.01))
    settings = Settings(slots=slots, lease_s=60.0, poll_s=0.05)
    with Engine(store, FolderBlobs(folder / "blobs"), folder / "jobs", settings=settings):
        print("ready", flush=True)
        while True:
            time.sleep(3600)
