"""The server: model repositories, Triton's launcher, the app that stands in for it, what both run. No torch."""
