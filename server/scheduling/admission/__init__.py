"""Which tiles may join the queue: the predicted wait, its bound, and when to come back."""
