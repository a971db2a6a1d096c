"""Which features of a model are large where: magnitudes of hidden states and layer inputs, overlap, figures."""
