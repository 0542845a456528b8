"""The registry: blobs by SHA-256, versions of bundles, channels."""
