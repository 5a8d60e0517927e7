"""What the page on one's own networks measures: planted faults, transfer, optimizers."""
