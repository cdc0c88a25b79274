"""What both editions of the shop share: tables, migrations, the shapes of requests and replies, settings."""
