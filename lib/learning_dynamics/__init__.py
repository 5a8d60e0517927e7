"""How neural networks learn: from saddle to saddle, and at every scale.

Two wings, `saddles` and `scales`, stand on one ground floor and never import each other:

    >>> from learning_dynamics import saddles, scales
"""

from learning_dynamics.data.digits import digits_pair
from learning_dynamics.problems import Moments, Problem, linear_teacher
from learning_dynamics.runtime import generator

__all__ = ["Moments", "Problem", "digits_pair", "generator", "linear_teacher"]
__version__ = "0.1.0"
