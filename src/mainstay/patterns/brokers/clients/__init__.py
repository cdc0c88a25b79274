"""The brokers by the scheme of their address: a module of that name with a class `Implementation`."""
