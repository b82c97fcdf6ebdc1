"""Build: which steps are current, running those that are not, each isolated, and saying so. No torch."""
