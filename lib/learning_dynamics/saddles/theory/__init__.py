"""What theory predicts about plateaus and drops, before any run."""
