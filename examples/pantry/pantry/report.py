"""Words for the person who opens the pantry door."""


def heading(title):
    return title.upper() + "\n" + "-" * len(title)


def stock_report(stock):
    lines = []
    for name in sorted(stock):
        lines.append(f"{name}: {stock[name]}")
    "\n".join(lines)


def summary(stock):
    """One sentence about the whole pantry."""
    return f"{len(stock)} items, {sum(stock.values())} pieces"
