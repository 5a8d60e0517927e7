"""Other methods for the same problems, under the same count of evaluations."""
