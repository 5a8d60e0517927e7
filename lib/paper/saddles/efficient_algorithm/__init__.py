"""The efficient algorithm measured, and compared with other methods."""
