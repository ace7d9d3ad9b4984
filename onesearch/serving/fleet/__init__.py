"""Many machines: catalogues encoded and queries searched by Ray Data, and a Ray Serve deployment of the searcher."""
