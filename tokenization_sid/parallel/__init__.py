"""Work over rows, shared by threads and processes; the result does not depend on the number of either."""
