"""What stands between strangers and the models: limits, files, requests, login."""
