-- Five orders of three customers, in each state that a shop sees on a quiet morning.
INSERT INTO customers (email, name) VALUES
  ('ada@example.org', 'Ada'), ('grace@example.org', 'Grace'), ('edsger@example.org', 'Edsger');

INSERT INTO products (sku, name, price_cents, stock) VALUES
  ('KET-1', 'Kettle', 3900, 12), ('POT-1', 'Teapot', 5200, 1), ('CUP-6', 'Six cups', 4800, 7), ('TEA-A', 'Assam', 450, 80);

INSERT INTO orders (customer_id, status, total_cents) VALUES
  (1, 'placed', 4350), (2, 'paid', 5200), (1, 'shipped', 9600), (3, 'placed', 900), (2, 'cancelled', 3900);

INSERT INTO lines (order_id, product_id, quantity, price_cents) VALUES
  (1, 1, 1, 3900), (1, 4, 1, 450), (2, 2, 1, 5200), (3, 3, 2, 4800), (4, 4, 2, 450), (5, 1, 1, 3900);

INSERT INTO payments (order_id, amount_cents, charge_id) VALUES (2, 5200, 'ch_2'), (3, 9600, 'ch_3');

INSERT INTO shipments (order_id, tracking_number) VALUES (3, 'PX-3');
