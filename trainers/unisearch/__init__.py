"""Joint training of UniSearch: item encoder, quantizer and search generator."""
