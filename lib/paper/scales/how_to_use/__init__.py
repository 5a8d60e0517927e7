"""What the page on one's own networks measures: transfer of rates, by optimizer."""
