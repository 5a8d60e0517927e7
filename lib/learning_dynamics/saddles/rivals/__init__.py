"""Other ways past a plateau, one method a file."""
