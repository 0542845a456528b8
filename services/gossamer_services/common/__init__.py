"""What every service shares: settings, errors, authentication, the guarded gRPC server, logs, metrics, the database."""
