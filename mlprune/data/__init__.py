"""Data: corpora and the demonstrations built from them."""
