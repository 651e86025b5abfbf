"""Pages of clusters and of composition."""
