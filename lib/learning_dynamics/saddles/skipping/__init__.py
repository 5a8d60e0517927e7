"""The algorithm that goes from saddle to saddle without the plateaus."""
