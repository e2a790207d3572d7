"""What tests share: vectors, scratch stores, drivers of real programs."""
