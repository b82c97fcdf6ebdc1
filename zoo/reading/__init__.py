"""Read recipes and configs: every fault of every file at once, before anything is built. No torch."""
