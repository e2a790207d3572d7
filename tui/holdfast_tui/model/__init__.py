"""What the screens show, as plain values; no terminal, no input and output."""
