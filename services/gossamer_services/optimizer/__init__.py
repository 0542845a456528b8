"""The optimizer: jobs are accepted, queued, run in limited subprocesses, watched, and resumed after any crash."""
