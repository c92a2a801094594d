"""Monte Carlo beside the theory: an experiment a module, each with `simulate`."""
