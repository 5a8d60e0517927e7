"""Evidence for the kernels, and the recorded benchmarks."""
