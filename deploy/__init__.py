"""Export, runtimes, server."""
