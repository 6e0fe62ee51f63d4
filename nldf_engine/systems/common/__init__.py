"""What systems share: conditions, drivers and torsos."""
