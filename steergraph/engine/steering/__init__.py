"""Interventions on activations, and the receipts for them."""
