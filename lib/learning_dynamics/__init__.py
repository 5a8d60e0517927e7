"""How neural networks learn: from saddle to saddle, and at every scale.

Two wings, `saddles` and `scales`, stand on one ground floor (`activations`,
`losses`, `problems`, `runtime`) and never import each other.
"""

__version__ = "0.1.0"
