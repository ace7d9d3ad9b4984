"""Work over rows, shared by threads and processes, with the same result on any number of either."""
