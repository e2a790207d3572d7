"""One file per verb a person knows."""
