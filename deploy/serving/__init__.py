"""The server: model repositories, Triton's launcher, the small app that stands in for it, and what both run. No torch."""
