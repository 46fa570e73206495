"""`clipshift margins` and `clipshift verify`: margins of any embedding folders."""
