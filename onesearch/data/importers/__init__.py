"""Published data sets and files of one's own, read into market tables; one file per source."""
