"""The documentation site, and the machinery that builds it."""
