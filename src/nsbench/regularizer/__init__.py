"""The regulariser of Definition 6.1, for any training loop: torch alone."""
