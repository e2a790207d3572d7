"""Facts as text, marks, bars and colours."""
