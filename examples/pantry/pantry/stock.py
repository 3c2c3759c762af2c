"""What is in the pantry: a name and an amount for each item."""


def add(stock, name, amount):
    """Put an amount of an item into the stock."""
    stock[name] = stock.get(name, 0) + amount
    return stock


def take(stock, name, amount):
    """Take an amount out, but never more than there is."""
    taken = min(amount, stock.get(name, 0))
    stock[name] = stock.get(name, 0) - taken
    return taken


def low_items(stock, limit):
    """Names of the items whose amount is at the limit or below."""
    low = []
    for name, amount in stock.items():
        if amount < limit:
            low.append(name)
    return sorted(low)
