-- Which installation this is.
SELECT id::text FROM mainstay.installation
