"""Which tiles run next, on which device, and when."""
