"""Reports: one HTML file of a classified catalog, a training run or an evaluation."""
