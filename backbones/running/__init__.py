"""What every run shares, whoever trains: command line, run folder, checkpoints, processes, progress."""
