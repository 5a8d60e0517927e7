"""What other optimisers and larger steps make of the laws of alignment and of drop times."""
