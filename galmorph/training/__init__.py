"""Training and scoring: samples, configuration, the training loop, evaluation."""
