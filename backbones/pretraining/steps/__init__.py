"""One step of pretraining, three ways: eager, as a CUDA graph, and on pictures that stream from files."""
