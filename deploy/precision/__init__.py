"""Number formats of exported files: where they are cast, calibrated, chosen and judged."""
