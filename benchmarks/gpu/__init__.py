"""What training costs on one GPU, measured by itself on one offline machine: `python -m benchmarks.gpu --help`."""
