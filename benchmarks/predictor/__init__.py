"""Predicted memory against measured memory, configuration by configuration: `python -m benchmarks.predictor`."""
