-- The events whose subscriptions are still opening. Any worker opens them, whichever code it has.
SELECT DISTINCT event FROM mainstay.subscription WHERE state = 'opening' ORDER BY event
