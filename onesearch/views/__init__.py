"""What a prompt holds of a request: the same for training and for serving."""
