"""The command line: arguments to a request, one operation, outcome to text."""
