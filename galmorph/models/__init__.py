"""Models: networks, their cards, weights, and how probabilities are predicted and calibrated."""
