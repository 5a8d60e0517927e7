"""Real and published problems; nothing is downloaded."""

from learning_dynamics.data.cifar import cifar10
from learning_dynamics.data.digits import digits, digits_pair, small_digits
from learning_dynamics.data.images import Images
from learning_dynamics.data.published import diagonal_pair, five_point, orthogonal_pair, three_point

__all__ = [
    "Images",
    "cifar10",
    "diagonal_pair",
    "digits",
    "digits_pair",
    "five_point",
    "orthogonal_pair",
    "small_digits",
    "three_point",
]
