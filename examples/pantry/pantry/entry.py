"""Lines that people type, such as "flour, 2, kg"."""


def parse_entry(line):
    """A typed line as name, amount and unit."""
    parts = [part.strip() for part in line.split(",")]
    if len(parts) != 3:
        raise ValueError(f"not name, amount and unit: {line}")
    name, amount, unit = parts
    return name, float(amount), unit


def format_entry(name, amount, unit):
    return f"{name}, {amount:g}, {unit}"
