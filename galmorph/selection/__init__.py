"""Selection: the rows of a classified catalog that fulfil a condition, such as ``spiral >= 0.5 and edge_on < 0.3``."""
