"""From saddle to saddle: the path of figure 1, and how closely plateaus rest on saddles."""
