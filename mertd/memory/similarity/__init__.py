"""Similar moments: centred and calibrated similarity, an index beside each closed segment, exact refinement around its hits."""
