"""Releases: published, immutable versions of models; writing them, checking them, loading them."""
