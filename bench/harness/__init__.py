"""What every benchmark shares: CPU of process trees, load windows, the machine, reports."""
