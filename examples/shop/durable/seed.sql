-- Customers and products; all orders are placed through the service.
INSERT INTO customers (email, name) VALUES
  ('ada@example.org', 'Ada'), ('grace@example.org', 'Grace'), ('edsger@example.org', 'Edsger');

INSERT INTO products (sku, name, price_cents, stock) VALUES
  ('KET-1', 'Kettle', 3900, 1200), ('POT-1', 'Teapot', 5200, 40), ('CUP-6', 'Six cups', 4800, 700), ('TEA-A', 'Assam', 450, 8000);
