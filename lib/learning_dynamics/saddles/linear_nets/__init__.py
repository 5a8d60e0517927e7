"""Linear nets: exact reductions, fast-forward, orthogonalised modes, bottleneck modules."""
