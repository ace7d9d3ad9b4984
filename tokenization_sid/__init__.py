"""From catalogue text to Semantic IDs: embeddings, keywords, quantizers, codes and the tokenizer."""
