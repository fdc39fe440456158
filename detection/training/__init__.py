"""Training of detectors and segmenters: options, recipes, tasks, the job that the training loop runs, and the run."""
