"""Training of detectors: options, recipes, data, the job that the training loop runs, and what it leaves behind."""
