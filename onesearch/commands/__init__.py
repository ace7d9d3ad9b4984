"""The `onesearch` command line: one file per group of commands."""
