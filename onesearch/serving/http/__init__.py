"""The HTTP server of a checkpoint and its search page: `onesearch serve`."""
