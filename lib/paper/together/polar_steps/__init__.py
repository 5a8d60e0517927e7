"""Polar steps, those of Muon: no plateau, which factor, beside Adam and SGD, and in what order."""
