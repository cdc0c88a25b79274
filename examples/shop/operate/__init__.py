"""Running the durable shop as a whole, and auditing it under fire."""
