"""What a reward model sees of a request and a candidate: facets of items, behaviour so far, and the features made of both."""
