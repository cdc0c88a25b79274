"""Diagrams: Mermaid text, one module a kind; they show what the system behind the blueprint is, and nothing more."""
