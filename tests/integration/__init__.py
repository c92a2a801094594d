"""Tests against real servers; they skip where those are not installed, and say how to install them."""
