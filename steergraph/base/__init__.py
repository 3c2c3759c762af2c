"""Foundations that know no domain: errors for people, records, files and locks, cancellation, text, bounded caches."""
