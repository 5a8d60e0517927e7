"""Inner loops of gradient descent written for one kind of machine."""
