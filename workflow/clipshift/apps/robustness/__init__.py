"""`clipshift robustness`: effective robustness of the user's own models."""
