"""Deep nets: schedules of descent, and scalar weights counted step by step."""
