"""Resources of R4: structure, formats, references, compartments. Knows nothing of searches or stores."""
