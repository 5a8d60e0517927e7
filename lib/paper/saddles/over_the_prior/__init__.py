"""The laws of Part I over random problems: sizes, spectra, samples, noise and steps drawn."""
